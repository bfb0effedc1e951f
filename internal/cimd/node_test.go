package cimd

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/fetch"
	"github.com/caddy-oauth/caddy-oauth/internal/registration"
	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
	"github.com/caddy-oauth/caddy-oauth/storage"
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
	store    *testclock.Store
	clock    *testclock.Clock
	logs     *observer.ObservedLogs
	requests *atomic.Int32

	mu      sync.Mutex
	handler http.HandlerFunc
}

func newNode(t *testing.T) *node {
	t.Helper()
	clock := testclock.New()
	n := &node{store: testclock.NewStore(clock.Now), clock: clock, requests: new(atomic.Int32)}
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
