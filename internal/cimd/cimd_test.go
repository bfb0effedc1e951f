package cimd

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/fetch"
	"github.com/caddy-oauth/caddy-oauth/internal/registration"
	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

var (
	_ clients.Source    = (*Source)(nil)
	_ clients.Lister    = (*Source)(nil)
	_ clients.Explainer = (*Source)(nil)
)

// loopback resolves every name to this machine.
type loopback struct{}

func (loopback) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

// node is a Source with the server of a client, all of whose URLs have a document.
type node struct {
	*Source
	server   *httptest.Server
	store    *countingStore
	clock    *testclock.Clock
	logs     *observer.ObservedLogs
	requests *atomic.Int32

	mu      sync.Mutex
	handler http.HandlerFunc
}

// countingStore is a store with the clock of a test. It counts what is written.
type countingStore struct {
	storage.Store
	clock  *testclock.Clock
	writes atomic.Int32
	err    error // of Update

	mu      sync.Mutex
	expires map[storage.Key]time.Time
}

func newStore(clock *testclock.Clock) *countingStore {
	return &countingStore{Store: memory.New(), clock: clock, expires: make(map[storage.Key]time.Time)}
}

func (s *countingStore) expired(key storage.Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return storage.Expired(s.expires[key], s.clock.Now())
}

func (s *countingStore) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	if s.expired(key) {
		return nil, storage.ErrNotFound
	}
	return s.Store.Get(ctx, key)
}

func (s *countingStore) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	return s.Update(ctx, key, func([]byte) ([]byte, time.Time, error) { return value, expires, nil })
}

func (s *countingStore) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	if s.err != nil {
		return s.err
	}
	return s.Store.Update(ctx, key, func(old []byte) ([]byte, time.Time, error) {
		if s.expired(key) {
			old = nil
		}
		value, expires, err := change(old)
		if err == nil {
			s.writes.Add(1)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.expires[key] = expires
		}
		return value, time.Time{}, err
	})
}

func (s *countingStore) records(t *testing.T) (ids []string) {
	t.Helper()
	for id, err := range s.List(t.Context(), storage.KindDocument) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

func newNode(t *testing.T) *node {
	t.Helper()
	clock := testclock.New()
	n := &node{store: newStore(clock), clock: clock, requests: new(atomic.Int32)}
	n.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.requests.Add(1)
		n.mu.Lock()
		handler := n.handler
		n.mu.Unlock()
		handler(w, r)
	}))
	t.Cleanup(n.server.Close)
	n.serve(nil)
	n.start(new(loopback))
	return n
}

// start makes a Source that remembers nothing, as after a restart.
func (n *node) start(resolver fetch.Resolver) {
	roots := x509.NewCertPool()
	roots.AddCert(n.server.Certificate())
	core, logs := observer.New(zapcore.DebugLevel)
	n.logs = logs
	n.Source = New(Config{
		Issuer: "shop", Loopback: true, Store: n.store, Logger: zap.New(core), Now: n.clock.Now, Describe: describe,
		Fetcher: fetch.New(fetch.Config{Resolver: resolver, RootCAs: roots, Now: n.clock.Now}),
	})
}

// another returns another node with the same store and client.
func (n *node) another() *node {
	other := &node{server: n.server, store: n.store, clock: n.clock, requests: n.requests}
	other.start(new(loopback))
	return other
}

func describe(_ string, m *registration.Metadata) (*storage.Client, error) {
	negotiated, err := m.Negotiate(registration.Supported{
		AuthMethods: []string{"none", "private_key_jwt"}, DefaultAuthMethod: "none", SigningAlgs: []string{"ES256"},
	})
	if err != nil {
		return nil, err
	}
	return &storage.Client{
		Name: m.ClientName, RedirectURIs: m.RedirectURIs, AuthMethods: negotiated.AuthMethods, JWKS: m.JWKS, JWKSURI: m.JWKSURI,
	}, nil
}

// id returns a client ID at the server.
func (n *node) id() string { return n.at("/client.json") }

func (n *node) at(path string) string {
	_, port, _ := strings.Cut(strings.TrimPrefix(n.server.URL, "https://"), ":")
	return "https://example.com:" + port + path
}

// serve makes the server send documents that are changed in a way.
func (n *node) serve(change func(document map[string]any)) {
	n.handle(func(w http.ResponseWriter, r *http.Request) {
		document := map[string]any{
			"client_id": n.at(r.URL.String()), "client_name": "Example", "redirect_uris": []string{"https://app.example.com/callback"},
			"token_endpoint_auth_method": "none",
		}
		if change != nil {
			change(document)
		}
		send(w, document)
	})
}

