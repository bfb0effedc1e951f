package authserver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/dump"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

// readOnly replaces the server by a read-only one, as a reload does.
func (s *testServer) readOnly(t *testing.T) {
	t.Helper()
	config := s.config
	config.Store, config.ReadOnly = s.Server.store.Unwrap(), true
	s.restart(t, config)
}

// putOff checks that a request was refused for now.
func putOff(t *testing.T, what string, a answer) {
	t.Helper()
	after := a.Header().Get("Retry-After")
	if seconds, err := strconv.Atoi(after); a.Code != http.StatusServiceUnavailable || a.page == nil && (err != nil || seconds < 1) {
		t.Errorf("%s: %d, Retry-After %q: %s", what, a.Code, after, a.Body)
	}
}

// dump returns all records of an export.
func (s *testServer) dump(t *testing.T) (records []string) {
	t.Helper()
	for record, err := range s.Owner().exported(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, string(record.Key.Kind)+" "+record.Key.ID+" "+string(record.Value))
	}
	slices.Sort(records)
	return records
}

// exports is an edit that makes the store an Exporter.
func exports(c *Config) {
	store := c.Store.(*testclock.Store)
	c.Store = struct {
		*testclock.Store
		storage.Exporter
	}{store, store.Store.(storage.Exporter)}
}

func TestReadOnly(t *testing.T) {
	s := newTestServer(t, exports, revokesUsers())
	code, held := s.code(t, asks("webapp")), s.tokens(t)
	refreshToken := held["refresh_token"].(string)
	used := s.tokens(t)["refresh_token"].(string)
	next := s.refresh(t, used)
	page := s.get(t, asks("spa"))
	s.readOnly(t)
	before := s.dump(t)

	putOff(t, "a code", s.token(t, redeems(code)))
	putOff(t, "a refresh", s.token(t, refreshes(refreshToken)))
	s.decide(t, page, "allow").check(t, http.StatusSeeOther, "temporarily_unavailable")
	putOff(t, "a revocation", s.do(t, s.asks("/oauth/revoke", url.Values{"token": {refreshToken}})))
	putOff(t, "a revocation of a user", s.revokeUser(t, "billing", `{"sub_id": {"format": "opaque", "id": "alice"}}`))
	if again := s.refresh(t, used); again != next {
		t.Error("a retry did not get the lost answer")
	}
	s.refused(t, "no token at all")
	s.token(t, url.Values{"grant_type": {"client_credentials"}, "client_id": {"billing"}, "client_secret": {webSecret}}).
		check(t, http.StatusOK, "")
	if got := s.introspection(t, "webapp", held["access_token"]); got["active"] != true {
		t.Errorf("introspection: %v", got)
	}
	if a := s.do(t, httptest.NewRequest(http.MethodGet, "/oauth/jwks", nil)); a.Code != http.StatusOK {
		t.Errorf("the JWKS: %d %s", a.Code, a.Body)
	}
	if a := s.do(t, httptest.NewRequest(http.MethodGet, "/oauth/apps", nil)); a.Code != http.StatusOK {
		t.Errorf("the page of apps: %d %s", a.Code, a.Body)
	}
	if err := s.revoker.Revoke(t.Context(), "alice", "", "by the owner", ""); !errors.Is(err, storage.ErrReadOnly) {
		t.Errorf("a revocation by the owner: %v", err)
	}
	if _, err := s.Owner().RotateKey(t.Context(), true); !errors.Is(err, storage.ErrReadOnly) {
		t.Errorf("a rotation by the owner: %v", err)
	}
	if after := s.dump(t); !slices.Equal(before, after) {
		t.Errorf("the store was written to:\n%q\n%q", before, after)
	}

	config := s.config
	config.Store, config.ReadOnly = s.Server.store.Unwrap(), false
	s.restart(t, config)
	s.token(t, redeems(code)).check(t, http.StatusOK, "")
	s.refresh(t, refreshToken)
	var logged int
	for _, entry := range s.logs.All() {
		if entry.Message == readOnlyMessage && entry.Level == zap.InfoLevel {
			logged++
		}
		if entry.Level >= zap.WarnLevel {
			t.Errorf("the log has the %s %q %v", entry.Level, entry.Message, entry.ContextMap())
		}
	}
	if logged != 1 {
		t.Errorf("the log has %d messages that the issuer is read-only, want one", logged)
	}
}

