package authserver

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// conformance plays the modules of the OpenID Foundation's plans oidcc-basic-certification-test-plan,
// oidcc-formpost-basic-certification-test-plan and oidcc-dynamic-certification-test-plan: the relying party, the browser, and the person in
// front of it. Modules have the names that they have in the suite.
type conformance struct {
	*testServer

	id, redirectURI string
	authenticate    func(t *testing.T) []string // adds these parameters to token requests; nil: webapp with its secret

	mode     string // response_mode; "": the default
	nonce    string // of the last request
	logins   int    // how often the person was at the login page
	consents int
	pages    []string // the texts of the pages that the person saw
}

// keys are the keys of all servers of these tests, as an RSA key takes long to make.
func newConformance(t *testing.T, mode string, keys []byte) *conformance {
	t.Helper()
	s := newTestServer(t, openID(), client("webapp", func(c *storage.Client) {
		c.Scopes = append(c.Scopes, "profile", "address", "phone")
	}), func(c *Config) { c.Keys.Algorithm, c.Keys.File = "ES256", keys })
	return playing(s, mode)
}

// playing returns webapp at a server, before anybody has signed in.
func playing(s *testServer, mode string) *conformance {
	s.site.user, s.site.login, s.site.again = nil, "/login", "/fresh"
	return &conformance{testServer: s, mode: mode, id: "webapp", redirectURI: webRedirect}
}

// request returns an authorization request of the suite, changed by pairs of name and value. It has no PKCE.
func (c *conformance) request(pairs ...string) url.Values {
	params := asks("webapp", "client_id", c.id, "redirect_uri", c.redirectURI, "code_challenge", "", "code_challenge_method", "", "scope", "openid", "nonce", "n-0S6_WzA2Mj", "response_mode", c.mode)
	params = merge(params, pairs...)
	c.nonce = params.Get("nonce")
	return params
}

// authorize sends a request, signs in and allows what is asked, and returns the response that the relying party gets.
func (c *conformance) authorize(t *testing.T, pairs ...string) url.Values {
	t.Helper()
	return c.follow(t, c.get(t, c.request(pairs...)))
}

// follow does what a person does, until the browser is back at the relying party.
func (c *conformance) follow(t *testing.T, a answer) url.Values {
	t.Helper()
	for range 5 {
		to, _ := url.Parse(a.Header().Get("Location"))
		tags, text := pagestest.Parts(strings.NewReader(a.Body.String()))
		c.pages = append(c.pages, text)
		switch {
		case a.Code == http.StatusSeeOther && to.Host == "":
			c.logins++
			c.clock.Advance(2 * time.Second)
			c.site.user = c.person()
			a = c.visit(t, sent(t, a))
		case a.Code == http.StatusSeeOther:
			return to.Query()
		case a.Code != http.StatusOK:
			t.Fatalf("a page with %d: %s", a.Code, text)
		default:
			fields := url.Values{}
			action := ""
			for _, tag := range tags {
				attr := map[string]string{}
				for _, at := range tag.Attr {
					attr[at.Key] = at.Val
				}
				switch tag.Data {
				case "form":
					action = attr["action"]
				case "input":
					fields.Set(attr["name"], attr["value"])
				}
			}
			if action == c.redirectURI { // Form Post Response Mode
				if c.mode != "form_post" || a.Header().Get("Cache-Control") != "no-store" || !strings.Contains(a.Body.String(), "submit()") || !strings.Contains(text, "Continue") {
					t.Errorf("a form for the relying party with %v: %s", a.Header(), a.Body)
				}
				return fields
			}
			c.consents++
			a = c.decide(t, a, "allow")
		}
	}
	t.Fatal("the browser does not come back")
	return nil
}

// person returns the account of the suite, with claims of all scopes, who signs in now.
func (c *conformance) person() *User {
	return &User{Subject: "alice", AuthTime: c.clock.Now(), Claims: map[string]any{
		"name": "Alice Doe", "given_name": "Alice", "family_name": "Doe", "email": "alice@example.com", "email_verified": true,
		"phone_number": "+47 1", "phone_number_verified": true, "address": map[string]any{"locality": "Oslo"},
	}}
}

