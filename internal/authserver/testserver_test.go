package authserver

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls"
	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

const (
	testIssuer   = "https://example.com"
	testAPI      = "https://api.example.com"
	webSecret    = "the secret of webapp"
	webRedirect  = "https://app.example.com/callback"
	maxBody      = 64 << 10 // bytes of a request
	testVerifier = "a-code-verifier.of_exactly~43-characters-ABC"
)

// testServer is a Server over HTTP. Tests control its clock, the faults of its store, and who is signed in at its site. When the test
// ends, its log must contain no secret.
type testServer struct {
	*Server
	clock *testclock.Clock
	store *testclock.Store
	site  *testSite
	logs  *observer.ObservedLogs
	seen  []string // secrets that went over the wire

	browser map[string]*http.Cookie // the cookies of the browser that sends all requests
}

// newTestServer returns a server for testClients and alice, who is signed in.
func newTestServer(t *testing.T, edits ...func(*Config)) *testServer {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	clock := testclock.New()
	s := &testServer{
		clock: clock,
		store: testclock.NewStore(clock.Now),
		site:  &testSite{user: &User{Subject: "alice"}},
		logs:  logs,
		seen:  []string{webSecret, testVerifier},
	}
	issuer, _ := url.Parse(testIssuer)
	config := Config{
		Identity: Identity{
			Name: "default", URL: testIssuer, Paths: DefaultPaths(issuer),
			Scopes: []Scope{{Name: "profile", Description: "your name"}, {Name: "orders", Description: "your orders"}, {Name: "admin"}},
		},
		ClientConfig: ClientConfig{
			Clients: testClients(),
			Grants: []grants.Grant{
				grants.AuthorizationCode{}, grants.RefreshToken{}, grants.ClientCredentials{}, new(grants.DeviceCode), grants.TokenExchange{},
			},
		},
		Persistence: Persistence{Store: s.store},
		Observers:   Observers{Logger: zap.New(core)},
		Keys:        keyring.Policy{Lifetime: time.Hour, Publish: time.Hour},
		Now:         clock.Now,
	}
	for _, edit := range edits {
		edit(&config)
	}
	s.restart(t, config)
	t.Cleanup(func() { s.searchLog(t) })
	return s
}

// restart replaces the server by one with another configuration on the same store.
func (s *testServer) restart(t *testing.T, config Config) {
	t.Helper()
	var err error
	if s.Server, err = New(config); err != nil {
		t.Fatal(err)
	}
}

func testClients() map[string]*storage.Client {
	all := make(map[string]*storage.Client)
	for _, c := range []storage.Client{
		{ID: "webapp", SecretHashes: []string{clients.HashSecret(webSecret)}, RedirectURIs: []string{webRedirect}, GrantTypes: []string{"authorization_code", "refresh_token"}},
		{ID: "spa", RedirectURIs: []string{"https://spa.example.com/callback"}, GrantTypes: []string{"authorization_code", "refresh_token"}},
		{ID: "native", RedirectURIs: []string{"com.example.app:/callback", "http://127.0.0.1/callback", "http://[::1]/callback"}, GrantTypes: []string{"authorization_code"}},
		{ID: "billing", SecretHashes: []string{clients.HashSecret(webSecret)}, GrantTypes: []string{"client_credentials"}},
	} {
		c.Name, c.Scopes, c.Audience = "The app "+c.ID, []string{"profile", "orders"}, []string{testIssuer, testAPI}
		c.AccessTokenLifetime, c.CodeLifetime = 10*time.Minute, time.Minute
		c.RefreshToken = storage.RefreshPolicy{Lifetime: 30 * 24 * time.Hour, Idle: 14 * 24 * time.Hour, Retry: 10 * time.Second}
		all[c.ID] = &c
	}
	return all
}

// client returns an edit that changes one client.
func client(id string, change func(*storage.Client)) func(*Config) {
	return func(c *Config) { change(c.Clients[id]) }
}

type testSite struct {
	user  *User
	err   error
	login string // the login page
	again string // the page for people who are signed in; "": the same

	address string // of the client; "": here
}

func (s *testSite) User(*http.Request) (*User, error) { return s.user, s.err }

