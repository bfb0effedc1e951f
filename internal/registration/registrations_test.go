package registration

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

const day = 24 * time.Hour

// store is a store with its clock.
type store struct {
	*testclock.Store
	clock *testclock.Clock
}

func newStore() *store {
	clock := testclock.New()
	return &store{testclock.NewStore(clock.Now), clock}
}

// node returns the registrations as another node has them, on the same store.
func (s *store) node(edits ...func(*Config)) *Registrations {
	config := Config{
		Issuer: "default", Store: s, Logger: zap.NewNop(), Now: s.clock.Now, Max: 1000, Unused: 90 * day,
		Supported: Supported{AuthMethods: []string{authNone, authSecretBasic, authSecretPost}, DefaultAuthMethod: authSecretBasic},
		Describe: func(id string, m *Metadata, secret string) (*storage.Client, error) {
			return &storage.Client{ID: id, Name: m.ClientName, RedirectURIs: m.RedirectURIs, Origin: storage.OriginRegistered}, nil
		},
	}
	for _, edit := range edits {
		edit(&config)
	}
	return New(config)
}

func metadata(t *testing.T, text string) *Metadata {
	t.Helper()
	m, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func admitted() error { return nil }

func register(t *testing.T, r *Registrations, text string) *Registered {
	t.Helper()
	registered, err := r.Register(t.Context(), metadata(t, text), nil, admitted)
	if err != nil {
		t.Fatal(err)
	}
	return registered
}

// public returns the metadata of a public client.
func public(redirectURI string) string {
	return fmt.Sprintf(`{"redirect_uris":[%q],"token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"]}`, redirectURI)
}

func isKnown(t *testing.T, r *Registrations, id string) bool {
	t.Helper()
	client, err := r.Find(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return client != nil
}

// R5
func TestSameMetadataHasTheSameID(t *testing.T) {
	s := newStore()
	r, other := s.node(), s.node()
	first := register(t, r, public("http://localhost:3118/callback"))
	if !first.New || len(first.ID) != 28 || !strings.HasPrefix(first.ID, "d.") || first.Secret != "" || first.Token != "" {
		t.Errorf("got %+v", first)
	}
	var wait sync.WaitGroup
	for n := range 100 {
		wait.Go(func() {
			again, err := []*Registrations{r, other}[n%2].Register(t.Context(), metadata(t, public(fmt.Sprintf("http://localhost:%d/callback", 4000+n))), nil, admitted)
			if err != nil || again.ID != first.ID || again.New || again.Metadata.RedirectURIs[0] != fmt.Sprintf("http://localhost:%d/callback", 4000+n) {
				t.Errorf("got %+v, %v", again, err)
			}
		})
	}
	wait.Wait()
	if n := s.Count(t, storage.KindDynamic); n != 1 {
		t.Errorf("%d records", n)
	}
	for _, text := range []string{
		public("http://localhost/other"), public("http://127.0.0.1/callback"), public("https://localhost/callback"),
		strings.Replace(public("http://localhost/callback"), "{", `{"client_name":"x",`, 1),
	} {
		if register(t, r, text).ID == first.ID {
			t.Errorf("%s has the same ID", text)
		}
	}
}

// Two nodes that register the first client of all at once agree on the key.
func TestNodesAgreeOnTheKey(t *testing.T) {
	s := newStore()
	var ids sync.Map
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			registered, err := s.node().Register(t.Context(), metadata(t, public("https://a.example/cb")), nil, admitted)
			if err != nil {
				t.Error(err)
				return
			}
			ids.Store(registered.ID, true)
		})
	}
	wait.Wait()
	n := 0
	ids.Range(func(any, any) bool { n++; return true })
	if n != 1 || s.Count(t, storage.KindDynamic) != 1 {
		t.Errorf("%d IDs, %d records", n, s.Count(t, storage.KindDynamic))
	}
}

