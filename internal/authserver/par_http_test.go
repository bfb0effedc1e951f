package authserver

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// push pushes an authorization request of webapp, or of a public client.
func (s *testServer) push(t *testing.T, params url.Values) answer {
	t.Helper()
	r := postRequest("/oauth/par", params.Encode())
	if params.Get("client_id") == "webapp" {
		r.SetBasicAuth("webapp", url.QueryEscape(webSecret))
	}
	return s.do(t, r)
}

// pushed pushes a request, and returns the parameters that the browser brings.
func (s *testServer) pushed(t *testing.T, params url.Values) url.Values {
	t.Helper()
	a := s.push(t, params)
	a.check(t, http.StatusCreated, "")
	reference, _ := a.json(t)["request_uri"].(string)
	s.seen = append(s.seen, strings.TrimPrefix(reference, "urn:ietf:params:oauth:request_uri:"))
	return url.Values{"client_id": {params.Get("client_id")}, "request_uri": {reference}}
}

// RFC 9126 §2.2, §4.
func TestPushedRequest(t *testing.T) {
	for _, client := range []string{"webapp", "spa"} {
		s := newTestServer(t)
		a := s.push(t, asks(client, "scope", "orders"))
		a.check(t, http.StatusCreated, "")
		body := a.json(t)
		if len(body) != 2 || body["expires_in"] != float64(90) || a.Header().Get("Cache-Control") != "no-store" || a.Header().Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%v %v", body, a.Header())
		}
		if uri, _ := body["request_uri"].(string); !strings.HasPrefix(uri, "urn:ietf:params:oauth:request_uri:") || len(uri) < 34+43 {
			t.Errorf("request_uri %q", uri)
		}
		browser := s.pushed(t, asks(client, "scope", "orders"))
		page := s.get(t, merge(browser, "scope", "profile", "state", "other", "redirect_uri", "https://evil.example/", "prompt", "none")) // which are ignored
		page.check(t, http.StatusOK, "")
		if !strings.Contains(text(page), "your orders") || strings.Contains(text(page), "your name") {
			t.Errorf("the page asks for something else: %s", text(page))
		}
		got := s.decide(t, page, "allow")
		if got.Code != http.StatusSeeOther || got.location().Get("state") != "xyz" || got.location().Get("code") == "" ||
			!strings.HasPrefix(got.Header().Get("Location"), testClients()[client].RedirectURIs[0]) {
			t.Errorf("%d %s", got.Code, got.Header().Get("Location"))
		}
		form := redeems(got.location().Get("code"))
		if client == "spa" {
			form = merge(form, "client_id", "spa", "redirect_uri", testClients()["spa"].RedirectURIs[0])
		}
		s.token(t, form).check(t, http.StatusOK, "")
	}
}

// RFC 9126 §2.1, §2.3: all checks of the authorization endpoint, at once and as JSON.
func TestPushedRequestRefusals(t *testing.T) {
	for name, tt := range map[string]struct {
		params url.Values
		status int
		code   string
	}{
		"RFC 9126 §2.1 request_uri":     {asks("webapp", "request_uri", "urn:ietf:params:oauth:request_uri:x"), http.StatusBadRequest, "invalid_request"},
		"request object":                {asks("webapp", "request", "x"), http.StatusBadRequest, "request_not_supported"},
		"another redirect_uri":          {asks("webapp", "redirect_uri", "https://evil.example/"), http.StatusBadRequest, "invalid_request"},
		"scope":                         {asks("webapp", "scope", "admin"), http.StatusBadRequest, "invalid_scope"},
		"resource":                      {asks("webapp", "resource", "https://other.example"), http.StatusBadRequest, "invalid_target"},
		"response_type":                 {asks("webapp", "response_type", "token"), http.StatusBadRequest, "unsupported_response_type"},
		"no PKCE of a public client":    {asks("spa", "code_challenge", "", "code_challenge_method", ""), http.StatusBadRequest, "invalid_request"},
		"unknown client":                {merge(asks("spa"), "client_id", "nobody"), http.StatusUnauthorized, "invalid_client"},
		"a client without the type":     {merge(asks("spa"), "client_id", "billing", "client_secret", webSecret), http.StatusBadRequest, "invalid_request"},
		"wrong secret":                  {merge(asks("spa"), "client_id", "billing", "client_secret", "wrong"), http.StatusUnauthorized, "invalid_client"},
		"RFC 9126 §2.3 too large":       {asks("webapp", "state", strings.Repeat("x", 16<<10)), http.StatusRequestEntityTooLarge, "invalid_request"},
		"RFC 9126 §2.3 much too large":  {asks("webapp", "state", strings.Repeat("x", 100<<10)), http.StatusRequestEntityTooLarge, "invalid_request"},
		"prompt=none and something":     {asks("webapp", "prompt", "none login"), http.StatusBadRequest, "invalid_request"},
		"nonce of more than 512 bytes":  {asks("webapp", "nonce", strings.Repeat("n", 513)), http.StatusBadRequest, "invalid_request"},
		"max_age that is not a number":  {asks("webapp", "max_age", "soon"), http.StatusBadRequest, "invalid_request"},
		"an unknown mode of a response": {asks("webapp", "response_mode", "jwt"), http.StatusBadRequest, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t)
			a := s.push(t, tt.params)
			a.check(t, tt.status, tt.code)
			if a.page != nil || a.Header().Get("Location") != "" {
				t.Errorf("the answer is no JSON: %s", a.Body)
			}
			if n := s.store.Count(t, storage.KindPushed); n != 0 {
				t.Errorf("%d records", n)
			}
		})
	}
	s := newTestServer(t)
	s.do(t, httptest.NewRequest(http.MethodGet, "/oauth/par", nil)).check(t, http.StatusMethodNotAllowed, "invalid_request")
}

