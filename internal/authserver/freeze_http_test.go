package authserver

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/dump"
)

func yes() bool { return true }

func (s *testServer) freeze(t *testing.T) {
	t.Helper()
	if _, err := s.Freeze(t.Context(), time.Minute, yes); err != nil {
		t.Fatal(err)
	}
}

// putOff checks that a request is to be made again later.
func putOff(t *testing.T, what string, a answer) {
	t.Helper()
	after := a.Header().Get("Retry-After")
	if seconds, err := strconv.Atoi(after); a.Code != http.StatusServiceUnavailable || a.page == nil && (err != nil || seconds < 1) {
		t.Errorf("%s: %d, Retry-After %q: %s", what, a.Code, after, a.Body)
	}
}

// dump returns all that an export has.
func (s *testServer) dump(t *testing.T) (records []string) {
	t.Helper()
	for record, err := range s.exported(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, string(record.Key.Kind)+" "+record.Key.ID+" "+string(record.Value))
	}
	slices.Sort(records)
	return records
}

// tells is an edit by which the store tells all it holds.
func tells(c *Config) {
	store := c.Store.(*testStore)
	c.Store = struct {
		*testStore
		storage.Exporter
	}{store, store.Store.(storage.Exporter)}
}

func TestFrozen(t *testing.T) {
	s := newTestServer(t, tells)
	code, held := s.code(t, asks("webapp")), s.tokens(t)
	refreshToken := held["refresh_token"].(string)
	spent := s.tokens(t)["refresh_token"].(string)
	next := s.refresh(t, spent)
	page := s.get(t, asks("spa"))
	s.freeze(t)
	before := s.dump(t)

	putOff(t, "a code", s.token(t, redeems(code)))
	putOff(t, "a refresh", s.token(t, refreshes(refreshToken)))
	s.decide(t, page, "allow").check(t, http.StatusSeeOther, "temporarily_unavailable")
	putOff(t, "a revocation", s.do(t, s.asks("/oauth/revoke", url.Values{"token": {refreshToken}})))
	if again := s.refresh(t, spent); again != next {
		t.Error("a lost answer is not given again")
	}
	s.refused(t, "no token at all")
	s.token(t, url.Values{"grant_type": {"client_credentials"}, "client_id": {"billing"}, "client_secret": {webSecret}}).
		check(t, http.StatusOK, "")
	if got := s.introspection(t, "webapp", held["access_token"]); got["active"] != true {
		t.Errorf("introspection: %v", got)
	}
	if err := s.Revoke(t.Context(), "alice", "", "by the owner"); !errors.Is(err, ErrFrozen) {
		t.Errorf("a revocation by the owner: %v", err)
	}
	if after := s.dump(t); !slices.Equal(before, after) {
		t.Errorf("the store was written to:\n%q\n%q", before, after)
	}

	if !s.Thaw() || s.Thaw() {
		t.Error("it is thawed once")
	}
	s.token(t, redeems(code)).check(t, http.StatusOK, "")
	s.refresh(t, refreshToken)
	for _, entry := range s.logs.All() {
		if entry.Level.String() == "error" {
			t.Errorf("the log has the error %q %v", entry.Message, entry.ContextMap())
		}
	}
}

// A used token that comes back while writes are held up ends its family afterwards.
func TestFrozenReplay(t *testing.T) {
	s := newTestServer(t)
	first := s.tokens(t)["refresh_token"].(string)
	third := s.refresh(t, s.refresh(t, first))
	s.freeze(t)
	putOff(t, "a replay", s.token(t, refreshes(first)))
	s.Thaw()
	s.refused(t, first)
	s.refused(t, third)
}

// slowStore lets a test stand in the middle of a write.
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

