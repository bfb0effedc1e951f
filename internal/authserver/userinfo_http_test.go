package authserver

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// profile is what the site of these tests knows of alice.
func profile() map[string]any {
	return map[string]any{
		"name": "Älice", "email": "alice@example.com", "email_verified": true, "team": []any{"red", "blue"}, "sub": "forged", "iss": "forged",
	}
}

// signIn signs alice in to webapp, and returns the tokens.
func (s *testServer) signIn(t *testing.T, scope string) map[string]any {
	t.Helper()
	a := s.token(t, redeems(s.code(t, asks("webapp", "scope", scope))))
	a.check(t, http.StatusOK, "")
	return a.json(t)
}

// userinfo asks the userinfo endpoint with a token in the header.
func (s *testServer) userinfo(t *testing.T, token any) answer {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/oauth/userinfo", nil)
	r.Header.Set("Authorization", "Bearer "+token.(string))
	return s.do(t, r)
}

// accessTokenShapes are all forms of access tokens. The userinfo endpoint says the same with each.
var accessTokenShapes = map[string]func(*Config){
	"JWT":     func(*Config) {},
	"opaque":  opaque("acc_", 0),
	"minimal": func(c *Config) { c.AccessToken.Minimal = true },
	"renamed": func(c *Config) {
		c.AccessToken.Rename = map[string]string{"sub": "user_id", "email": "mail", "team": "name"} // which replaces the name
	},
	"opaque and renamed": func(c *Config) {
		opaque("", 0)(c)
		c.AccessToken.Rename = map[string]string{"sub": "user_id", "email": "mail"}
	},
}

// OpenID Connect Core §5.3.2: sub always, and the claims of the granted scopes.
func TestUserinfo(t *testing.T) {
	for name, shape := range accessTokenShapes {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, openID(), client("webapp", func(c *storage.Client) { c.Scopes = append(c.Scopes, "address") }), shape)
			s.site.user = &User{Subject: "alice", Claims: profile(), AuthTime: epoch, Session: storage.SiteSession{ID: "s1", ACR: "mfa"}}
			email := map[string]any{"sub": "alice", "email": "alice@example.com", "email_verified": true, "team": []any{"red", "blue"}}
			for scope, want := range map[string]map[string]any{
				"openid":                {"sub": "alice", "team": []any{"red", "blue"}},
				"openid email":          email,
				"openid email address":  email,
				"openid profile orders": {"sub": "alice", "name": "Älice", "team": []any{"red", "blue"}},
			} {
				if name == "renamed" {
					delete(want, "name") // whose place in the token team has taken
				}
				a := s.userinfo(t, s.signIn(t, scope)["access_token"])
				a.check(t, http.StatusOK, "")
				if got := a.json(t); !reflect.DeepEqual(got, want) {
					t.Errorf("%s: %v, want %v", scope, got, want)
				}
				if h := a.Header(); h.Get("Cache-Control") != "no-store" || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Set-Cookie") != "" {
					t.Errorf("headers %v", h)
				}
			}
		})
	}
}

