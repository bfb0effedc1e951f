package assertion

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/fetch"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// jwksServer publishes a JWK set.
type jwksServer struct {
	mu      sync.Mutex
	body    string
	status  int
	fetched int
}

func (s *jwksServer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetched++
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "max-age=3600")
	w.WriteHeader(s.status)
	_, _ = w.Write([]byte(s.body))
}

// publish makes the server answer with these keys from now on.
func (s *jwksServer) publish(status int, keys ...jwttest.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.body, s.status = setOf(keys...), status
}

func setOf(keys ...jwttest.Key) string {
	all := make([]string, 0, len(keys))
	for _, key := range keys {
		all = append(all, string(key.Public))
	}
	return `{"keys":[` + strings.Join(all, ",") + `]}`
}

// X7: the set is fetched when it is needed, again for an unknown kid, but at most once a minute, and used for a day when it cannot be
// fetched.
func TestKeysAtAURL(t *testing.T) {
	clock := testclock.New()
	remote := new(jwksServer)
	server := httptest.NewServer(remote)
	t.Cleanup(server.Close)
	one, two := jwttest.NewKey(t, "ES256"), jwttest.NewKey(t, "ES256")
	keys := NewKeys(fetch.New(fetch.Config{Now: clock.Now}), clock.Now)
	client := &storage.Client{ID: "app", JWKSURI: server.URL}
	found := func(key jwttest.Key) bool {
		list, err := keys.find(t.Context(), client, jwt.Header{Algorithm: "ES256", KeyID: key.ID}, true)
		if _, refused := errors.AsType[*Error](err); err != nil && !refused {
			t.Errorf("not a refusal: %v", err)
		}
		return len(list) == 1 && list[0].ID == key.ID && err == nil
	}
	for _, step := range []struct {
		name    string
		later   time.Duration
		do      func()
		one     bool
		two     bool
		fetched int // in all, after both were looked for
	}{
		{"the first use", 0, func() { remote.publish(200, one) }, true, false, 1},
		{"an unknown kid at once", time.Second, func() { remote.publish(200, one, two) }, true, false, 1},
		{"an unknown kid a minute later", time.Minute, nil, true, true, 2},
		{"fresh", 50 * time.Minute, func() { remote.publish(200, two) }, true, true, 2},
		{"no longer fresh", 20 * time.Minute, nil, false, true, 3},
		{"the server is down", 2 * time.Hour, func() { remote.publish(500, one) }, false, true, 4},
		{"and stays so", time.Second, nil, false, true, 4},
		{"for a day", 24*time.Hour + time.Minute, nil, false, false, 5},
		{"and is back", 2 * time.Hour, func() { remote.publish(200, one) }, true, false, 6},
	} {
		clock.Advance(step.later)
		if step.do != nil {
			step.do()
		}
		if first, second := found(one), found(two); first != step.one || second != step.two {
			t.Errorf("%s: found %v and %v, want %v and %v", step.name, first, second, step.one, step.two)
		}
		if remote.fetched != step.fetched {
			t.Errorf("%s: fetched %d times, want %d", step.name, remote.fetched, step.fetched)
		}
	}
	if list, err := keys.find(t.Context(), client, jwt.Header{Algorithm: "ES256"}, false); err == nil {
		t.Errorf("an issuer that is not on this machine fetches from it: %v", list)
	}
}

// Anybody can register clients whose keys are at any URL. They take neither the memory nor the requests of the owner's clients.
func TestRegisteredClientsCrowdOutNobody(t *testing.T) {
	clock := testclock.New()
	remote := new(jwksServer)
	server := httptest.NewServer(remote)
	t.Cleanup(server.Close)
	key := jwttest.NewKey(t, "ES256")
	remote.publish(200, key)
	keys := NewKeys(fetch.New(fetch.Config{Now: clock.Now}), clock.Now)
	find := func(path string, origin storage.ClientOrigin) error {
		client := &storage.Client{ID: path, JWKSURI: server.URL + path, Origin: origin}
		_, err := keys.find(t.Context(), client, jwt.Header{Algorithm: "ES256", KeyID: key.ID}, true)
		return err
	}
	if err := find("/first", ""); err != nil {
		t.Fatal(err)
	}
	for n := range maxSets + 10 {
		_ = find("/"+strconv.Itoa(n), storage.OriginRegistered)
	}
	before := remote.fetched
	if err := find("/first", ""); err != nil || remote.fetched != before {
		t.Errorf("error %v after %d more requests, want none", err, remote.fetched-before)
	}
	if err := find("/second", ""); err != nil {
		t.Error(err)
	}
	if n := len(keys.registered); n != maxSets {
		t.Errorf("%d sets of registered clients are in memory, want %d", n, maxSets)
	}
}

func TestKeysAreBounded(t *testing.T) {
	keys := NewKeys(nil, time.Now)
	key := jwttest.NewKey(t, "ES256")
	for n := range maxSets + 10 {
		set := strings.Repeat(" ", n) + setOf(key)
		if _, err := keys.find(t.Context(), &storage.Client{JWKS: json.RawMessage(set)}, jwt.Header{Algorithm: "ES256"}, false); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(keys.inline); n != maxSets {
		t.Errorf("%d sets are in memory, want %d", n, maxSets)
	}
	many := make([]jwttest.Key, 0, 2*jwt.MaxClientKeys)
	for range 2 * jwt.MaxClientKeys {
		many = append(many, jwttest.NewKey(t, "EdDSA"))
	}
	list, err := keys.find(t.Context(), &storage.Client{JWKS: json.RawMessage(setOf(many...))}, jwt.Header{Algorithm: "EdDSA"}, false)
	if err != nil || len(list) != jwt.MaxClientKeys {
		t.Errorf("%d keys to try, error %v; want %d", len(list), err, jwt.MaxClientKeys)
	}
}

// FuzzParse looks for texts that Parse does not survive, and for one that a client can be impersonated with.
func FuzzParse(f *testing.F) {
	key := jwttest.NewKey(f, "ES256")
	payload := []byte(`{"iss":"app","sub":"app","aud":"https://example.com","exp":1772323260,"jti":"1"}`)
	signed, err := key.SignAs("JWT", payload)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		signed, "", ".", "..", "e30.e30.", signed + "=", jwttest.Respell(signed),
		jwttest.Encode(`{"alg":"none"}`) + "." + jwttest.Encode(string(payload)) + ".",
		jwttest.Encode(`{"alg":"ES256","crit":[]}`) + "." + jwttest.Encode(`{"iss":"a","sub":"a","sub":"b","exp":1e999}`) + ".AA",
		jwttest.Encode(`{"alg":{"a":[[[[`) + "." + jwttest.Encode(`[]`) + ".AA",
	} {
		f.Add(seed)
	}
	clock := testclock.New()
	client := &storage.Client{ID: "app", JWKS: json.RawMessage(setOf(key))}
	keys := NewKeys(nil, clock.Now)
	f.Fuzz(func(t *testing.T, text string) {
		a, err := Parse(text)
		if err != nil {
			if _, refused := errors.AsType[*Error](err); !refused || a != nil {
				t.Fatalf("got %v and %v", a, err)
			}
			return
		}
		if a.ClientID == "" {
			t.Error("an assertion of nobody")
		}
		list, err := keys.find(t.Context(), client, a.header, false)
		if err != nil {
			return
		}
		// The signature may be another one that fits, but what is signed may not.
		if _, err := a.verify(list, client); err == nil && !strings.HasPrefix(text, signed[:strings.LastIndexByte(signed, '.')+1]) {
			t.Errorf("the client has not signed %q", text)
		}
	})
}