func TestFreezeWaitsForWrites(t *testing.T) {
	slow := &slowStore{writing: make(chan struct{}), goOn: make(chan struct{})}
	s := newTestServer(t, func(c *Config) {
		slow.Store = c.Store
		c.Store = slow
		c.Clients["webapp"].Consent = storage.ConsentNever
	})
	coded, frozen := make(chan answer, 1), make(chan error, 1)
	go func() { coded <- s.get(t, asks("webapp")) }()
	<-slow.writing

	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Freeze(short, time.Minute, yes); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a freeze that could not wait: %v", err)
	}
	s.token(t, refreshes("no token at all")).check(t, http.StatusBadRequest, "invalid_grant")

	go func() {
		_, err := s.Freeze(t.Context(), time.Minute, yes)
		frozen <- err
	}()
	for s.freezer.enter() { // until it has begun
		s.freezer.leave()
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-frozen:
		t.Fatalf("a freeze did not wait for a write: %v", err)
	default:
	}
	close(slow.goOn)
	if err := <-frozen; err != nil {
		t.Fatal(err)
	}
	a := <-coded
	if a.location().Get("code") == "" {
		t.Errorf("the request that was writing: %d %s", a.Code, a.Body)
	}
	if n := s.store.count(t, storage.KindFamily); n != 1 {
		t.Errorf("%d families, want 1", n)
	}
}

// hangingStore is one that does not listen to contexts.
type hangingStore struct{ *slowStore }

func (s hangingStore) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	return s.slowStore.Put(context.WithoutCancel(ctx), key, value, expires)
}

func (hangingStore) Patience() time.Duration { return 20 * time.Millisecond }

// A write that nobody waits for any more is still under way.
func TestFreezeWaitsForWritesThatHang(t *testing.T) {
	slow := &slowStore{writing: make(chan struct{}, 1), goOn: make(chan struct{})}
	s := newTestServer(t, func(c *Config) {
		slow.Store = c.Store
		c.Store = hangingStore{slow}
		c.Clients["webapp"].Consent = storage.ConsentNever
	})
	s.get(t, asks("webapp")).check(t, http.StatusSeeOther, "temporarily_unavailable")
	<-slow.writing
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Freeze(short, time.Minute, yes); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a freeze while a write hangs: %v", err)
	}
	close(slow.goOn)
	s.freeze(t)
	if n := s.store.count(t, storage.KindFamily); n != 1 {
		t.Errorf("%d families, want 1", n)
	}
}

func TestResealWhileServing(t *testing.T) {
	keys := func(texts ...string) *storage.Keyring {
		k, err := storage.NewKeyring(texts, false)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	const first, second = "the first key, which is as long as it must be", "the second key, which is as long as it must be"
	var config Config
	s := newTestServer(t, tells, func(c *Config) { config = *c })
	plain := config.Store
	token := s.tokens(t)["refresh_token"].(string)
	for _, step := range []*storage.Keyring{keys(first), keys(second, first), keys(second)} {
		config.Store = storage.Encrypted(plain, config.Name, step)
		s.restart(t, config)
		done, err := s.Reseal(t.Context())
		if err != nil || done.Unreadable > 0 {
			t.Fatalf("%+v %v", done, err)
		}
		again, err := s.Reseal(t.Context())
		if err != nil || again.Changed > 0 || again.Records != done.Records {
			t.Errorf("again: %+v, after %+v: %v", again, done, err)
		}
		token = s.refresh(t, token)
	}
	s.freeze(t)
	if _, err := s.Reseal(t.Context()); !errors.Is(err, ErrFrozen) {
		t.Errorf("while frozen: %v", err)
	}
	config.Store = storage.Encrypted(plain, config.Name, keys(first))
	s.restart(t, config)
	putOff(t, "without the key", s.token(t, refreshes(token)))
}

// An import tells which of two records of signing keys is newer.
func TestDumpKnowsNewerKeys(t *testing.T) {
	s := newTestServer(t)
	read := func() []byte {
		record, err := s.store.Get(t.Context(), keysRecord)
		if err != nil {
			t.Fatal(err)
		}
		return record
	}
	s.tokens(t)
	before := read()
	s.clock.Advance(time.Hour)
	if _, err := s.RotateKey(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	after := read()
	if !dump.Keeps(after, storage.Record{Key: keysRecord, Value: before}, false) {
		t.Error("older keys take the place of newer ones")
	}
	if dump.Keeps(before, storage.Record{Key: keysRecord, Value: after}, false) {
		t.Error("newer keys do not take the place of older ones")
	}
}