// RFC 6750 §2, Core §5.3.1: the token is in the header or in a form, and once.
func TestUserinfoRequests(t *testing.T) {
	s := newTestServer(t, openID())
	token := s.signIn(t, "openid")["access_token"].(string)
	basic := httptest.NewRequest(http.MethodGet, "/", nil)
	basic.SetBasicAuth("webapp", url.QueryEscape(webSecret))
	form := header("Content-Type", "application/x-www-form-urlencoded")
	for _, tt := range []struct {
		name, method, target, body string
		header                     []string // of Authorization
		status                     int
		code                       string
	}{
		{"GET", "GET", "", "", []string{"Bearer " + token}, 200, ""},
		{"HEAD", "HEAD", "", "", []string{"Bearer " + token}, 200, ""},
		{"POST", "POST", "", "", []string{"bearer  " + token + " "}, 200, ""},
		{"a form", "POST", "", "access_token=" + token, nil, 200, ""},
		{"a form with more in it", "POST", "", "x=y&access_token=" + token, nil, 200, ""},
		{"another header too", "POST", "", "access_token=" + token, basic.Header.Values("Authorization"), 200, ""},
		{"no token", "GET", "", "", nil, 401, invalidToken},
		{"an empty token", "GET", "", "", []string{"Bearer "}, 401, invalidToken},
		{"another method", "GET", "", "", basic.Header.Values("Authorization"), 401, invalidToken},
		{"a form without a token", "POST", "", "x=y", nil, 401, invalidToken},
		{"header and form", "POST", "", "access_token=" + token, []string{"Bearer " + token}, 400, "invalid_request"},
		{"two headers", "GET", "", "", []string{"Bearer " + token, "Bearer " + token}, 400, "invalid_request"},
		{"twice in the form", "POST", "", "access_token=" + token + "&access_token=" + token, nil, 400, "invalid_request"},
		{"in the query", "GET", "?access_token=" + token, "", nil, 400, "invalid_request"},
		{"escaped in the query", "GET", "?access%5Ftoken=" + token, "", []string{"Bearer " + token}, 400, "invalid_request"},
		{"another form", "POST", "", "access_token=%zz", nil, 400, "invalid_request"},
		{"a form that is too large", "POST", "", "x=" + strings.Repeat("x", maxBody), nil, 413, "invalid_request"},
		{"another token", "GET", "", "", []string{"Bearer " + token + "x"}, 401, invalidToken},
		{"not ASCII", "GET", "", "", []string{"Bearer Ä\xff"}, 401, invalidToken},
		{"another HTTP method", "DELETE", "", "", []string{"Bearer " + token}, 405, "invalid_request"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, "/oauth/userinfo"+tt.target, strings.NewReader(tt.body))
			for _, value := range tt.header {
				r.Header.Add("Authorization", value)
			}
			if tt.body != "" {
				form(r)
			}
			a := s.do(t, r)
			a.check(t, tt.status, tt.code)
			challenge := a.Header().Get("WWW-Authenticate")
			switch {
			case tt.status == 200 && a.json(t)["sub"] != "alice":
				t.Errorf("got %s", a.Body)
			case tt.status == 400 && !strings.Contains(challenge, `error="invalid_request"`),
				tt.status == 401 && !strings.HasPrefix(challenge, `Bearer realm="`+testIssuer+`"`),
				strings.Contains(tt.name, "without") && strings.Contains(challenge, "error"): // RFC 6750 §3.1
				t.Errorf("challenge %q", challenge)
			}
		})
	}
	preflight := httptest.NewRequest(http.MethodOptions, "/oauth/userinfo", nil)
	preflight.Header.Set("Access-Control-Request-Headers", "authorization")
	if a := s.do(t, preflight); a.Code != 204 || a.Header().Get("Access-Control-Allow-Headers") != "authorization" {
		t.Errorf("preflight: %d %v", a.Code, a.Header())
	}
	if newTestServer(t).Endpoint("/oauth/userinfo") != nil {
		t.Error("without openid, there is a userinfo endpoint")
	}
}

// Whatever is no access token of a person for this endpoint gets nothing.
func TestUserinfoRefuses(t *testing.T) {
	for name, shape := range accessTokenShapes {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, openID(), shape)
			other := newTestServer(t, openID(), shape, func(c *Config) { c.URL = "https://other.example" })
			machine := s.token(t, url.Values{"grant_type": {"client_credentials"}}, func(r *http.Request) {
				r.SetBasicAuth("billing", url.QueryEscape(webSecret))
			}).json(t)
			tokens := s.signIn(t, "openid")
			revoked := s.signIn(t, "openid")
			s.revokeToken(t, revoked["access_token"])
			for what, token := range map[string]any{
				"an ID token": tokens["id_token"], "a refresh token": tokens["refresh_token"], "of another issuer": other.signIn(t, "openid")["access_token"],
				"of nobody": foreignToken(t), "of a client for itself": machine["access_token"], "revoked": revoked["access_token"],
			} {
				a := s.userinfo(t, token)
				a.check(t, http.StatusUnauthorized, invalidToken)
				if challenge := a.Header().Get("WWW-Authenticate"); !strings.Contains(challenge, `error="invalid_token"`) {
					t.Errorf("%s: challenge %q", what, challenge)
				}
			}
			a := s.userinfo(t, s.signIn(t, "orders")["access_token"])
			a.check(t, http.StatusForbidden, insufficientScope)
			if challenge := a.Header().Get("WWW-Authenticate"); !strings.Contains(challenge, `error="insufficient_scope"`) || !strings.Contains(challenge, `scope="openid"`) {
				t.Errorf("challenge %q", challenge)
			}

			narrowed := s.token(t, refreshes(tokens["refresh_token"].(string), "scope", "openid")).json(t)
			s.userinfo(t, narrowed["access_token"]).check(t, http.StatusOK, "")
			s.restart(t, s.config)
			s.userinfo(t, narrowed["access_token"]).check(t, http.StatusOK, "")

			s.clock.Advance(10 * time.Minute)
			s.userinfo(t, narrowed["access_token"]).check(t, http.StatusUnauthorized, invalidToken)
		})
	}
}

