package authserver

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/registration"
	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

const initialToken = "an initial access token"

// registers lets clients register themselves.
func registers(edits ...func(*Registration)) func(*Config) {
	return func(c *Config) {
		c.Registration = &Registration{Clients: registration.Config{
			Supported: registration.Supported{
				AuthMethods:       []string{storage.MethodNone, storage.MethodBasic, storage.MethodPost},
				DefaultAuthMethod: storage.MethodBasic,
			},
			Max: 1000, Unused: 90 * 24 * time.Hour,
			Describe: func(id string, m *registration.Metadata, secret string) (*storage.Client, error) {
				client := *testClients()["spa"]
				client.ID, client.Name, client.Origin, client.Consent = id, m.ClientName, storage.OriginRegistered, storage.ConsentAlways
				client.RedirectURIs, client.GrantTypes, client.DropUnknownScopes = m.RedirectURIs, m.GrantTypes, true
				if secret != "" {
					client.SecretHashes = []string{clients.HashSecret(secret)}
				}
				return &client, nil
			},
		}}
		for _, edit := range edits {
			edit(c.Registration)
		}
	}
}

func registerRequest(method, path, body string, edits ...func(*http.Request)) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for _, edit := range edits {
		edit(r)
	}
	return r
}

// register sends a registration.
func (s *testServer) register(t *testing.T, body string, edits ...func(*http.Request)) answer {
	t.Helper()
	a := s.do(t, registerRequest(http.MethodPost, "/oauth/register", body, edits...))
	if a.Header().Get("Cache-Control") != "no-store" || a.Header().Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("headers %v", a.Header())
	}
	if a.Code == http.StatusCreated {
		for _, name := range []string{"client_secret", "registration_access_token"} {
			secret, _ := a.json(t)[name].(string)
			s.seen = append(s.seen, secret)
		}
	}
	return a
}

const publicClient = `{"client_name":"An App","redirect_uris":["http://localhost:3118/callback"],"token_endpoint_auth_method":"none",
	"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"application_type":"native","scope":"orders unknown"}`

// RFC 7591 §3.2.1
func TestRegister(t *testing.T) {
	s := newTestServer(t, registers())
	a := s.register(t, publicClient)
	a.check(t, http.StatusCreated, "")
	body := a.json(t)
	for name, want := range map[string]any{
		"client_id_issued_at": float64(s.clock.Now().Unix()), "client_name": "An App", "token_endpoint_auth_method": "none", "scope": "profile orders",
		"application_type": "native", "redirect_uris": []any{"http://localhost:3118/callback"},
		"grant_types": []any{"authorization_code", "refresh_token"}, "response_types": []any{"code"},
	} {
		if fmt.Sprint(body[name]) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v", name, body[name], want)
		}
	}
	for _, name := range []string{"client_secret", "client_secret_expires_at", "registration_access_token", "registration_client_uri"} {
		if body[name] != nil {
			t.Errorf("%s is there: %v", name, body[name])
		}
	}

	a = s.register(t, `{"redirect_uris":["https://a.example/cb"],"token_endpoint_auth_method":"client_secret_post","grant_types":["authorization_code","client_credentials"],"x":{}}`)
	a.check(t, http.StatusCreated, "")
	body = a.json(t)
	if expires, ok := body["client_secret_expires_at"].(float64); !ok || expires != 0 || body["client_secret"] == nil || body["token_endpoint_auth_method"] != "client_secret_post" ||
		fmt.Sprint(body["grant_types"]) != "[authorization_code]" || body["x"] != nil ||
		body["registration_client_uri"] != testIssuer+"/oauth/register?client_id="+body["client_id"].(string) {
		t.Errorf("got %s", a.Body)
	}
}