// Background tasks of a read-only issuer do not write and log no errors. A key that is due for rotation goes on signing.
func TestReadOnlyInTheBackground(t *testing.T) {
	s := newTestServer(t, exports, func(c *Config) { c.Keys.Rotate = 24 * time.Hour })
	token := s.tokens(t)["access_token"]
	s.readOnly(t)
	before := s.dump(t)
	for range 5 {
		s.clock.Advance(24 * time.Hour)
		s.upkeep.attempt(t.Context(), rotatingKeys, s.keys.Maintain)
		s.upkeep.attempt(t.Context(), polling, s.upkeep.poll)
		s.upkeep.attempt(t.Context(), "sweeping", s.Server.store.Sweep)
		s.token(t, url.Values{"grant_type": {"client_credentials"}, "client_id": {"billing"}, "client_secret": {webSecret}}).
			check(t, http.StatusOK, "")
	}
	s.state(t, token, jwt.ErrExpired)
	if err := s.lastUses.write(t.Context(), ""); err != nil {
		t.Error(err)
	}
	if after := s.dump(t); !slices.Equal(before, after) {
		t.Errorf("the store was written to:\n%q\n%q", before, after)
	}
	for _, entry := range s.logs.All() {
		if entry.Level >= zap.WarnLevel {
			t.Errorf("the log has the %s %q %v", entry.Level, entry.Message, entry.ContextMap())
		}
	}
}

// A read-only issuer cannot make its first key.
func TestReadOnlyWithoutKeys(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.ReadOnly = true })
	putOff(t, "a token", s.token(t, url.Values{
		"grant_type": {"client_credentials"}, "client_id": {"billing"}, "client_secret": {webSecret},
	}))
	if n := s.store.Count(t, storage.KindKeys); n != 0 {
		t.Errorf("%d records of keys were written", n)
	}
}

// A replay that a read-only issuer answers with 503 revokes the family when the client retries later.
func TestReadOnlyReplay(t *testing.T) {
	s := newTestServer(t)
	first := s.tokens(t)["refresh_token"].(string)
	third := s.refresh(t, s.refresh(t, first))
	before := s.config
	s.readOnly(t)
	putOff(t, "a replay", s.token(t, refreshes(first)))
	if n := len(s.revoker.dequeue()); n > 0 {
		t.Errorf("%d revocations are queued on a read-only node", n)
	}
	before.Store = s.Server.store.Unwrap()
	s.restart(t, before)
	s.refused(t, first)
	s.refused(t, third)
}

// slowStore stops in the middle of a Put until the test lets it go on.
type slowStore struct {
	storage.Store
	writing, goOn chan struct{}
}

func (s *slowStore) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	if key.Kind == storage.KindFamily {
		s.writing <- struct{}{}
		<-s.goOn
	}
	return s.Store.Put(ctx, key, value, expires)
}

// replaced starts a request that writes, then replaces the server by a read-only one. It returns the answer of the request.
func (s *testServer) replaced(t *testing.T, slow *slowStore) <-chan answer {
	t.Helper()
	coded, old := make(chan answer, 1), *s
	go func() { coded <- old.get(t, asks("webapp")) }()
	<-slow.writing
	s.readOnly(t)
	old.Close()
	return coded
}

func newSlowServer(t *testing.T, over func(storage.Store) storage.Store) (*testServer, *slowStore) {
	t.Helper()
	slow := &slowStore{writing: make(chan struct{}, 1), goOn: make(chan struct{})}
	s := newTestServer(t, func(c *Config) {
		slow.Store = c.Store
		c.Store = over(slow)
		c.Clients["webapp"].Consent = storage.ConsentNever
		c.Servers = newRunningServers()
	})
	return s, slow
}