// A client that the owner has taken out of the configuration, or that may sign nobody in any more, learns nothing more.
func TestUserinfoOfAClientThatIsGone(t *testing.T) {
	s := newTestServer(t, openID())
	token := s.signIn(t, "openid")["access_token"]
	config := s.config
	config.Clients = testClients()
	s.restart(t, config)
	s.userinfo(t, token).check(t, http.StatusUnauthorized, invalidToken)
	delete(config.Clients, "webapp")
	s.restart(t, config)
	s.userinfo(t, token).check(t, http.StatusUnauthorized, invalidToken)
}

// A refresh that asks for less gets less from the userinfo endpoint too.
func TestUserinfoAfterANarrowerRefresh(t *testing.T) {
	s := newTestServer(t, openID())
	s.site.user.Claims = profile()
	tokens := s.signIn(t, "openid email")
	narrowed := s.token(t, refreshes(tokens["refresh_token"].(string), "scope", "openid")).json(t)
	if got := s.userinfo(t, narrowed["access_token"]).json(t); got["email"] != nil || got["sub"] != "alice" {
		t.Errorf("got %v", got)
	}
	if got := s.userinfo(t, tokens["access_token"]).json(t); got["email"] != "alice@example.com" {
		t.Errorf("got %v", got)
	}
}

// Core §5.3.2: a client that has asked for it gets a signed answer, with iss and aud.
func TestSignedUserinfo(t *testing.T) {
	for _, alg := range []string{"RS256", "ES256"} {
		s := newTestServer(t, openID(func(p *storage.OpenIDPolicy) { p.UserinfoAlgorithm = alg }))
		s.site.user.Claims = profile()
		a := s.userinfo(t, s.signIn(t, "openid email")["access_token"])
		a.check(t, http.StatusOK, "")
		if got := a.Header().Get("Content-Type"); got != "application/jwt" {
			t.Errorf("Content-Type %q", got)
		}
		got := s.idToken(t, alg, a.Body.String())
		want := map[string]any{
			"sub": "alice", "email": "alice@example.com", "email_verified": true, "team": []any{"red", "blue"}, "iss": testIssuer, "aud": "webapp",
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", alg, got, want)
		}
		s.userinfo(t, a.Body.String()).check(t, http.StatusUnauthorized, invalidToken)
	}
}

// Whoever guesses tokens at the userinfo endpoint is throttled as at a guard, and valid tokens always pass.
func TestUserinfoIsThrottled(t *testing.T) {
	s := newTestServer(t, openID(), func(c *Config) { c.Limits.Tokens = throttle.Limit{Burst: 3, Every: time.Minute} })
	token := s.signIn(t, "openid")["access_token"]
	for range 3 {
		s.userinfo(t, "guess").check(t, http.StatusUnauthorized, invalidToken)
	}
	a := s.userinfo(t, "guess")
	a.check(t, http.StatusTooManyRequests, "temporarily_unavailable")
	if a.Header().Get("Retry-After") == "" || a.Header().Get("WWW-Authenticate") != "" {
		t.Errorf("headers %v", a.Header())
	}
	s.userinfo(t, token).check(t, http.StatusOK, "")
}