func TestRegisteredClientLogsIn(t *testing.T) {
	s := newTestServer(t, registers())
	login := func() {
		t.Helper()
		id := s.register(t, publicClient).json(t)["client_id"].(string)
		code := s.code(t, merge(asks("spa"), "client_id", id, "redirect_uri", "http://localhost:49152/callback", "scope", "orders offline_access"))
		a := s.token(t, redeems(code, "client_id", id, "redirect_uri", "http://localhost:49152/callback"))
		a.check(t, http.StatusOK, "")
		a = s.token(t, refreshes(a.json(t)["refresh_token"].(string), "client_id", id))
		a.check(t, http.StatusOK, "")
		if a.json(t)["scope"] != "orders" {
			t.Errorf("got %s", a.Body)
		}
	}
	for range 3 { // register, authorize, token, a month of use, and again
		login()
		s.clock.Advance(30 * 24 * time.Hour)
	}
	if n := s.store.Count(t, storage.KindDynamic); n != 1 {
		t.Errorf("%d records", n)
	}

	body := s.register(t, `{"redirect_uris":["https://a.example/cb"],"grant_types":["authorization_code"]}`).json(t)
	id, secret := body["client_id"].(string), body["client_secret"].(string)
	code := s.code(t, merge(asks("spa"), "client_id", id, "redirect_uri", "https://a.example/cb"))
	wrong := func(r *http.Request) { r.SetBasicAuth(id, "wrong") }
	s.token(t, redeems(code, "redirect_uri", "https://a.example/cb"), wrong).check(t, http.StatusUnauthorized, "invalid_client")
	right := func(r *http.Request) { r.SetBasicAuth(id, secret) }
	s.token(t, redeems(code, "redirect_uri", "https://a.example/cb"), right).check(t, http.StatusOK, "")
	s.token(t, url.Values{"grant_type": {"client_credentials"}}, right).check(t, http.StatusBadRequest, "unauthorized_client")
}

// RFC 7591 §3.2.2
func TestRegisterRefuses(t *testing.T) {
	s := newTestServer(t, registers())
	for _, c := range []struct {
		name, body string
		edit       func(*http.Request)
		status     int
		code       string
	}{
		{"no redirect URI", `{}`, nil, 400, "invalid_redirect_uri"},
		{"a fragment", `{"redirect_uris":["https://a.example/cb#x"]}`, nil, 400, "invalid_redirect_uri"},
		{"one of three", `{"redirect_uris":["cursor://a","http://a.example/cb","http://localhost/"]}`, nil, 400, "invalid_redirect_uri"},
		{"no JSON", `redirect_uris=x`, nil, 400, "invalid_client_metadata"},
		{"nothing", ``, nil, 400, "invalid_client_metadata"},
		{"twice", `{"redirect_uris":["https://a.example"],"redirect_uris":["https://b.example"]}`, nil, 400, "invalid_client_metadata"},
		{"another type", `{"redirect_uris":["https://a.example"],"client_name":1}`, nil, 400, "invalid_client_metadata"},
		{"another method", `{"redirect_uris":["https://a.example"],"token_endpoint_auth_method":"tls_client_auth"}`, nil, 400, "invalid_client_metadata"},
		{"client_credentials", `{"redirect_uris":["https://a.example"],"grant_types":["client_credentials"]}`, nil, 400, "invalid_client_metadata"},
		{"deep", strings.Repeat(`{"a":`, 1000), nil, 400, "invalid_client_metadata"},
		{"a form", `{"redirect_uris":["https://a.example"]}`, header("Content-Type", "application/x-www-form-urlencoded"), 400, "invalid_client_metadata"},
		{"no type", `{"redirect_uris":["https://a.example"]}`, header("Content-Type", ""), 400, "invalid_client_metadata"},
		{"large", `{"redirect_uris":["https://a.example"],"x":"` + strings.Repeat("x", maxMetadata) + `"}`, nil, 413, "invalid_client_metadata"},
	} {
		edit := c.edit
		if edit == nil {
			edit = func(*http.Request) {}
		}
		a := s.register(t, c.body, edit)
		if a.Code != c.status || a.json(t)["error"] != c.code {
			t.Errorf("%s: got %d %s", c.name, a.Code, a.Body)
		}
	}
	a := s.register(t, `{"redirect_uris":["https://a.example","http://b.example/cb\"\\\r\nX: y\u202e"]}`)
	description, _ := a.json(t)["error_description"].(string)
	if !strings.Contains(description, "http://b.example/cb") || strings.ContainsFunc(description, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
		t.Errorf("the description %q does not name the URI, or has other characters than RFC 6749 allows", description)
	}
	if n := s.store.Count(t, storage.KindDynamic); n != 0 {
		t.Errorf("%d records", n)
	}
	s.do(t, registerRequest(http.MethodPatch, "/oauth/register", "{}")).check(t, http.StatusMethodNotAllowed, "invalid_request")
}