func (n *node) handle(handler http.HandlerFunc) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.handler = handler
}

func (n *node) fail() {
	n.handle(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
}

func send(w http.ResponseWriter, document any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(document); err != nil {
		panic(err)
	}
}

// fetched requires that there is a client.
func (n *node) fetched(t *testing.T) *storage.Client {
	t.Helper()
	client, err := n.Fetch(t.Context(), n.id())
	if err != nil || client == nil {
		t.Fatalf("client %v, error %v %v", client, err, errors.Unwrap(err))
	}
	return client
}

// use requires that the client can be used.
func (n *node) use(t *testing.T, life time.Duration) {
	t.Helper()
	if err := n.InUse(t.Context(), n.id(), n.clock.Now().Add(life)); err != nil {
		t.Fatal(err)
	}
}

func (n *node) found(t *testing.T, want bool) *storage.Client {
	t.Helper()
	client, err := n.Find(t.Context(), n.id())
	if err != nil || (client != nil) != want {
		t.Fatalf("found %v, error %v", client, err)
	}
	return client
}

// asked requires that the client's server had that many requests since the last time.
func (n *node) asked(t *testing.T, want int) {
	t.Helper()
	if got := n.requests.Swap(0); int(got) != want {
		t.Fatalf("%d requests, want %d", got, want)
	}
}

// refusal requires that an error is a refusal.
func refusal(t *testing.T, err error) *grants.Error {
	t.Helper()
	var e *grants.Error
	if !errors.As(err, &e) || e.Code != grants.InvalidClient || e.Status != http.StatusUnauthorized || e.Expected == "" || e.Setting != "cimd" {
		t.Fatalf("error %#v", err)
	}
	return e
}

func TestFetch(t *testing.T) {
	n := newNode(t)
	client := n.fetched(t)
	if client.ID != n.id() || client.Name != "Example" || client.Origin != storage.OriginDocument || !client.Created.Equal(n.clock.Now()) {
		t.Errorf("%+v", client)
	}
	n.asked(t, 1)
	n.fetched(t)
	n.found(t, true)
	n.asked(t, 0)
	n.clock.Advance(time.Hour)
	n.fetched(t)
	n.asked(t, 1)
}

// Strangers cannot make the server fetch anything: not what is unknown, nor what somebody has only looked at.
func TestFindFetchesNothingUnknown(t *testing.T) {
	n := newNode(t)
	n.found(t, false)
	n.fetched(t)
	n.asked(t, 1)
	n.clock.Advance(time.Hour)
	n.found(t, false)
	n.asked(t, 0)
	for _, id := range []string{"", "app", "https://", "https://app.example.com", "http://127.0.0.1/", "https://10.0.0.1/x"} {
		if client, err := n.Find(t.Context(), id); client != nil || err != nil {
			t.Errorf("%q: %v, %v", id, client, err)
		}
	}
	n.asked(t, 0)
}

// Documents and answers that make no client. The person is told nothing of them; the log says all.
func TestRefusedDocuments(t *testing.T) {
	const body = "WHAT-THE-SERVER-SENT"
	member := func(name string, value any) func(*node) {
		return func(n *node) {
			n.serve(func(document map[string]any) {
				if document["x"] = body; value == nil {
					delete(document, name)
				} else {
					document[name] = value
				}
			})
		}
	}
	answer := func(status int, contentType, text string) func(*node) {
		return func(n *node) {
			n.handle(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", contentType)
				w.Header().Set("Location", "http://127.0.0.1/")
				w.WriteHeader(status)
				fmt.Fprint(w, text)
			})
		}
	}
	for _, c := range []struct {
		name   string
		serve  func(*node)
		want   string // in what the owner is told
		reason fetch.Reason
	}{
		{"no ID", member("client_id", nil), "client_id", fetch.InvalidDocument},
		{"ID off by one character", func(n *node) { member("client_id", n.id()+"x")(n) }, "client_id", fetch.InvalidDocument},
		{"ID in another case", func(n *node) { member("client_id", strings.ToUpper(n.id()))(n) }, "client_id", fetch.InvalidDocument},
		{"ID with the default port", member("client_id", "https://example.com:443/client.json"), "client_id", fetch.InvalidDocument},
		{"secret", member("client_secret", "x"), "client_secret", fetch.InvalidDocument},
		{"expiry of a secret", member("client_secret_expires_at", 0), "client_secret", fetch.InvalidDocument},
		{"client_secret_post", member("token_endpoint_auth_method", "client_secret_post"), "token_endpoint_auth_method", fetch.InvalidDocument},
		{"client_secret_jwt", member("token_endpoint_auth_method", "client_secret_jwt"), "token_endpoint_auth_method", fetch.InvalidDocument},
		{"no name", member("client_name", nil), "client_name", fetch.InvalidDocument},
		{"a name of nothing to see", member("client_name", "\u200b\u202e"), "client_name", fetch.InvalidDocument},
		{"no redirect URI", member("redirect_uris", []string{}), "redirect_uris", fetch.InvalidDocument},
		{"javascript", member("redirect_uris", []string{"javascript:alert(1)"}), "redirect_uris", fetch.InvalidDocument},
		{"http on another host", member("redirect_uris", []string{"http://app.example.com/"}), "redirect_uris", fetch.InvalidDocument},
		{"keys twice", func(n *node) {
			n.serve(func(d map[string]any) {
				d["jwks"], d["jwks_uri"] = map[string]any{"keys": []any{}}, "https://example.com/jwks"
			})
		}, "jwks", fetch.InvalidDocument},
		{"no JSON", answer(200, "application/json", body), "JSON", fetch.InvalidDocument},
		{"a list", answer(200, "application/json", "[]"), "JSON", fetch.InvalidDocument},
		{"nothing", answer(200, "application/json", ""), "JSON", fetch.InvalidDocument},
		{"a member twice", answer(200, "application/json", `{"client_id":"a","client_id":"b"}`), "once", fetch.InvalidDocument},
		{"nested without end", answer(200, "application/json", `{"a":`+strings.Repeat("[", 15_000)), "JSON", fetch.InvalidDocument},
		{"HTML", answer(200, "text/html", body), "application/json", fetch.ContentType},
		{"17 KB", answer(200, "application/json", strings.Repeat(" ", 17<<10)), "16384", fetch.TooLarge},
		{"redirect", answer(302, "application/json", body), "redirect", fetch.Redirect},
		{"201", answer(201, "application/json", body), "201", fetch.Status},
		{"404", answer(404, "application/json", body), "404", fetch.Status},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t)
			c.serve(n)
			client, err := n.Fetch(t.Context(), n.id())
			e := refusal(t, err)
			var failure *fetch.Error
			if client != nil || !errors.As(err, &failure) || failure.Reason != c.reason || !strings.Contains(e.Expected, c.want) || e.Sent != n.id() {
				t.Errorf("%+v, cause %v", e, failure)
			}
			if strings.Contains(e.Description, body) || strings.Contains(e.Description, string(c.reason)) {
				t.Errorf("the client is told %q", e.Description)
			}
			n.found(t, false)
			n.asked(t, 1)
			if refusal(t, second(n.Fetch(t.Context(), n.id()))).RetryAfter == 0 {
				t.Error("no time to try again at")
			}
			n.asked(t, 0) // it backs off
			n.serve(nil)
			n.clock.Advance(time.Minute)
			n.fetched(t)
		})
	}
}