func TestPushedRequestHasNoSecret(t *testing.T) {
	s := newTestServer(t)
	params := merge(asks("webapp"), "client_secret", webSecret)
	s.do(t, postRequest("/oauth/par", params.Encode())).check(t, http.StatusCreated, "")
	for id, err := range s.store.List(t.Context(), storage.KindPushed) {
		if err != nil {
			t.Fatal(err)
		}
		record, err := s.store.Get(t.Context(), storage.Key{Kind: storage.KindPushed, ID: id})
		if err != nil || strings.Contains(string(record), "secret") {
			t.Errorf("%v %s", err, record)
		}
	}
}

// A page can be loaded again until the person has decided, and the reference cannot be used after that (RFC 9126 §4, §7.3).
func TestPushedRequestIsUsedOnce(t *testing.T) {
	gone := func(t *testing.T, s *testServer, browser url.Values) {
		t.Helper()
		if a := s.get(t, browser); a.page == nil || a.page.Err.Code != "invalid_request_uri" || a.Code != http.StatusBadRequest {
			t.Errorf("the reference still works: %d %s", a.Code, a.Body)
		}
	}
	t.Run("reload before the login and before the decision", func(t *testing.T) {
		s := newTestServer(t)
		browser := s.pushed(t, asks("webapp"))
		s.site.user, s.site.login = nil, "https://example.com/login"
		for range 2 {
			a := s.get(t, browser)
			to, _ := url.Parse(a.location().Get("return_to"))
			if a.Code != http.StatusSeeOther || to.Path != "/oauth/authorize" || to.RawQuery != browser.Encode() {
				t.Fatalf("%d %s", a.Code, a.Header().Get("Location"))
			}
		}
		s.site.user = &User{Subject: "alice"}
		s.clock.Advance(30 * time.Minute) // at the login page
		s.get(t, browser).check(t, http.StatusOK, "")
		page := s.get(t, browser)
		other := s.get(t, browser)
		if s.decide(t, page, "allow").location().Get("code") == "" {
			t.Fatal("no code")
		}
		gone(t, s, browser)
		s.decide(t, other, "allow").check(t, http.StatusSeeOther, "invalid_request_uri")
		if n := s.store.Count(t, storage.KindFamily); n != 1 {
			t.Errorf("%d codes", n)
		}
	})
	t.Run("a double click", func(t *testing.T) {
		s := newTestServer(t)
		browser := s.pushed(t, asks("webapp"))
		page, other := s.get(t, browser), s.get(t, browser)
		first := s.decide(t, page, "allow").location().Get("code")
		s.clock.Advance(9 * time.Second)
		second := s.decide(t, page, "allow").location().Get("code")
		if first == "" || second == "" {
			t.Fatalf("the codes are %q and %q", first, second)
		}
		s.token(t, redeems(second)).check(t, http.StatusOK, "")
		s.decide(t, other, "allow").check(t, http.StatusSeeOther, "invalid_request_uri")
		gone(t, s, browser)
		alice := s.site.user
		s.site.user = &User{Subject: "bob"}
		checkErrorPage(t, s.decide(t, page, "allow"))
		s.site.user = alice
		s.clock.Advance(time.Second)
		s.decide(t, page, "allow").check(t, http.StatusSeeOther, "invalid_request_uri")
	})
	t.Run("approved before", func(t *testing.T) {
		s := newTestServer(t)
		s.code(t, asks("webapp"))
		browser := s.pushed(t, asks("webapp"))
		if s.get(t, browser).location().Get("code") == "" {
			t.Fatal("no code")
		}
		gone(t, s, browser)
	})
	t.Run("denied", func(t *testing.T) {
		s := newTestServer(t)
		browser := s.pushed(t, asks("webapp"))
		s.decide(t, s.get(t, browser), "deny").check(t, http.StatusSeeOther, "access_denied")
		gone(t, s, browser)
	})
	t.Run("expired", func(t *testing.T) {
		s := newTestServer(t)
		browser := s.pushed(t, asks("webapp"))
		s.clock.Advance(90 * time.Second)
		gone(t, s, browser)
	})
	t.Run("another client's", func(t *testing.T) {
		s := newTestServer(t)
		browser := s.pushed(t, asks("webapp"))
		gone(t, s, merge(browser, "client_id", "spa"))
		gone(t, s, merge(browser, "client_id", ""))
		gone(t, s, merge(browser, "request_uri", browser.Get("request_uri")+"x"))
		gone(t, s, merge(browser, "request_uri", "urn:ietf:params:oauth:request_uri:invented"))
		s.get(t, browser).check(t, http.StatusOK, "")
		s.get(t, merge(asks("webapp"), "request_uri", "https://app.example.com/request")).check(t, http.StatusSeeOther, "request_uri_not_supported")
	})
}