// R7, M18: an address can register few new clients a minute; a client that is registered already does not count.
func TestRegisterIsLimitedByAddress(t *testing.T) {
	s := newTestServer(t, registers())
	one := func(n int) answer {
		t.Helper()
		return s.register(t, fmt.Sprintf(`{"redirect_uris":["https://a.example/%d"],"token_endpoint_auth_method":"none"}`, n))
	}
	s.site.address = "2001:db8:1:2::1"
	for n := range 10 {
		one(n).check(t, http.StatusCreated, "")
	}
	s.site.address = "2001:db8:1:2::2"
	a := one(10)
	a.check(t, http.StatusTooManyRequests, "temporarily_unavailable")
	if a.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	for range 100 {
		one(3).check(t, http.StatusCreated, "")
	}
	s.site.address = "2001:db8:1:3::1"
	one(10).check(t, http.StatusCreated, "")
	s.site.address = "2001:db8:1:2::1"
	s.clock.Advance(6 * time.Second)
	one(11).check(t, http.StatusCreated, "")
	one(12).check(t, http.StatusTooManyRequests, "temporarily_unavailable")
}

func TestRegisterIsLimitedInAll(t *testing.T) {
	s := newTestServer(t, registers(func(r *Registration) { r.Clients.Max = 3 }))
	for n := range 5 {
		a := s.register(t, fmt.Sprintf(`{"redirect_uris":["https://a.example/%d"],"token_endpoint_auth_method":"none"}`, n))
		if n < 3 {
			a.check(t, http.StatusCreated, "")
			continue
		}
		a.check(t, http.StatusTooManyRequests, "temporarily_unavailable")
		if a.Header().Get("Retry-After") != "600" {
			t.Errorf("Retry-After %s", a.Header().Get("Retry-After"))
		}
	}
	s.tokens(t) // a client of the configuration does not notice
}

// R8, RFC 7591 §3
func TestInitialAccessToken(t *testing.T) {
	s := newTestServer(t, registers(func(r *Registration) {
		r.Tokens = []registration.InitialToken{{Hash: clients.HashSecret("other")}, {Hash: clients.HashSecret(initialToken)}}
	}))
	s.seen = append(s.seen, initialToken)
	for value, want := range map[string]int{
		"": 401, "Bearer wrong": 401, "Bearer ": 401, "Basic " + initialToken: 401, initialToken: 401,
		"Bearer " + initialToken: 201, "bearer " + initialToken: 201,
	} {
		a := s.register(t, publicClient, header("Authorization", value))
		if a.Code != want || want == 401 && (a.json(t)["error"] != "invalid_token" || !strings.HasPrefix(a.Header().Get("WWW-Authenticate"), "Bearer ")) {
			t.Errorf("%q: got %d %v %s", value, a.Code, a.Header(), a.Body)
		}
	}
}