// What the settings do not allow is no fault of the document: it is not fetched again for that, and is accepted once the settings are
// other ones.
func TestRefusedBySettings(t *testing.T) {
	n := newNode(t)
	n.serve(func(document map[string]any) { document["token_endpoint_auth_method"] = "tls_client_auth" })
	for range 2 {
		client, err := n.Fetch(t.Context(), n.id())
		if e := refusal(t, err); client != nil || !strings.Contains(e.Expected, "tls_client_auth") {
			t.Errorf("%v, %+v", client, e)
		}
	}
	n.found(t, false)
	n.asked(t, 1)
	n.Describe = func(string, *registration.Metadata) (*storage.Client, error) { return new(storage.Client), nil }
	n.clock.Advance(time.Hour)
	n.fetched(t)
}

// The document that ChatGPT has: of what it lists, a server takes what it has.
func TestMethodIsChosen(t *testing.T) {
	n := newNode(t)
	n.serve(func(document map[string]any) {
		document["token_endpoint_auth_method"] = "private_key_jwt"
		document["token_endpoint_auth_methods_supported"] = []string{"none", "private_key_jwt", "client_secret_post"}
		document["jwks_uri"] = "https://example.com/jwks.json"
		document["grant_types"] = []string{"authorization_code", "urn:ietf:params:oauth:grant-type:device_code", "refresh_token"}
	})
	if client := n.fetched(t); !slices.Equal(client.AuthMethods, []string{"private_key_jwt", "none"}) || client.JWKSURI == "" {
		t.Errorf("%+v", client)
	}
}