// Before an export, the requests of the older configuration may end.
func TestOlderRequestsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, slow := newSlowServer(t, func(store storage.Store) storage.Store { return store })
		old := s.Server
		coded := s.replaced(t, slow)
		ended := make(chan error, 1)
		go func() { ended <- s.Owner().EndOlderWrites(t.Context()) }()
		time.Sleep(requestsLimit / 2)
		select {
		case err := <-ended:
			t.Fatalf("it did not wait for a write: %v", err)
		default:
		}
		close(slow.goOn)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if a := <-coded; a.location().Get("code") == "" {
			t.Errorf("the request that was writing: %d %s", a.Code, a.Body)
		}
		if n := s.store.Count(t, storage.KindFamily); n != 1 {
			t.Errorf("%d families, want 1", n)
		}
		time.Sleep(idleInterval)
		synctest.Wait()
		if older, _ := s.config.Servers.before(s.running); len(older) > 0 {
			t.Error("the older server is still known")
		}
		if err := old.revoker.RevokeFamily(t.Context(), "zzzz.1", "test", ""); !errors.Is(err, storage.ErrReadOnly) {
			t.Errorf("the older server writes: %v", err)
		}
	})
}

// A slow request of the older configuration must not write any more.
func TestOlderRequestsThatTakeLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, func(c *Config) { c.Servers = newRunningServers() })
		form := refreshes(s.tokens(t)["refresh_token"].(string), "client_id", "webapp", "client_secret", webSecret).Encode()
		body, sends := io.Pipe()
		r := postRequest("/oauth/token", "")
		r.Body, r.ContentLength = body, int64(len(form))
		answered, old := make(chan answer, 1), *s
		go func() { answered <- old.do(t, r) }()
		_, _ = io.WriteString(sends, form[:10])
		s.readOnly(t)
		old.Close()
		began := time.Now()
		if err := s.Owner().EndOlderWrites(t.Context()); err != nil || time.Since(began) != requestsLimit {
			t.Fatalf("after %s: %v", time.Since(began), err)
		}
		_, _ = io.WriteString(sends, form[10:])
		_ = sends.Close()
		putOff(t, "the older request", <-answered)
		time.Sleep(idleInterval) // until the server is forgotten
	})
}

// A request can come to the older configuration late: it had to wait at another handler of the site.
func TestOlderRequestsThatComeLate(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.Servers = newRunningServers() })
	refreshToken := s.tokens(t)["refresh_token"].(string)
	old := *s
	old.Close()
	refreshToken = s.refresh(t, refreshToken) // nobody has said so far that it may not write
	s.readOnly(t)
	if err := s.Owner().EndOlderWrites(t.Context()); err != nil {
		t.Fatal(err)
	}
	putOff(t, "a refresh of before", old.token(t, refreshes(refreshToken)))
	if err := old.revoker.RevokeFamily(t.Context(), "zzzz.1", "test", ""); !errors.Is(err, storage.ErrReadOnly) {
		t.Errorf("the older server writes: %v", err)
	}
}

// An owner may ask an older configuration, such as one that is being replaced, which must not keep the newer one from writing.
func TestNewerServersMayWrite(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.Servers = newRunningServers() })
	old := *s
	s.restart(t, s.config)
	old.Close()
	if err := old.Owner().EndOlderWrites(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.tokens(t)
}

// What has ended is forgotten when nothing can reach it.
func TestOlderServersAreForgotten(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.Servers = newRunningServers() })
	for range 10 {
		old := s.Server
		s.restart(t, s.config)
		old.Close()
	}
	deadline := time.Now().Add(time.Minute)
	for {
		runtime.GC()
		if _, ended := s.config.Servers.before(s.running); len(ended) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("servers that nobody uses are still in memory")
		}
		time.Sleep(time.Millisecond)
	}
	s.restart(t, s.config)
	s.Close()
	if n := len(s.config.Servers.ended); n != 1 {
		t.Errorf("%d servers are remembered, want the last one", n)
	}
}