// R8: whoever has a token that has ended or is used up learns that, and the log names the setting.
func TestInitialAccessTokenEnds(t *testing.T) {
	const confidential = `{"redirect_uris":["https://a.example/cb"]}`
	var end time.Time
	s := newTestServer(t, registers(func(r *Registration) {
		end = testclock.New().Now().Add(time.Hour)
		r.Tokens = []registration.InitialToken{{Hash: clients.HashSecret("limited"), Uses: 2}, {Hash: clients.HashSecret("brief"), Until: end}}
	}))
	try := func(token string, status int, description, sent, expected, setting string) {
		t.Helper()
		s.logs.TakeAll()
		a := s.register(t, confidential, header("Authorization", "Bearer "+token))
		if a.Code != status {
			t.Fatalf("%s: %d %s", token, a.Code, a.Body)
		}
		if status == http.StatusCreated {
			return
		}
		body := a.json(t)
		if body["error"] != "invalid_token" || body["error_description"] != description || !strings.HasPrefix(a.Header().Get("WWW-Authenticate"), "Bearer ") {
			t.Errorf("%s: %v %s", token, a.Header(), a.Body)
		}
		logged := s.logs.FilterField(zap.String("setting", setting)).All()
		if len(logged) != 1 || logged[0].ContextMap()["sent"] != sent || logged[0].ContextMap()["expected"] != expected {
			t.Errorf("%s: the log has %v", token, s.logs.All())
		}
	}
	for range 2 {
		try("limited", http.StatusCreated, "", "", "", "")
	}
	try("limited", http.StatusUnauthorized, "the access token for registrations is used up",
		"2 clients have registered with the initial access token", "at most 2", "dynamic: token: uses")
	s.clock.Advance(end.Sub(s.clock.Now()) - time.Second)
	try("brief", http.StatusCreated, "", "", "", "")
	s.clock.Advance(time.Second)
	try("brief", http.StatusUnauthorized, "the access token for registrations has expired",
		"a token that ended at "+end.UTC().Format(time.RFC3339), "one that has not ended", "dynamic: token: until")
}

func TestRegistrationEndpointIsOptional(t *testing.T) {
	s := newTestServer(t)
	if s.Endpoint("/oauth/register") != nil {
		t.Error("there without the setting")
	}
	endpoint := func() any {
		return s.do(t, httptest.NewRequest(http.MethodGet, "/.well-known/oauth-authorization-server", nil)).json(t)["registration_endpoint"]
	}
	if got := endpoint(); got != nil {
		t.Errorf("registration_endpoint %v", got)
	}
	s = newTestServer(t, registers(), func(c *Config) { c.Paths.Register = "/connect" })
	if got := endpoint(); got != testIssuer+"/connect" || s.Endpoint("/connect") == nil {
		t.Errorf("registration_endpoint %v", got)
	}
}

// M16
func TestRegisterPreflight(t *testing.T) {
	s := newTestServer(t, registers())
	r := httptest.NewRequest(http.MethodOptions, "/oauth/register", nil)
	r.Header.Set("Origin", "https://app.example.com")
	r.Header.Set("Access-Control-Request-Method", "POST")
	r.Header.Set("Access-Control-Request-Headers", "authorization, content-type, mcp-protocol-version")
	h := s.do(t, r).Header()
	for _, name := range []string{"authorization", "content-type", "mcp-protocol-version"} {
		if !strings.Contains(strings.ToLower(h.Get("Access-Control-Allow-Headers")), name) {
			t.Errorf("%s is not allowed: %v", name, h)
		}
	}
	if !strings.Contains(h.Get("Access-Control-Allow-Methods"), "POST") || h.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("got %v", h)
	}
}

// M14
func TestUnknownRegistration(t *testing.T) {
	s := newTestServer(t, registers())
	id := s.register(t, publicClient).json(t)["client_id"].(string)
	s.clock.Advance(25 * time.Hour)
	for _, id := range []string{id, "d.aaaaaaaaaaaaaaaaaaaaaaaaaa"} {
		s.token(t, redeems("code", "client_id", id)).check(t, http.StatusUnauthorized, "invalid_client")
		a := s.get(t, merge(asks("spa"), "client_id", id, "redirect_uri", "http://localhost:1/callback"))
		if a.page == nil || a.Header().Get("Location") != "" {
			t.Errorf("got %d %s", a.Code, a.Header().Get("Location"))
		}
	}
}