// OpenID Connect Core §3.1.2.1: its parameters work as they do in a URL.
func TestPushedOpenIDRequest(t *testing.T) {
	s := newTestServer(t, openID(), withoutConsent("webapp"))
	s.site.login = "https://example.com/login"
	s.site.user.AuthTime = s.clock.Now().Add(-time.Hour)
	browser := s.pushed(t, asks("webapp", "scope", "openid", "nonce", "n-1", "max_age", "60", "ui_locales", "de", "login_hint", "alice"))
	a := s.get(t, browser)
	to, err := url.Parse(a.location().Get("return_to"))
	if err != nil || to.Path != "/oauth/authorize" {
		t.Fatalf("%d %s", a.Code, a.Header().Get("Location"))
	}
	back := to.Query()
	if len(back) != 3 || back.Get(afterLogin) == "" || back.Get("request_uri") != browser.Get("request_uri") {
		t.Fatalf("it comes back with %v", back)
	}
	s.clock.Advance(10 * time.Second)
	s.site.user.AuthTime = s.clock.Now()
	r := httptest.NewRequest(http.MethodGet, "/oauth/authorize?"+back.Encode(), nil)
	for _, cookie := range a.Result().Cookies() {
		r.AddCookie(cookie)
	}
	got := s.do(t, r)
	code := got.location().Get("code")
	if code == "" {
		t.Fatalf("no code: %d %s", got.Code, got.Header().Get("Location"))
	}
	tokens := s.token(t, redeems(code))
	tokens.check(t, http.StatusOK, "")
	if claims := s.idToken(t, "RS256", tokens.json(t)["id_token"]); claims["nonce"] != "n-1" {
		t.Errorf("claims: %v", claims)
	}
	german := s.get(t, s.pushed(t, asks("webapp", "scope", "openid", "prompt", "consent", "ui_locales", "de")))
	if german.Code != http.StatusOK || german.Header().Get("Content-Language") != "de" {
		t.Errorf("%d in %s: %s", german.Code, german.Header().Get("Content-Language"), german.Header().Get("Location"))
	}
}

// RFC 9126 §5, §6.
func TestPushedRequestsAreRequired(t *testing.T) {
	for name, edit := range map[string]func(*Config){
		"of all clients": func(c *Config) { c.RequirePushed = true },
		"of the client":  client("webapp", func(c *storage.Client) { c.RequirePushed = true }),
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, edit)
			s.get(t, asks("webapp")).check(t, http.StatusSeeOther, "invalid_request")
			if s.decide(t, s.get(t, s.pushed(t, asks("webapp"))), "allow").location().Get("code") == "" {
				t.Error("no code for a pushed request")
			}
			if other := s.get(t, asks("spa")); (other.Code == http.StatusOK) != (name == "of the client") {
				t.Errorf("another client: %d %s", other.Code, other.Header().Get("Location"))
			}
			metadata := s.fetch(t, wellKnown).json(t)
			if metadata["pushed_authorization_request_endpoint"] != testIssuer+"/oauth/par" ||
				(metadata["require_pushed_authorization_requests"] == true) != (name == "of all clients") {
				t.Errorf("%v", metadata)
			}
		})
	}
}

func TestPushedRequestsAreBounded(t *testing.T) {
	s := newTestServer(t)
	for range 300 {
		s.push(t, asks("spa")).check(t, http.StatusCreated, "")
	}
	a := s.push(t, asks("spa"))
	a.check(t, http.StatusTooManyRequests, "temporarily_unavailable")
	if a.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	s.push(t, asks("webapp")).check(t, http.StatusCreated, "") // it has authenticated
}

