package bearer

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
)

const (
	testIssuer = "https://example.com"
	testAPI    = "https://api.example.com"
)

// remote is a remote issuer: a server with configurable answers that counts requests.
type remote struct {
	*httptest.Server
	clock *testclock.Clock
	keys  *RemoteKeys
	key   jwttest.Key // that signs

	mu      sync.Mutex
	asked   map[string]int
	answers map[string]http.HandlerFunc // by path; others are 404
}

const (
	remoteMetadata = "/.well-known/oauth-authorization-server"
	remoteJWKS     = "/keys"
)

// newRemote returns an issuer with metadata and one ES256 key.
func newRemote(t *testing.T) *remote {
	t.Helper()
	r := &remote{clock: testclock.New(), asked: map[string]int{}, answers: map[string]http.HandlerFunc{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.asked[req.URL.Path]++
		answer := r.answers[req.URL.Path]
		r.mu.Unlock()
		if answer == nil {
			http.NotFound(w, req)
			return
		}
		answer(w, req)
	}))
	t.Cleanup(r.Close)
	r.key = jwttest.NewKey(t, "ES256")
	r.answer(remoteMetadata, body(`{"issuer":"`+r.URL+`","jwks_uri":"`+r.URL+remoteJWKS+`"}`))
	r.publish(r.key.Public)
	r.keys = NewRemoteKeys(r.URL, r.clock.Now)
	t.Cleanup(func() { _ = r.keys.Destruct() })
	return r
}

func body(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
}

func (r *remote) answer(path string, answer http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers[path] = answer
}

// publish makes these the issuer's keys, fresh for an hour.
func (r *remote) publish(keys ...json.RawMessage) {
	if keys == nil {
		keys = []json.RawMessage{}
	}
	set, _ := json.Marshal(map[string]any{"keys": keys}) // raw messages that were made by Marshal
	r.answer(remoteJWKS, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		_, _ = w.Write(set)
	})
}

// count returns the number of requests for a path, "" for all paths.
func (r *remote) count(path string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for asked, times := range r.asked {
		if path == "" || path == asked {
			n += times
		}
	}
	return n
}

// source returns the issuer as a guard sees it.
func (r *remote) source(types ...string) *RemoteIssuer {
	return &RemoteIssuer{URL: r.URL, Keys: r.keys, Types: types, Log: zap.NewNop()}
}

// claims returns the claims of a valid access token, changed by pairs of name and value; nil deletes.
func (r *remote) claims(pairs ...any) []byte {
	claims := map[string]any{
		"iss": r.URL, "sub": "alice", "aud": testAPI, "client_id": "app", "scope": "orders", "jti": "j",
		"iat": r.clock.Now().Unix(), "exp": r.clock.Now().Add(10 * time.Minute).Unix(),
	}
	for ; len(pairs) > 0; pairs = pairs[2:] {
		claims[pairs[0].(string)] = pairs[1]
		if pairs[1] == nil {
			delete(claims, pairs[0].(string))
		}
	}
	payload, _ := json.Marshal(claims) // all of them can be encoded
	return payload
}

// token returns an access token, changed by pairs of name and value.
func (r *remote) token(t *testing.T, pairs ...any) string {
	t.Helper()
	return r.key.Sign(t, r.claims(pairs...))
}

// forged returns a token with that header and a valid signature of an ES256 key.
func forged(t *testing.T, key jwttest.Key, header string, payload []byte) string {
	t.Helper()
	return jwttest.Forge(t, key.JWK, header, payload)
}

// eventually waits for something that happens in the background.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !happened(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}