func (s *testSite) LoginURL(to LoginRequest) string {
	page := s.login
	if to.Again && s.again != "" {
		page = s.again
	}
	if page == "" {
		return ""
	}
	query := url.Values{"return_to": {to.ReturnTo}}
	maps.Copy(query, to.Hints)
	return page + "?" + query.Encode()
}

// answer is the answer to a request. page is the error for which a site would show a page.
type answer struct {
	*recorder
	page *PageError
}

// recorder is a ResponseRecorder that also counts the writes.
type recorder struct {
	*httptest.ResponseRecorder
	writes int
}

func newRecorder() *recorder { return &recorder{ResponseRecorder: httptest.NewRecorder()} }

func (w *recorder) Write(b []byte) (int, error) {
	w.writes++
	return w.ResponseRecorder.Write(b)
}

// ServeHTTP does what the handler of Caddy does with a request.
func (s *testServer) ServeHTTP(w http.ResponseWriter, r *http.Request, site Site) error {
	return serveAt(s.Server, w, r, site, cmp.Or(s.site.address, here))
}

// serveAt answers a request from an address at the endpoint that has its path.
func serveAt(s *Server, w http.ResponseWriter, r *http.Request, site Site, address string) error {
	e := s.Endpoint(r.URL.Path)
	if e == nil {
		e = s.UnknownMetadata(r.URL.Path)
	}
	if e == nil {
		return fmt.Errorf("no endpoint at %s", r.URL.Path)
	}
	_, err := s.ServeHTTP(w, r, e, mtls.Peer{Address: address, Certificate: mtls.OfConnection(r.TLS)}, site)
	return err
}

// do sends a request. The codes and tokens in its answer must not be in the log.
func (s *testServer) do(t *testing.T, r *http.Request) answer {
	t.Helper()
	a := answer{recorder: newRecorder()}
	for _, cookie := range s.browser {
		r.AddCookie(cookie)
	}
	err := s.ServeHTTP(a, r, s.site)
	if errors.As(err, &a.page) {
		err = s.WritePage(a, r, a.page)
	}
	if err != nil {
		t.Fatalf("ServeHTTP: %v", err)
	}
	s.keepCookies(a.Result().Cookies())
	var tokens struct{ AccessToken, RefreshToken string }
	body := strings.NewReplacer("access_token", "AccessToken", "refresh_token", "RefreshToken").Replace(a.Body.String())
	_ = json.Unmarshal([]byte(body), &tokens) // not every answer is JSON
	s.seen = append(s.seen, tokens.AccessToken, tokens.RefreshToken, a.location().Get("code"))
	return a
}

func (s *testServer) keepCookies(cookies []*http.Cookie) {
	if s.browser == nil {
		s.browser = make(map[string]*http.Cookie)
	}
	for _, cookie := range cookies {
		if s.browser[cookie.Name] = cookie; cookie.MaxAge < 0 {
			delete(s.browser, cookie.Name)
		}
	}
}

func (s *testServer) searchLog(t *testing.T) {
	t.Helper()
	for _, entry := range s.logs.All() {
		line, err := json.Marshal(entry.ContextMap())
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range s.seen {
			if secret != "" && strings.Contains(entry.Message+string(line), secret) {
				t.Errorf("the log has the secret %q: %s %s", secret, entry.Message, line)
			}
		}
	}
}

// get sends an authorization request.
func (s *testServer) get(t *testing.T, params url.Values) answer {
	t.Helper()
	return s.do(t, httptest.NewRequest(http.MethodGet, "/oauth/authorize?"+params.Encode(), nil))
}

func postRequest(path, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// post sends a form to the authorization endpoint.
func (s *testServer) post(t *testing.T, params url.Values) answer {
	t.Helper()
	return s.do(t, postRequest("/oauth/authorize", params.Encode()))
}

// token sends a token request, by default of webapp.
func (s *testServer) token(t *testing.T, form url.Values, edits ...func(*http.Request)) answer {
	t.Helper()
	r := postRequest("/oauth/token", form.Encode())
	if !form.Has("client_id") {
		r.SetBasicAuth("webapp", url.QueryEscape(webSecret))
	}
	for _, edit := range edits {
		edit(r)
	}
	return s.do(t, r)
}

// header returns an edit that sets a header, or with an empty value deletes it.
func header(name, value string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Del(name)
		if value != "" {
			r.Header.Set(name, value)
		}
	}
}