// Anybody can register a client with a secret, which must not lift the limit of their address.
func TestPushedRequestsOfRegisteredClientsAreBounded(t *testing.T) {
	s := newTestServer(t, registers())
	client := s.register(t, `{"redirect_uris":["https://a.example/cb"],"grant_types":["authorization_code"]}`).json(t)
	id, secret := client["client_id"].(string), client["client_secret"].(string)
	push := func() answer {
		r := postRequest("/oauth/par", merge(asks("spa"), "client_id", id, "redirect_uri", "https://a.example/cb").Encode())
		r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
		return s.do(t, r)
	}
	for range 300 {
		push().check(t, http.StatusCreated, "")
	}
	push().check(t, http.StatusTooManyRequests, "temporarily_unavailable")
	s.site.address = "192.0.2.8"
	push().check(t, http.StatusCreated, "")
}

// Before anybody has signed in, one address keeps only so many pushed requests for a login, and for the time of a login.
func TestPushedRequestsKeptForALoginAreBounded(t *testing.T) {
	s := newTestServer(t)
	alice := s.site.user
	s.site.user, s.site.login = nil, "https://example.com/login"
	var requests []url.Values
	for range 301 {
		browser := s.pushed(t, asks("webapp"))
		for range 2 { // a reload is not another one
			s.get(t, browser).check(t, http.StatusSeeOther, "")
		}
		requests = append(requests, browser)
	}
	first, last := requests[0], requests[300]
	works := func(browser url.Values, want bool) {
		t.Helper()
		if a := s.get(t, browser); (a.Code == http.StatusOK) != want {
			t.Errorf("%d %s", a.Code, a.Body)
		}
	}
	s.site.user = alice
	works(last, true) // within 90 seconds. From now on it is kept for alice
	s.clock.Advance(time.Hour)
	works(requests[1], true)
	s.clock.Advance(90 * time.Second)
	works(first, false)
	s.clock.Advance(50 * time.Minute)
	works(last, true)
	works(requests[1], true)

	s.site.user = nil
	s.site.address = "192.0.2.8"
	for range 300 {
		s.get(t, s.pushed(t, asks("webapp")))
	}
	late := s.pushed(t, asks("webapp"))
	s.get(t, late).check(t, http.StatusSeeOther, "")
	s.clock.Advance(90 * time.Second)
	s.site.user = alice
	works(late, false)
}

func TestPushedRequestAtAReadOnlyIssuer(t *testing.T) {
	s := newTestServer(t)
	browser := s.pushed(t, asks("webapp"))
	page := s.get(t, browser)
	s.readOnly(t)
	putOff(t, "push", s.push(t, asks("webapp")))
	s.decide(t, page, "allow").check(t, http.StatusSeeOther, "temporarily_unavailable")
}

func TestPushedRequestStoreFails(t *testing.T) {
	s, store := newFaultyServer(t, time.Second)
	browser := s.pushed(t, asks("webapp"))
	store.fail(full)
	putOff(t, "push", s.push(t, asks("webapp")))
	putOff(t, "authorize", s.get(t, browser))
	store.mend()
	if s.decide(t, s.get(t, browser), "allow").location().Get("code") == "" {
		t.Error("no code")
	}
}

// RFC 9449 §10.1: a proof that comes with the pushed request binds the code to its key, as dpop_jkt does.
func TestPushedRequestWithAProof(t *testing.T) {
	s := newTestServer(t)
	p, thief := jwttest.NewProver(t, "ES256", s.clock.Now), jwttest.NewProver(t, "ES256", s.clock.Now)
	push := func(params url.Values) answer {
		r := postRequest("/oauth/par", params.Encode())
		r.Header.Set("DPoP", p.Prove(t, http.MethodPost, testIssuer+"/oauth/par", ""))
		return s.do(t, r)
	}
	push(asks("spa", "dpop_jkt", thief.Thumbprint)).check(t, http.StatusBadRequest, "invalid_dpop_proof")
	a := push(asks("spa"))
	a.check(t, http.StatusCreated, "")
	reference := a.json(t)["request_uri"].(string)
	code := s.decide(t, s.get(t, url.Values{"client_id": {"spa"}, "request_uri": {reference}}), "allow").location().Get("code")
	s.token(t, spaRedeems(code)).check(t, http.StatusBadRequest, "invalid_grant")
	s.token(t, spaRedeems(code), proof(t, thief)).check(t, http.StatusBadRequest, "invalid_grant")
	s.token(t, spaRedeems(code), proof(t, p)).check(t, http.StatusOK, "")
}