// exchange gets the tokens for a response, and checks the ID token.
func (c *conformance) exchange(t *testing.T, response url.Values, pairs ...string) (tokens, id map[string]any) {
	t.Helper()
	if response.Get("state") != "xyz" || response.Get("iss") != c.config.URL || response.Get("code") == "" {
		t.Fatalf("the response is %v", response)
	}
	c.seen = append(c.seen, response.Get("code"))
	tokens = c.ask(t, redeems(response.Get("code"), append([]string{"redirect_uri", c.redirectURI, "code_verifier", ""}, pairs...)...))
	id = c.idToken(t, "RS256", tokens["id_token"])
	nonce, _ := id["nonce"].(string)
	if id["iss"] != c.config.URL || id["aud"] != c.id || id["sub"] != "alice" || nonce != c.nonce || id["at_hash"] == nil || tokens["token_type"] != "Bearer" {
		t.Errorf("ID token %v of %v", id, tokens)
	}
	return tokens, id
}

// ask sends a token request of the relying party, which succeeds, and returns the tokens.
func (c *conformance) ask(t *testing.T, form url.Values) map[string]any {
	t.Helper()
	if c.authenticate != nil {
		form = merge(form, c.authenticate(t)...)
	}
	a := c.token(t, form)
	a.check(t, http.StatusOK, "")
	return a.json(t)
}

// wants checks that the userinfo endpoint has claims, and that it has none of others.
func (c *conformance) wants(t *testing.T, tokens map[string]any, claims ...string) {
	t.Helper()
	a := c.userinfo(t, tokens["access_token"])
	a.check(t, http.StatusOK, "")
	info := a.json(t)
	for name := range c.person().Claims {
		if _, ok := info[name]; ok != slices.Contains(claims, name) {
			t.Errorf("userinfo %v, want %v", info, claims)
		}
	}
	if info["sub"] != "alice" {
		t.Errorf("sub %v", info["sub"])
	}
}

// refresh signs in for offline access, calls later if it is not nil, and returns what a refresh gives.
func (c *conformance) refresh(t *testing.T, later func()) map[string]any {
	t.Helper()
	tokens, first := c.exchange(t, c.authorize(t, "scope", "openid offline_access", "prompt", "consent"))
	c.clock.Advance(time.Minute)
	if later != nil {
		later()
	}
	refreshed := c.ask(t, refreshes(tokens["refresh_token"].(string)))
	second := c.idToken(t, "RS256", refreshed["id_token"])
	for _, name := range []string{"iss", "sub", "aud", "auth_time"} {
		if first[name] != second[name] {
			t.Errorf("%s is %v, was %v", name, second[name], first[name])
		}
	}
	if second["iat"].(float64) <= first["iat"].(float64) || refreshed["access_token"] == tokens["access_token"] {
		t.Errorf("ID token %v, was %v", second, first)
	}
	c.wants(t, refreshed)
	return refreshed
}

// unsigned is a request object without a signature.
const unsigned = "eyJhbGciOiJub25lIn0.eyJyZWRpcmVjdF91cmkiOiJodHRwczovL2V2aWwuZXhhbXBsZS8ifQ."