// RFC 7592 §2
func TestManageRegistration(t *testing.T) {
	s := newTestServer(t, registers())
	body := s.register(t, `{"redirect_uris":["https://a.example/cb"],"client_name":"Old","grant_types":["authorization_code","refresh_token"]}`).json(t)
	id, secret, token := body["client_id"].(string), body["client_secret"].(string), body["registration_access_token"].(string)
	path := strings.TrimPrefix(body["registration_client_uri"].(string), testIssuer)
	send := func(method, body string, edits ...func(*http.Request)) answer {
		t.Helper()
		return s.do(t, registerRequest(method, path, body, append([]func(*http.Request){header("Authorization", "Bearer "+token)}, edits...)...))
	}
	get := send(http.MethodGet, "")
	get.check(t, http.StatusOK, "")
	if got := get.json(t); got["client_secret"] != secret || got["client_name"] != "Old" || got["registration_access_token"] != token {
		t.Errorf("got %s", get.Body)
	}
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		for _, value := range []string{"", "Bearer x", "Bearer " + secret} {
			send(method, "{}", header("Authorization", value)).check(t, http.StatusUnauthorized, "invalid_token")
		}
	}
	send(http.MethodPut, `{"redirect_uris":["https://a.example/2"]}`).check(t, http.StatusBadRequest, "invalid_client_metadata")
	put := fmt.Sprintf(`{"client_id":%q,"client_secret":%q,"redirect_uris":["https://a.example/2"],"client_name":"New","grant_types":["authorization_code","refresh_token"]}`, id, secret)
	send(http.MethodPut, strings.Replace(put, secret, "other", 1)).check(t, http.StatusBadRequest, "invalid_client_metadata")
	send(http.MethodPut, put).check(t, http.StatusOK, "")
	basic := func(r *http.Request) { r.SetBasicAuth(id, secret) }
	code := s.code(t, merge(asks("spa"), "client_id", id, "redirect_uri", "https://a.example/2"))
	tokens := s.token(t, redeems(code, "redirect_uri", "https://a.example/2"), basic).json(t)

	send(http.MethodDelete, "").check(t, http.StatusNoContent, "")
	send(http.MethodGet, "").check(t, http.StatusUnauthorized, "invalid_token")
	send(http.MethodDelete, "").check(t, http.StatusUnauthorized, "invalid_token")
	s.token(t, refreshes(tokens["refresh_token"].(string)), basic).check(t, http.StatusUnauthorized, "invalid_client")
	if _, err := s.AccessToken(t.Context(), tokens["access_token"].(string), 0); err == nil {
		t.Error("its access token is valid")
	}
}

// A token whose user has the client's ID would be one of a client that acts for itself.
func TestUserWithTheIDOfAStranger(t *testing.T) {
	s := newTestServer(t, registers())
	id := s.register(t, publicClient).json(t)["client_id"].(string)
	s.site.user = &User{Subject: id}
	a := s.get(t, merge(asks("spa"), "client_id", id, "redirect_uri", "http://localhost:3118/callback"))
	if got := a.location(); got.Get("error") != "access_denied" || got.Get("code") != "" {
		t.Errorf("got %v", got)
	}
}

// unwritable is a store that writes no records of one kind.
type unwritable struct {
	storage.Store

	kind atomic.Pointer[storage.Kind]
}

func (s *unwritable) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	if kind := s.kind.Load(); kind != nil && *kind == key.Kind {
		return full(ctx)
	}
	return s.Store.Update(ctx, key, change)
}