func TestSecrets(t *testing.T) {
	s := newStore()
	r := s.node()
	first, second := register(t, r, `{"redirect_uris":["https://a.example/cb"]}`), register(t, r, `{"redirect_uris":["https://a.example/cb"]}`)
	if first.ID == second.ID || first.Secret == second.Secret || len(first.Secret) != 43 || len(first.Token) != 43 || first.Secret == first.Token {
		t.Errorf("got %+v and %+v", first, second)
	}
	record, err := s.Get(t.Context(), recordKey(first.ID))
	if err != nil || strings.Contains(string(record), first.Secret) || strings.Contains(string(record), first.Token) {
		t.Errorf("the record has a secret: %s, %v", record, err)
	}
	again, err := s.node().Manage(t.Context(), first.ID, first.Token)
	if err != nil || again.Secret != first.Secret {
		t.Errorf("another node has another secret: %+v, %v", again, err)
	}
}

// R6
func TestLife(t *testing.T) {
	s := newStore()
	r := s.node()
	id := register(t, r, public("https://a.example/cb")).ID
	s.clock.Advance(day - time.Second)
	if !isKnown(t, r, id) || !isKnown(t, s.node(), id) {
		t.Fatal("gone before a day is over")
	}
	s.clock.Advance(time.Second)
	if isKnown(t, r, id) || isKnown(t, s.node(), id) {
		t.Fatal("there after a day without use")
	}
	if again := register(t, r, public("https://a.example/cb")); again.ID != id || !again.New {
		t.Fatalf("got %+v, want the ID from before", again)
	}

	use := func(until time.Time) {
		t.Helper()
		if err := r.InUse(t.Context(), id, until); err != nil {
			t.Fatal(err)
		}
	}
	use(s.clock.Now().Add(time.Minute))
	before := s.Writes.Load()
	for range 100 {
		use(s.clock.Now().Add(14 * day))
	}
	if n := s.Writes.Load() - before; n > 1 {
		t.Errorf("%d writes for uses of one day", n)
	}
	s.clock.Advance(90 * day)
	if !isKnown(t, s.node(), id) {
		t.Error("gone 90 days after its last use")
	}
	use(s.clock.Now().Add(365 * day)) // a family of a year
	s.clock.Advance(364 * day)
	if !isKnown(t, s.node(), id) {
		t.Error("gone with a family that lives")
	}
	s.clock.Advance(3 * day)
	if isKnown(t, s.node(), id) {
		t.Error("there for ever")
	}
	register(t, r, public("https://a.example/cb"))
	use(time.Time{})
	s.clock.Advance(10000 * day)
	use(s.clock.Now())
	if !isKnown(t, s.node(), id) {
		t.Error("gone with a family that never ends")
	}
}

// A login may take longer than the registration is kept: it goes on.
func TestUseOfADroppedRegistration(t *testing.T) {
	s := newStore()
	r := s.node()
	id := register(t, r, public("https://a.example/cb")).ID
	if !isKnown(t, r, id) {
		t.Fatal("not there")
	}
	if err := s.Delete(t.Context(), recordKey(id)); err != nil { // by another node
		t.Fatal(err)
	}
	if err := r.InUse(t.Context(), id, s.clock.Now().Add(day)); err != nil {
		t.Fatal(err)
	}
	if !isKnown(t, s.node(), id) {
		t.Error("not there again")
	}
}

// An ID that was never issued costs no read of the store.
func TestMadeUpIDs(t *testing.T) {
	s := newStore()
	r := s.node()
	id := register(t, r, public("https://a.example/cb")).ID
	before := s.Reads.Load()
	for n := range 1000 {
		made := fmt.Sprintf("d.%020d%06d", n, n)
		if isKnown(t, r, made) || isKnown(t, r, id[:len(id)-1]+"!") || isKnown(t, r, strings.ToUpper(id)) || isKnown(t, r, id+"a") || isKnown(t, r, "") {
			t.Fatal("found")
		}
	}
	if n := s.Reads.Load() - before; n != 0 {
		t.Errorf("%d reads", n)
	}
}