func TestOIDCCBasic(t *testing.T) {
	succeeds := func(pairs ...string) func(*testing.T, *conformance) {
		return func(t *testing.T, c *conformance) {
			t.Helper()
			c.exchange(t, c.authorize(t, pairs...))
		}
	}
	scope := func(scope string, claims ...string) func(*testing.T, *conformance) {
		return func(t *testing.T, c *conformance) {
			t.Helper()
			tokens, _ := c.exchange(t, c.authorize(t, "scope", scope))
			c.wants(t, tokens, claims...)
		}
	}
	// userinfo sends the token in a way of RFC 6750.
	userinfo := func(request func(token string) *http.Request) func(*testing.T, *conformance) {
		return func(t *testing.T, c *conformance) {
			t.Helper()
			tokens, _ := c.exchange(t, c.authorize(t))
			a := c.do(t, request(tokens["access_token"].(string)))
			if a.check(t, http.StatusOK, ""); a.json(t)["sub"] != "alice" {
				t.Errorf("%s", a.Body)
			}
		}
	}
	// again signs in, sends a second request, and returns the ID tokens of both.
	again := func(t *testing.T, c *conformance, pause time.Duration, pairs ...string) (first, second map[string]any) {
		t.Helper()
		_, first = c.exchange(t, c.authorize(t))
		c.clock.Advance(pause)
		_, second = c.exchange(t, c.authorize(t, pairs...))
		return first, second
	}
	refused := func(code string, pairs ...string) func(*testing.T, *conformance) {
		return func(t *testing.T, c *conformance) {
			t.Helper()
			if got := c.authorize(t, pairs...); got.Get("error") != code || got.Get("state") != "xyz" || got.Has("code") {
				t.Errorf("%v, want the error %s", got, code)
			}
		}
	}
	profile, email, phone := []string{"name", "given_name", "family_name"}, []string{"email", "email_verified"}, []string{"phone_number", "phone_number_verified"}
	everything := slices.Concat(profile, email, phone, []string{"address"})

	modules := map[string]func(*testing.T, *conformance){
		"oidcc-server":                succeeds(),
		"oidcc-response-type-missing": refused("invalid_request", "response_type", ""),
		"oidcc-idtoken-signature": func(t *testing.T, c *conformance) { // RS256 and a kid, which idToken checks
			t.Helper()
			c.exchange(t, c.authorize(t))
		},
		"oidcc-userinfo-get": userinfo(func(token string) *http.Request {
			r := httptest.NewRequest(http.MethodGet, "/oauth/userinfo", nil)
			r.Header.Set("Authorization", "Bearer "+token)
			return r
		}),
		"oidcc-userinfo-post-header": userinfo(func(token string) *http.Request {
			r := httptest.NewRequest(http.MethodPost, "/oauth/userinfo", nil)
			r.Header.Set("Authorization", "Bearer "+token)
			return r
		}),
		"oidcc-userinfo-post-body": userinfo(func(token string) *http.Request {
			return postRequest("/oauth/userinfo", url.Values{"access_token": {token}}.Encode())
		}),
		"oidcc-ensure-request-without-nonce-succeeds-for-code-flow": succeeds("nonce", ""),
		"oidcc-scope-profile":                                  scope("openid profile", profile...),
		"oidcc-scope-email":                                    scope("openid email", email...),
		"oidcc-scope-address":                                  scope("openid address", "address"),
		"oidcc-scope-phone":                                    scope("openid phone", phone...),
		"oidcc-scope-all":                                      scope("openid profile email address phone", everything...),
		"oidcc-ensure-other-scope-order-succeeds":              scope("email openid", email...),
		"oidcc-alternate-happy-flow":                           scope("email openid", email...), // its name in a later version of the suite
		"oidcc-display-page":                                   succeeds("display", "page"),
		"oidcc-display-popup":                                  succeeds("display", "popup"),
		"oidcc-login-hint":                                     succeeds("login_hint", "alice@example.com"),
		"oidcc-claims-locales":                                 succeeds("claims_locales", "se"),
		"oidcc-ensure-request-with-acr-values-succeeds":        succeeds("acr_values", "urn:mace:incommon:iap:silver"),
		"oidcc-ensure-request-with-unknown-parameter-succeeds": succeeds("extra", "foobar"),
		"oidcc-ui-locales": func(t *testing.T, c *conformance) {
			t.Helper()
			c.exchange(t, c.authorize(t, "ui_locales", "se fr"))
			if !slices.ContainsFunc(c.pages, func(text string) bool { return strings.Contains(text, "Autoriser") }) {
				t.Errorf("no page speaks French: %q", c.pages)
			}
		},
		"oidcc-prompt-login": func(t *testing.T, c *conformance) {
			t.Helper()
			first, second := again(t, c, time.Minute, "prompt", "login")
			if c.logins != 2 || second["auth_time"].(float64) <= first["auth_time"].(float64) {
				t.Errorf("%d logins, auth_time %v and %v", c.logins, first["auth_time"], second["auth_time"])
			}
		},
		"oidcc-prompt-none-not-logged-in": func(t *testing.T, c *conformance) {
			t.Helper()
			if refused("login_required", "prompt", "none")(t, c); c.logins+c.consents > 0 {
				t.Error("the person saw a page")
			}
		},
		"oidcc-prompt-none-logged-in": func(t *testing.T, c *conformance) {
			t.Helper()
			first, second := again(t, c, time.Minute, "prompt", "none")
			if c.logins != 1 || c.consents != 1 || first["auth_time"] != second["auth_time"] {
				t.Errorf("%d logins, %d consent pages, auth_time %v and %v", c.logins, c.consents, first["auth_time"], second["auth_time"])
			}
		},
		"oidcc-max-age-1": func(t *testing.T, c *conformance) {
			t.Helper()
			first, second := again(t, c, 2*time.Second, "max_age", "1")
			if c.logins != 2 || second["auth_time"].(float64) <= first["auth_time"].(float64) {
				t.Errorf("%d logins, auth_time %v and %v", c.logins, first["auth_time"], second["auth_time"])
			}
		},
		"oidcc-max-age-10000": func(t *testing.T, c *conformance) {
			t.Helper()
			first, second := again(t, c, time.Minute, "max_age", "10000")
			if c.logins != 1 || first["auth_time"] != second["auth_time"] {
				t.Errorf("%d logins, auth_time %v and %v", c.logins, first["auth_time"], second["auth_time"])
			}
		},
		"oidcc-id-token-hint": func(t *testing.T, c *conformance) {
			t.Helper()
			tokens, first := c.exchange(t, c.authorize(t))
			_, second := c.exchange(t, c.authorize(t, "prompt", "none", "id_token_hint", tokens["id_token"].(string)))
			if first["sub"] != second["sub"] || c.logins != 1 {
				t.Errorf("%v, then %v, %d logins", first, second, c.logins)
			}
		},
		"oidcc-codereuse": func(t *testing.T, c *conformance) {
			t.Helper()
			response := c.authorize(t)
			c.exchange(t, response)
			c.token(t, redeems(response.Get("code"), "code_verifier", "")).check(t, http.StatusBadRequest, "invalid_grant")
		},
		"oidcc-codereuse-30seconds": func(t *testing.T, c *conformance) {
			t.Helper()
			response := c.authorize(t)
			tokens, _ := c.exchange(t, response)
			c.clock.Advance(30 * time.Second)
			c.token(t, redeems(response.Get("code"), "code_verifier", "")).check(t, http.StatusBadRequest, "invalid_grant")
			if a := c.userinfo(t, tokens["access_token"]); a.Code != http.StatusUnauthorized {
				t.Errorf("the tokens of the code still work: %d %s", a.Code, a.Body)
			}
		},
		"oidcc-ensure-registered-redirect-uri": func(t *testing.T, c *conformance) {
			t.Helper()
			a := c.get(t, c.request("redirect_uri", webRedirect+"/x"))
			a.check(t, http.StatusBadRequest, "invalid_request")
			checkErrorPage(t, a)
		},
		"oidcc-ensure-post-request-succeeds": func(t *testing.T, c *conformance) {
			t.Helper()
			c.exchange(t, c.follow(t, c.post(t, c.request())))
		},
		"oidcc-server-client-secret-post": func(t *testing.T, c *conformance) {
			t.Helper()
			c.exchange(t, c.authorize(t), "client_id", "webapp", "client_secret", webSecret)
		},
		"oidcc-unsigned-request-object-supported-correctly-or-rejected-as-unsupported": refused("request_not_supported", "request", unsigned),
		"oidcc-ensure-request-object-with-redirect-uri": func(t *testing.T, c *conformance) {
			t.Helper()
			// The object names another redirect URI: the answer goes where the request itself says, or nowhere.
			refused("request_not_supported", "request", unsigned)(t, c)
			checkErrorPage(t, c.get(t, c.request("request", unsigned, "redirect_uri", "https://evil.example/")))
		},
		"oidcc-request-uri-unsigned-supported-correctly-or-rejected-as-unsupported": refused("request_uri_not_supported", "request_uri", "https://app.example.com/request.jwt"),
		"oidcc-claims-essential": func(t *testing.T, c *conformance) {
			t.Helper()
			tokens, _ := c.exchange(t, c.authorize(t, "claims", `{"userinfo": {"name": {"essential": true}}}`))
			c.wants(t, tokens, "name")
		},
		"oidcc-refresh-token": func(t *testing.T, c *conformance) {
			t.Helper()
			refreshed := c.refresh(t, nil)
			other := c.token(t, refreshes(refreshed["refresh_token"].(string), "client_id", "spa")) // another client
			other.check(t, http.StatusBadRequest, "invalid_grant")
		},
		"oidcc-ensure-request-with-valid-pkce-succeeds": func(t *testing.T, c *conformance) {
			t.Helper()
			c.exchange(t, c.authorize(t, "code_challenge", s256(testVerifier), "code_challenge_method", "S256"), "code_verifier", testVerifier)
		},
	}
	keys := signingKeys(t)
	for mode, plan := range map[string]string{"": "basic", "form_post": "formpost-basic"} {
		for name, module := range modules {
			t.Run(plan+"/"+name, func(t *testing.T) { module(t, newConformance(t, mode, keys)) })
		}
	}
}