// Only the port of a loopback redirect URI may differ.
func TestPortOfARedirect(t *testing.T) {
	n := newNode(t)
	n.serve(func(document map[string]any) {
		document["redirect_uris"] = []string{"http://localhost/callback", "http://127.0.0.1/callback", "https://app.example.com/callback"}
	})
	client := n.fetched(t)
	for uri, want := range map[string]bool{
		"http://localhost:3118/callback": true, "http://127.0.0.1:49152/callback": true, "https://app.example.com/callback": true,
		"https://app.example.com:8443/callback": false, "http://localhost:3118/other": false, "http://localhost.example:3118/callback": false,
	} {
		if got := uris.MatchRedirect(client.RedirectURIs, uri); got != want {
			t.Errorf("%s: %v", uri, got)
		}
	}
}

// An issuer that is not on loopback fetches nothing from this machine or the network around it.
func TestSpecialAddress(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "10.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "0.0.0.0", "169.254.169.254"} {
		n := newNode(t)
		n.start(resolver(address))
		n.Loopback = false
		_, err := n.Fetch(t.Context(), n.id())
		e := refusal(t, err)
		var failure *fetch.Error
		if !errors.As(err, &failure) || failure.Reason != fetch.SpecialAddress || strings.Contains(e.Description, "address") {
			t.Errorf("%s: %v", address, err)
		}
		n.asked(t, 0)
	}
}

type resolver string

func (r resolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr(string(r))}, nil
}

func TestPolicyOfASource(t *testing.T) {
	n := newNode(t)
	n.fetched(t)
	n.use(t, time.Hour)
	n.Policy = Policy{Deny: []string{"example.com"}}
	e := refusal(t, second(n.Fetch(t.Context(), n.id())))
	if !strings.Contains(e.Expected, "denied") || !strings.Contains(n.Missing(n.id()), "denied") {
		t.Errorf("%+v", e)
	}
	if n.Owns(n.id()) || n.Missing("app") != "" {
		t.Error("the source owns what it denies, or has words for what is not its own")
	}
	n.found(t, false)
	n.use(t, time.Hour)
	n.asked(t, 1)
	n.Policy = Policy{}
	if !n.Owns(n.id()) || n.Owns("app") || n.Missing(n.id()) == "" {
		t.Error("the source does not own a client of its own, or owns another")
	}
}

// A document that has not changed is not sent again.
func TestNotModified(t *testing.T) {
	n := newNode(t)
	sent := 0
	n.handle(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Cache-Control", "max-age=600")
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		sent++
		send(w, map[string]any{"client_id": n.id(), "client_name": "Example", "redirect_uris": []string{"https://example.com/"}})
	})
	created := n.fetched(t).Created
	n.use(t, time.Hour)
	n.asked(t, 1)
	for range 3 {
		n.clock.Advance(10 * time.Minute)
		if client := n.found(t, true); !client.Created.Equal(created) || client.Name != "Example" {
			t.Errorf("%+v", client)
		}
		n.asked(t, 1)
		n.found(t, true)
		n.asked(t, 0)
	}
	n.start(new(loopback)) // the validator is in the store
	n.clock.Advance(10 * time.Minute)
	n.found(t, true)
	n.asked(t, 1)
	if sent != 1 {
		t.Errorf("sent %d times", sent)
	}
}

// A client whose server is down stays for a day.
func TestServerDown(t *testing.T) {
	n := newNode(t)
	n.fetched(t)
	n.use(t, 30*24*time.Hour)
	n.asked(t, 1)
	n.fail()
	n.clock.Advance(time.Hour)
	n.found(t, true)
	n.asked(t, 1)
	n.found(t, true)
	n.asked(t, 0) // it backs off
	n.clock.Advance(time.Minute)
	n.fetched(t)
	n.asked(t, 1)
	n.clock.Advance(24*time.Hour - time.Minute - 1)
	n.found(t, true)
	n.clock.Advance(1)
	n.found(t, false)
	_ = refusal(t, second(n.Fetch(t.Context(), n.id())))

	n.serve(nil)
	n.clock.Advance(2 * time.Hour)
	if client := n.found(t, true); !client.Created.Equal(testclock.Epoch) {
		t.Errorf("created %s", client.Created)
	}
}

// A client that nobody uses yet has no day: the person is told that its document cannot be read.
func TestServerDownBeforeUse(t *testing.T) {
	n := newNode(t)
	n.fetched(t)
	n.fail()
	n.clock.Advance(time.Hour)
	_ = refusal(t, second(n.Fetch(t.Context(), n.id())))
}