// hangingStore ignores the contexts of its operations.
type hangingStore struct{ *slowStore }

func (s hangingStore) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	return s.slowStore.Put(context.WithoutCancel(ctx), key, value, expires)
}

func (hangingStore) Timeout() time.Duration { return 20 * time.Millisecond }

// A write that hangs in the store still counts, even after its request was answered.
func TestOlderWritesThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, slow := newSlowServer(t, func(store storage.Store) storage.Store { return hangingStore{store.(*slowStore)} })
		coded := s.replaced(t, slow)
		(<-coded).check(t, http.StatusSeeOther, "temporarily_unavailable")
		began := time.Now()
		if err := s.Owner().EndOlderWrites(t.Context()); !errors.Is(err, ErrStillWriting) {
			t.Fatalf("while a write hangs: %v", err)
		}
		if waited := time.Since(began); waited != requestsLimit+writesLimit {
			t.Errorf("waited %s", waited)
		}
		close(slow.goOn)
		if err := s.Owner().EndOlderWrites(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := s.store.Count(t, storage.KindFamily); n != 1 {
			t.Errorf("%d families, want 1", n)
		}
	})
}

func TestReencryptWhileServing(t *testing.T) {
	keys := func(texts ...string) *storage.EncryptionKeys {
		k, err := storage.NewEncryptionKeys(texts, false)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	const first, second = "the first key, which is as long as it must be", "the second key, which is as long as it must be"
	var config Config
	s := newTestServer(t, exports, func(c *Config) { config = *c })
	plain := config.Store
	token := s.tokens(t)["refresh_token"].(string)
	for _, step := range []*storage.EncryptionKeys{keys(first), keys(second, first), keys(second)} {
		config.Store = storage.Encrypted(plain, config.Name, step)
		s.restart(t, config)
		done, err := s.Owner().Reencrypt(t.Context())
		if err != nil || done.Unreadable > 0 {
			t.Fatalf("%+v %v", done, err)
		}
		again, err := s.Owner().Reencrypt(t.Context())
		if err != nil || again.Changed > 0 || again.Records != done.Records {
			t.Errorf("again: %+v, after %+v: %v", again, done, err)
		}
		token = s.refresh(t, token)
	}
	s.readOnly(t)
	if _, err := s.Owner().Reencrypt(t.Context()); !errors.Is(err, storage.ErrReadOnly) {
		t.Errorf("while read-only: %v", err)
	}
	config.Store = storage.Encrypted(plain, config.Name, keys(first))
	s.restart(t, config)
	putOff(t, "without the key", s.token(t, refreshes(token)))
}

// An import knows which of two records of signing keys is newer.
func TestDumpKnowsNewerKeys(t *testing.T) {
	s := newTestServer(t)
	signingKeys := storage.Key{Kind: storage.KindKeys, ID: "signing"}
	read := func() []byte {
		record, err := s.store.Get(t.Context(), signingKeys)
		if err != nil {
			t.Fatal(err)
		}
		return record
	}
	s.tokens(t)
	before := read()
	s.clock.Advance(time.Hour)
	if _, err := s.Owner().RotateKey(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	after := read()
	for name, value := range map[string][]byte{"over the same": after, "over older keys": before} {
		store := memory.New()
		if err := store.Put(t.Context(), signingKeys, value, time.Time{}); err != nil {
			t.Fatal(err)
		}
		for _, imported := range [][]byte{after, before} {
			records := func(yield func(storage.Record, error) bool) {
				yield(storage.Record{Key: signingKeys, Value: imported}, nil)
			}
			if _, err := dump.Import(t.Context(), store, records, false); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := store.Get(t.Context(), signingKeys); err != nil || !bytes.Equal(got, after) {
			t.Errorf("newer and then older keys %s: the older ones are in the store, error %v", name, err)
		}
	}
}