// merge returns params with names set to values; an empty value deletes.
func merge(params url.Values, pairs ...string) url.Values {
	params = maps.Clone(params)
	for pair := range slices.Chunk(pairs, 2) {
		params.Set(pair[0], pair[1])
		if pair[1] == "" {
			params.Del(pair[0])
		}
	}
	return params
}

func s256(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// asks returns a valid authorization request of a client, changed by pairs of name and value.
func asks(id string, pairs ...string) url.Values {
	return merge(url.Values{
		"response_type": {"code"}, "client_id": {id}, "redirect_uri": {testClients()[id].RedirectURIs[0]}, "state": {"xyz"},
		"code_challenge": {s256(testVerifier)}, "code_challenge_method": {"S256"},
	}, pairs...)
}

// redeems returns the token request for a code of webapp, changed by pairs of name and value.
func redeems(code string, pairs ...string) url.Values {
	return merge(url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {webRedirect}, "code_verifier": {testVerifier},
	}, pairs...)
}

func refreshes(token string, pairs ...string) url.Values {
	return merge(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}, pairs...)
}

// decide posts the form of a consent page.
func (s *testServer) decide(t *testing.T, a answer, decision string) answer {
	t.Helper()
	return s.post(t, url.Values{"request": {a.sealed(t)}, "decision": {decision}})
}

// code sends an authorization request, approves it, and returns the code.
func (s *testServer) code(t *testing.T, params url.Values) string {
	t.Helper()
	a := s.get(t, params)
	if a.Code == http.StatusOK {
		a = s.decide(t, a, "allow")
	}
	code := a.location().Get("code")
	if code == "" {
		t.Fatalf("no code: %d %s %s", a.Code, a.Header().Get("Location"), a.Body)
	}
	return code
}

// tokens performs the code flow of webapp, and returns its tokens.
func (s *testServer) tokens(t *testing.T) map[string]any {
	t.Helper()
	a := s.token(t, redeems(s.code(t, asks("webapp"))))
	a.check(t, http.StatusOK, "")
	return a.json(t)
}

// claims returns the claims of an access token that the server's keys verify.
func (s *testServer) claims(t *testing.T, token any) map[string]any {
	t.Helper()
	payload, err := s.keys.Verify(t.Context(), token.(string))
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// sealed returns the hidden field of a consent page.
func (a answer) sealed(t *testing.T) string {
	t.Helper()
	tags, text := pagestest.Parts(strings.NewReader(a.Body.String()))
	for _, tag := range tags {
		attrs := map[string]string{}
		for _, attr := range tag.Attr {
			attrs[attr.Key] = attr.Val
		}
		if tag.Data == "input" && attrs["name"] == "request" {
			return attrs["value"]
		}
	}
	t.Fatalf("no consent page: %d %s %s", a.Code, a.Header().Get("Location"), text)
	return ""
}

// location returns the parameters of the redirect, none if there is no redirect.
func (a answer) location() url.Values {
	to, _ := url.Parse(a.Header().Get("Location"))
	return to.Query()
}

func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var body map[string]any
	if err := json.Unmarshal(a.Body.Bytes(), &body); err != nil {
		t.Fatalf("%v in %s", err, a.Body)
	}
	return body
}

// check compares the status and the error, which is in the redirect, in the error of the page, or in the body.
func (a answer) check(t *testing.T, status int, code string) {
	t.Helper()
	got := a.location().Get("error")
	switch {
	case a.page != nil:
		got = a.page.Err.Code
	case a.Header().Get("Content-Type") == "application/json":
		got, _ = a.json(t)["error"].(string)
	}
	if a.Code != status || got != code {
		t.Errorf("status %d, error %q; want %d, %q: %s %s", a.Code, got, status, code, a.Header().Get("Location"), a.Body)
	}
}

var (
	epoch   = testclock.Epoch
	errDown = errors.New("the store is down")
)

// foreignToken returns a token with an unknown key.
func foreignToken(tb testing.TB) string {
	tb.Helper()
	return jwttest.NewKey(tb, "ES256").Sign(tb, []byte(`{"sub":"alice"}`))
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