// A document is used as long as its server says, within limits.
func TestAge(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": time.Hour, "max-age=7200": 2 * time.Hour, "no-store": 5 * time.Minute, "max-age=0": 5 * time.Minute, "max-age=31536000": 24 * time.Hour,
	} {
		n := newNode(t)
		serve := n.handler
		n.handle(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", header)
			serve(w, r)
		})
		n.fetched(t)
		n.use(t, 48*time.Hour)
		n.clock.Advance(want - 1)
		n.found(t, true)
		n.asked(t, 1)
		n.clock.Advance(1)
		n.found(t, true)
		n.asked(t, 1)
	}
}

// Many who come at once make one request.
func TestSameURLAtOnce(t *testing.T) {
	n := newNode(t)
	var coming sync.WaitGroup
	for range 1000 {
		coming.Go(func() {
			if client, err := n.Fetch(t.Context(), n.id()); client == nil || err != nil {
				t.Errorf("%v, %v", client, err)
			}
		})
	}
	coming.Wait()
	n.asked(t, 1)
}

// A person who is signed in and invents URLs fills neither the memory nor the store, and nobody who has tokens notices.
func TestManyURLs(t *testing.T) {
	n := newNode(t)
	n.fetched(t)
	n.use(t, 48*time.Hour)
	written, fetched := n.store.writes.Load(), 0
	for i := range 10_000 {
		n.clock.Advance(200 * time.Millisecond)
		client, err := n.Fetch(t.Context(), n.at(fmt.Sprintf("/%d", i)))
		if err == nil {
			fetched++
		} else if _ = refusal(t, err); client != nil {
			t.Fatal("a client and an error")
		}
	}
	if fetched < 500 || fetched > 1000 {
		t.Errorf("fetched %d", fetched)
	}
	if got := n.store.writes.Load(); got != written || len(n.store.records(t)) != 1 {
		t.Errorf("%d writes, %d records", got-written, len(n.store.records(t)))
	}
	if n.cache.recent.Len() > maxRemembered || len(n.cache.byID) != n.cache.recent.Len() {
		t.Errorf("%d in memory", n.cache.recent.Len())
	}
	n.requests.Store(0)
	n.clock.Advance(time.Hour - 2000*time.Second)
	n.found(t, true)
	n.asked(t, 1)
}

func TestMemoryIsBounded(t *testing.T) {
	m, now := newCache(), testclock.Epoch
	put := func(i, size int) {
		m.put(&document{Document: storage.Document{ID: fmt.Sprint(i), Body: make([]byte, size), Fetched: now}})
	}
	for i := range 10_000 {
		put(i, 1<<10)
		m.get("0", now) // what is used stays
	}
	if m.recent.Len() != maxRemembered || len(m.byID) != maxRemembered || m.bytes != maxRemembered<<10 || m.get("0", now) == nil {
		t.Errorf("%d documents, %d bytes", m.recent.Len(), m.bytes)
	}
	for i := range 10_000 {
		put(i, maxDocument)
	}
	if m.bytes > maxBytes || len(m.byID) != maxBytes/maxDocument {
		t.Errorf("%d documents, %d bytes", len(m.byID), m.bytes)
	}
	put(9999, 1)
	if m.bytes != maxBytes-maxDocument+1 {
		t.Errorf("%d bytes after one was replaced", m.bytes)
	}
	if m.get("9999", now.Add(unusedLife)) != nil || m.get("9998", now.Add(unusedLife-1)) == nil {
		t.Error("a document that nobody uses is forgotten after a day, and not before")
	}
}

// Each request to a client's server is a line in the log, and what was no request is none.
func TestLog(t *testing.T) {
	n := newNode(t)
	n.fail()
	for range 3 {
		_ = refusal(t, second(n.Fetch(t.Context(), n.id())))
	}
	n.serve(nil)
	n.clock.Advance(time.Minute)
	n.fetched(t)
	n.fetched(t)
	var lines []string
	for _, entry := range n.logs.All() {
		fields := entry.ContextMap()
		if fields["issuer"] != "shop" || fields["cimd"] != n.id() || entry.Level != zapcore.InfoLevel {
			t.Errorf("%v", fields)
		}
		lines = append(lines, fmt.Sprint(entry.Message, " ", fields["status"], " ", fields["reason"]))
	}
	if want := []string{"client metadata document refused 500 status", "client metadata document fetched 200 <nil>"}; !slices.Equal(lines, want) {
		t.Errorf("%q", lines)
	}
}

// A caller that leaves takes nobody with it.
func TestCallerLeaves(t *testing.T) {
	n := newNode(t)
	entered, answer, serve := make(chan struct{}), make(chan struct{}), n.handler
	n.handle(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-answer
		serve(w, r)
	})
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() { left <- second(n.Fetch(ctx, n.id())) }()
	<-entered
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the one who left: %v", err)
	}
	close(answer)
	n.fetched(t)
	n.asked(t, 1)
}