// R7
func TestFlood(t *testing.T) {
	s := newStore()
	r := s.node()
	used := register(t, r, public("https://used.example/cb")).ID
	if err := r.InUse(t.Context(), used, s.clock.Now().Add(30*day)); err != nil {
		t.Fatal(err)
	}
	full := 0
	for n := range 20_000 {
		if n%100 == 0 {
			s.clock.Advance(10 * time.Second)
		}
		_, err := r.Register(t.Context(), metadata(t, public(fmt.Sprintf("https://a.example/%d", n))), nil, admitted)
		if refused, ok := errors.AsType[*FullError](err); ok {
			if full++; refused.After <= 0 || refused.After > undisturbed {
				t.Fatalf("try again after %s", refused.After)
			}
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n := s.Count(t, storage.KindDynamic); n > 1000 || n < 900 {
		t.Errorf("%d records", n)
	}
	if full == 0 || full == 20_000 || !isKnown(t, s.node(), used) {
		t.Errorf("%d of 20000 refused; the client in use is known: %v", full, isKnown(t, s.node(), used))
	}
	if len(r.cache) > maxCached {
		t.Errorf("%d clients in memory", len(r.cache))
	}
	// Once it is over, there is room again.
	s.clock.Advance(undisturbed)
	register(t, r, public("https://b.example/cb"))
}

func TestAYoungRegistrationStays(t *testing.T) {
	s := newStore()
	r := s.node(func(c *Config) { c.Max = 2 })
	first := register(t, r, public("https://a.example/1")).ID
	s.clock.Advance(time.Minute)
	second := register(t, r, public("https://a.example/2")).ID
	_, err := r.Register(t.Context(), metadata(t, public("https://a.example/3")), nil, admitted)
	if refused, ok := errors.AsType[*FullError](err); !ok || refused.After != 9*time.Minute {
		t.Fatalf("got %v", err)
	}
	register(t, r, public("https://a.example/2")) // what is there needs no room
	s.clock.Advance(9 * time.Minute)
	third := register(t, r, public("https://a.example/3")).ID
	if isKnown(t, r, first) || !isKnown(t, r, second) || !isKnown(t, r, third) {
		t.Error("not the oldest was dropped")
	}
	// Those in use stay, until their tokens have ended.
	for _, id := range []string{second, third} {
		if err := r.InUse(t.Context(), id, s.clock.Now().Add(day)); err != nil {
			t.Fatal(err)
		}
	}
	s.clock.Advance(day)
	if _, err := r.Register(t.Context(), metadata(t, public("https://a.example/4")), nil, admitted); err == nil {
		t.Error("a client in use was dropped")
	}
	s.clock.Advance(slack)
	register(t, r, public("https://a.example/4"))
}

// R13
func TestKnownOnly(t *testing.T) {
	r := newStore().node(func(c *Config) { c.KnownOnly = true })
	for uri, want := range map[string]bool{
		"https://claude.ai/api/mcp/auth_callback": true, "https://chatgpt.com/connector/oauth/abc_-9": true, "http://localhost:1/x": true,
		"http://127.0.0.1/callback": true, "cursor://anysphere.cursor-mcp/oauth/callback": true, "https://vscode.dev/redirect": true,
		"https://claude.ai/api/mcp/auth_callback/": false, "https://chatgpt.com/connector/oauth/": false,
		"https://chatgpt.com/connector/oauth/a/../b": false, "https://chatgpt.com/connector/oauth/a?b": false, "cursor://x": false,
		"https://a.example/cb": false, "https://localhost/cb": false,
	} {
		_, err := r.Register(t.Context(), metadata(t, public(uri)), nil, admitted)
		refused, _ := errors.AsType[*Error](err)
		if (err == nil) != want || err != nil && refused.Code != InvalidRedirectURI {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

// R9
func TestManage(t *testing.T) {
	s := newStore()
	r, other := s.node(), s.node()
	a := register(t, r, `{"redirect_uris":["https://a.example/cb"]}`)
	b := register(t, r, public("https://b.example/cb"))
	key, err := r.idKey.load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]string{{a.ID, ""}, {a.ID, a.Secret}, {b.ID, tokenOf(key, b.ID)}, {"d.x", a.Token}, {"", ""}, {b.ID, a.Token}} {
		if _, err := r.Manage(t.Context(), pair[0], pair[1]); !errors.Is(err, ErrGone) {
			t.Errorf("%q: got %v", pair, err)
		}
	}
	if !isKnown(t, other, a.ID) {
		t.Fatal("another node does not know it")
	}
	changed, err := r.Change(t.Context(), a.ID, metadata(t, `{"redirect_uris":["https://a.example/2"],"client_name":"New"}`))
	if err != nil || changed.Secret != a.Secret || changed.Client.Name != "New" {
		t.Errorf("got %+v, %v", changed, err)
	}
	if _, err := r.Change(t.Context(), a.ID, metadata(t, public("https://a.example/2"))); err == nil {
		t.Error("a client with a secret became public")
	}
	if used, err := r.Delete(t.Context(), a.ID); used || err != nil {
		t.Fatal(used, err)
	}
	// The other node may not know yet, but writes no dead client back.
	if err := other.InUse(t.Context(), a.ID, s.clock.Now().Add(day)); err == nil {
		t.Error("a deleted client is in use")
	}
	s.clock.Advance(freshness)
	if isKnown(t, r, a.ID) || isKnown(t, other, a.ID) {
		t.Error("there after its deletion")
	}
	if _, err := r.Delete(t.Context(), a.ID); !errors.Is(err, ErrGone) {
		t.Errorf("got %v", err)
	}
	if _, err := r.Manage(t.Context(), a.ID, a.Token); !errors.Is(err, ErrGone) {
		t.Errorf("got %v", err)
	}
}

func TestDamagedRecord(t *testing.T) {
	s := newStore()
	r := s.node()
	id := register(t, r, public("https://a.example/cb")).ID
	if err := s.Put(t.Context(), recordKey(id), []byte("{"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Find(t.Context(), id); !errors.Is(err, storage.ErrDamaged) {
		t.Errorf("got %v", err)
	}
	for record, err := range r.All(t.Context()) {
		t.Errorf("got %v, %v", record, err)
	}
}

// A registration has what the client asked for. What the owner changes at OpenID Connect costs a client no more than that it signs
// people in, and nothing if it named nothing.
func TestOpenIDSettingsChange(t *testing.T) {
	store := newStore()
	with := func(alg, subject string) *Registrations {
		return store.node(func(c *Config) {
			c.Supported.OpenID = &OpenIDSupported{Algs: []string{alg}, DefaultAlg: alg, SubjectTypes: []string{subject}, DefaultSubject: subject}
			supported := c.Supported
			c.Describe = func(id string, m *Metadata, _ string) (*storage.Client, error) {
				n, err := m.Negotiate(supported)
				if err != nil {
					return nil, err
				}
				client := &storage.Client{ID: id}
				if n.SignsIn {
					client.OpenID = &storage.OpenIDPolicy{IDTokenAlgorithm: n.OpenID.IDTokenAlg}
				}
				return client, nil
			}
		})
	}
	admit := func() error { return nil }
	before := with("RS256", "public")
	named := `{"redirect_uris":["https://a.example","https://b.example"],"id_token_signed_response_alg":"RS256"}`
	silent := `{"redirect_uris":["https://a.example"]}`
	ids := make(map[string]string)
	for _, text := range []string{named, silent} {
		made, err := before.Register(t.Context(), metadata(t, text), nil, admit)
		if err != nil || made.Metadata.IDTokenAlg != "RS256" || made.Metadata.SubjectType != "public" {
			t.Fatalf("%s: %+v, %v", text, made, err)
		}
		ids[text] = made.ID
		if again, err := before.Manage(t.Context(), made.ID, made.Token); err != nil || again.Metadata.IDTokenAlg != "RS256" {
			t.Errorf("%s: read again: %+v, %v", text, again, err)
		}
	}
	after := with("ES256", "pairwise")
	if c, err := after.Find(t.Context(), ids[named]); err != nil || c == nil || c.OpenID != nil {
		t.Errorf("the client that named RS256: %+v, %v", c, err)
	}
	if c, err := after.Find(t.Context(), ids[silent]); err != nil || c == nil || c.OpenID == nil || c.OpenID.IDTokenAlgorithm != "ES256" {
		t.Errorf("the client that named nothing: %+v, %v", c, err)
	}
	if _, err := after.Register(t.Context(), metadata(t, named), nil, admit); err == nil {
		t.Error("a client can register that names what is not offered")
	}
}

// A sector_identifier_uri that nobody has fetched is not kept: its host would be believed as soon as the owner lets clients sign people in.
func TestSectorThatNobodyHasChecked(t *testing.T) {
	store := newStore()
	made, err := store.node().Register(t.Context(),
		metadata(t, `{"redirect_uris":["https://a.example"],"sector_identifier_uri":"https://victim.example"}`), nil, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	text, err := store.Get(t.Context(), recordKey(made.ID))
	if err != nil || strings.Contains(string(text), "victim") {
		t.Errorf("record %s, %v", text, err)
	}
}