// A code works once. So nothing is left to be written for the client that could fail after the code is used.
func TestCodeIsNotLostWhenTheRegistrationCannotBeWritten(t *testing.T) {
	var store *unwritable
	s := newTestServer(t, registers(func(r *Registration) {
		describe := r.Clients.Describe
		r.Clients.Describe = func(id string, m *registration.Metadata, secret string) (*storage.Client, error) {
			client, err := describe(id, m, secret)
			client.RefreshToken.Idle, client.RefreshToken.Lifetime = 0, 0
			return client, err
		}
	}), func(c *Config) {
		store = &unwritable{Store: c.Store}
		c.Store = store
	})
	id := s.register(t, publicClient).json(t)["client_id"].(string)
	code := s.code(t, merge(asks("spa"), "client_id", id, "redirect_uri", "http://localhost:3118/callback"))
	kind := storage.KindDynamic
	store.kind.Store(&kind)
	a := s.token(t, redeems(code, "client_id", id, "redirect_uri", "http://localhost:3118/callback"))
	a.check(t, http.StatusOK, "")
	refreshToken, _ := a.json(t)["refresh_token"].(string)
	s.token(t, refreshes(refreshToken, "client_id", id)).check(t, http.StatusOK, "")
}

// Anybody can register clients and delete them again. A revocation is kept for as long as tokens can live, so there is none for a client
// that never had any.
func TestDeletedRegistrationsLeaveNoRevocations(t *testing.T) {
	s := newTestServer(t, registers())
	for range 3 {
		body := s.register(t, `{"redirect_uris":["https://a.example/cb"]}`).json(t)
		path := strings.TrimPrefix(body["registration_client_uri"].(string), testIssuer)
		token := header("Authorization", "Bearer "+body["registration_access_token"].(string))
		s.do(t, registerRequest(http.MethodDelete, path, "", token)).check(t, http.StatusNoContent, "")
	}
	if n := s.store.Count(t, storage.KindCutoff); n != 0 {
		t.Errorf("%d revocations, want none", n)
	}
}

// A restart and another node know the client.
func TestRegistrationSurvivesARestart(t *testing.T) {
	s := newTestServer(t, registers())
	id := s.register(t, publicClient).json(t)["client_id"].(string)
	config := s.config
	config.Store = s.store
	s.restart(t, config)
	s.code(t, merge(asks("spa"), "client_id", id, "redirect_uri", "http://localhost:3118/callback"))
	if again := s.register(t, publicClient).json(t)["client_id"]; again != id {
		t.Errorf("another ID: %v", again)
	}
}

func TestRegisterWhileReadOnly(t *testing.T) {
	s := newTestServer(t, registers(), func(c *Config) { c.ReadOnly = true })
	s.register(t, publicClient).check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
	s.token(t, redeems("code", "client_id", "d.aaaaaaaaaaaaaaaaaaaaaaaaaa")).check(t, http.StatusUnauthorized, "invalid_client")
}

func TestRegistrationIsLogged(t *testing.T) {
	s := newTestServer(t, registers())
	for range 3 {
		s.register(t, strings.Replace(publicClient, "An App", "A\\n\\u001b[31mB", 1))
	}
	lines := s.logs.FilterMessage("client has registered itself").All()
	if len(lines) != 1 || lines[0].ContextMap()["name"] != "A [31mB" || !slices.Equal(lines[0].ContextMap()["redirect_uris"].([]any), []any{"http://localhost:3118/callback"}) {
		t.Errorf("got %v", lines)
	}
}