// For a JWT of a configured client, no record is read: the userinfo endpoint works while the store does not.
func TestUserinfoWithoutStore(t *testing.T) {
	s := newTestServer(t, openID())
	token := s.signIn(t, "openid")["access_token"]
	s.store.Err = errDown
	s.userinfo(t, token).check(t, http.StatusOK, "")

	s = newTestServer(t, openID(), opaque("", 0))
	token = s.signIn(t, "openid")["access_token"]
	s.restart(t, s.config) // which has not read the record
	s.store.Err = errDown
	s.userinfo(t, token).check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
}

// OpenID Connect Discovery §3.
func TestOpenIDMetadata(t *testing.T) {
	s := newTestServer(t, openID(func(p *storage.OpenIDPolicy) { p.UserinfoAlgorithm = "ES256" }), func(c *Config) {
		c.UserinfoAlgorithms = []string{"ES256"}
	})
	for _, facts := range []SiteFacts{{Claims: []string{"name", "email"}}, {Claims: []string{"groups", "email", "auth_time"}, ACRValues: []string{"pwd", "mfa"}}} {
		if err := s.AddSite(facts); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range wellKnownNames {
		got := s.fetch(t, path).json(t)
		for name, want := range map[string]any{
			"issuer":                                testIssuer,
			"userinfo_endpoint":                     testIssuer + "/oauth/userinfo",
			"subject_types_supported":               []any{"public"},
			"id_token_signing_alg_values_supported": []any{"RS256"},
			"userinfo_signing_alg_values_supported": []any{"ES256"},
			"claim_types_supported":                 []any{"normal"},
			"claims_parameter_supported":            true,
			"acr_values_supported":                  []any{"pwd", "mfa"},
			"prompt_values_supported":               []any{"none", "login", "consent", "select_account"},
			"claims_supported":                      []any{"sub", "auth_time", "email", "groups", "name"},
			"request_parameter_supported":           false,
			"request_uri_parameter_supported":       false,
			"scopes_supported":                      []any{"profile", "orders", "admin", "openid", "email", "address", "phone", "offline_access"},
			"ui_locales_supported":                  []any{"en", "ar", "de", "es", "fr", "ja", "zh-Hans"},
		} {
			if !equalJSON(got[name], want) {
				t.Errorf("%s: %s is %v, want %v", path, name, got[name], want)
			}
		}
	}
	got := newTestServer(t).fetch(t, wellKnown).json(t)
	for _, name := range []string{"userinfo_endpoint", "claims_supported", "subject_types_supported", "request_uri_parameter_supported"} {
		if got[name] != nil {
			t.Errorf("without openid, %s is %v", name, got[name])
		}
	}
}

// The pages have words for the scopes of OpenID Connect, in the language of the browser; those of the owner come first.
func TestWordsOfStandardScopes(t *testing.T) {
	s := newTestServer(t, openID(), func(c *Config) { c.Scopes[0].Languages = map[string]string{"de": "Ihren Namen"} })
	for _, tt := range []struct{ language, scope, want string }{
		{"en", "openid", "The app webapp wants to sign you in with your account on example.com"},
		{"en", "openid", "sign you in with your account here"},
		{"en", "openid email", "see your email address"},
		{"en", "openid profile", "your name"},
		{"de", "openid profile", "Ihren Namen"},
		{"de", "openid email", "The app webapp möchte Sie mit Ihrem Konto bei example.com anmelden"},
		{"en", "openid orders", "The app webapp wants to access your account on example.com"},
		{"en", "openid offline_access", "The app webapp wants to access your account on example.com"},
		{"en", "orders", "The app webapp wants to access your account on example.com"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/oauth/authorize?"+asks("webapp", "scope", tt.scope).Encode(), nil)
		r.Header.Set("Accept-Language", tt.language)
		body := strings.NewReplacer("<bdi>", "", "</bdi>", "").Replace(s.do(t, r).Body.String())
		if !strings.Contains(body, tt.want) {
			t.Errorf("%s in %s: the page does not say %q: %s", tt.scope, tt.language, tt.want, body)
		}
	}
}