// R11
func TestBlockedRegistration(t *testing.T) {
	s := newTestServer(t, registers())
	other, err := New(s.config) // another node
	if err != nil {
		t.Fatal(err)
	}
	node := &testServer{Server: other, clock: s.clock, store: s.store, site: s.site, logs: s.logs}
	owner := s.Owner().Clients()
	id := s.register(t, publicClient).json(t)["client_id"].(string)
	login := func() map[string]any {
		t.Helper()
		code := s.code(t, merge(asks("spa"), "client_id", id, "redirect_uri", "http://localhost:1/callback"))
		return s.token(t, redeems(code, "client_id", id, "redirect_uri", "http://localhost:1/callback")).json(t)
	}
	for what, change := range map[string][2]func() error{
		"client": {func() error { return owner.Block(t.Context(), id) }, func() error { return owner.Unblock(t.Context(), id) }},
		"host":   {func() error { return owner.BlockHost(t.Context(), "LOCALHOST") }, func() error { return owner.UnblockHost(t.Context(), "localhost") }},
	} {
		tokens := login()
		if err := other.clients.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if found, err := other.clients.Find(t.Context(), id); found == nil || err != nil {
			t.Fatalf("%s: another node does not know the client: %v", what, err)
		}
		if err := change[0](); err != nil {
			t.Fatal(what, err)
		}
		if err := other.clients.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if expected, hostBlocked := s.clients.Missing(id), what == "host"; hostBlocked != strings.HasPrefix(expected, "a client that has registered here") ||
			hostBlocked == (expected == "a client that is not blocked") {
			t.Errorf("%s: expected %s", what, expected)
		}
		for _, s := range []*testServer{s, node} {
			s.token(t, refreshes(tokens["refresh_token"].(string), "client_id", id)).check(t, http.StatusUnauthorized, "invalid_client")
			if a := s.get(t, merge(asks("spa"), "client_id", id, "redirect_uri", "http://localhost:1/callback")); a.page == nil {
				t.Errorf("%s: no page: %d", what, a.Code)
			}
		}
		if _, err := s.AccessToken(t.Context(), tokens["access_token"].(string), 0); err == nil {
			t.Errorf("%s: the access token is valid", what)
		}
		s.register(t, publicClient).check(t, http.StatusBadRequest, "invalid_client_metadata")
		list, hosts, err := owner.Described(t.Context())
		if err != nil || len(list) != 1 || list[0].ID != id || !list[0].Blocked || list[0].Used.IsZero() || (what == "host") != (len(hosts) == 1) {
			t.Errorf("%s: got %+v, %v, %v", what, list, hosts, err)
		}
		if err := change[1](); err != nil {
			t.Fatal(what, err)
		}
		s.clock.Advance(time.Minute)
		login()
		if err := change[1](); err == nil {
			t.Errorf("%s: unblocked twice", what)
		}
	}
	if err := owner.Block(t.Context(), "webapp"); err == nil {
		t.Error("a client of the configuration was blocked")
	}
	if owned, err := owner.Added(t.Context()); err != nil || len(owned) != 0 {
		t.Errorf("clients that the owner added: %v, %v", owned, err)
	}
	if err := owner.Block(t.Context(), "https://a.example/client.json"); err != nil { // which this server has not seen yet
		t.Error(err)
	}
}

// No page has a link or a picture that a client has named: who registers it would decide what people see.
func TestPagesHaveNoLinksOfRegisteredClients(t *testing.T) {
	s := newTestServer(t, registers())
	const redirect = "https://redirect.example/callback"
	registered := s.register(t, `{"client_name":"An App","redirect_uris":["`+redirect+`"],"token_endpoint_auth_method":"none",
		"grant_types":["authorization_code","refresh_token"],"client_uri":"https://a.unasked.example/","logo_uri":"https://b.unasked.example/logo.png",
		"tos_uri":"https://redirect.example/unasked/tos","policy_uri":"https://redirect.example/unasked/policy"}`)
	registered.check(t, http.StatusCreated, "")
	id := registered.json(t)["client_id"].(string)
	check := func(name string, page answer) {
		t.Helper()
		if text := page.Body.String(); page.Code != http.StatusOK || !strings.Contains(text, "An App") || strings.Contains(text, "unasked") {
			t.Errorf("the page %s: %d %s", name, page.Code, text)
		}
	}
	params := merge(asks("spa"), "client_id", id, "redirect_uri", redirect, "scope", "orders")
	consent := s.get(t, params)
	check("of the consent", consent)
	code := s.decide(t, consent, "allow").location().Get("code")
	s.token(t, redeems(code, "client_id", id, "redirect_uri", redirect)).check(t, http.StatusOK, "")
	check("of the apps", s.do(t, httptest.NewRequest(http.MethodGet, "/oauth/apps", nil)))
}
