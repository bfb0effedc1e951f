package authserver

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// newClaimsServer has webapp, which may ask for openid, profile and email, and a person with claims of all scopes.
func newClaimsServer(t *testing.T, edits ...func(*Config)) *testServer {
	t.Helper()
	s := newTestServer(t, append([]func(*Config){openID()}, edits...)...)
	s.site.user.Claims = map[string]any{
		"name": "Alice", "email": "alice@example.com", "email_verified": true, "phone_number": "+47 1", "team": "red",
	}
	return s
}

func (s *testServer) claimsOf(t *testing.T, tokens map[string]any) (access, id map[string]any) {
	t.Helper()
	pick := func(all map[string]any) map[string]any {
		picked := map[string]any{}
		for _, name := range []string{"name", "email", "email_verified", "phone_number", "team"} {
			if value, ok := all[name]; ok {
				picked[name] = value
			}
		}
		return picked
	}
	return pick(s.claims(t, tokens["access_token"])), pick(s.idToken(t, "RS256", tokens["id_token"]))
}

// OpenID Connect Core §5.5.
func TestClaimsParameter(t *testing.T) {
	type claims = map[string]any
	for name, tt := range map[string]struct {
		scope, claims string
		words         []string // that the consent page has beside the scopes
		access, id    claims
	}{
		"at userinfo": {
			"openid", `{"userinfo": {"name": {"essential": true}}}`, []string{"Your name"}, claims{"name": "Alice", "team": "red"}, claims{},
		},
		"in the ID token": {
			"openid", `{"id_token": {"email": null, "email_verified": {"essential": false}}}`,
			[]string{"Your email address"},
			claims{"team": "red"},
			claims{"email": "alice@example.com", "email_verified": true},
		},
		"of a scope that is there too": {
			"openid email", `{"id_token": {"email": null}, "userinfo": {"email": null}}`, nil,
			claims{"email": "alice@example.com", "email_verified": true, "team": "red"},
			claims{"email": "alice@example.com"},
		},
		"of no scope": {"openid", `{"id_token": {"team": null}, "userinfo": {"team": null}}`, nil, claims{"team": "red"}, claims{"team": "red"}},
		"of a scope that the client may not have": {"openid", `{"userinfo": {"phone_number": null}}`, nil, claims{"team": "red"}, claims{}},
		"unknown and reserved": {
			"openid", `{"userinfo": {"x": null, "iss": null, "name#de": null}, "id_token": {"nonce": {"value": "y"}, "auth_time": {"essential": true}}, "x": 5}`, nil,
			claims{"team": "red"},
			claims{},
		},
		"null": {"openid", `{"userinfo": null, "id_token": null}`, nil, claims{"team": "red"}, claims{}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newClaimsServer(t)
			s.code(t, asks("webapp", "scope", tt.scope)) // so that the scopes are approved
			params := asks("webapp", "scope", tt.scope, "claims", tt.claims)
			page := s.get(t, params)
			if tt.words != nil {
				_, text := pagestest.Parts(strings.NewReader(page.Body.String()))
				for _, words := range tt.words {
					if !strings.Contains(text, words) {
						t.Errorf("the page lacks %q: %s", words, text)
					}
				}
				s.get(t, merge(params, "prompt", "none")).check(t, http.StatusSeeOther, "consent_required")
				page = s.decide(t, page, "allow")
			}
			a := s.token(t, redeems(page.location().Get("code")))
			a.check(t, http.StatusOK, "")
			tokens := a.json(t)
			for range 2 {
				if access, id := s.claimsOf(t, tokens); !reflect.DeepEqual(access, tt.access) || !reflect.DeepEqual(id, tt.id) {
					t.Errorf("access token %v, want %v; ID token %v, want %v", access, tt.access, id, tt.id)
				}
				s.clock.Advance(time.Minute)
				a = s.token(t, refreshes(tokens["refresh_token"].(string)))
				a.check(t, http.StatusOK, "")
				tokens = a.json(t)
			}
			if tt.words != nil { // it was for that request
				s.get(t, params).sealed(t)
			}
		})
	}
}

// Nobody approves claims without having seen them.
func TestClaimsOnTheConsentPage(t *testing.T) {
	params := asks("webapp", "scope", "openid", "claims", `{"userinfo": {"name": null, "email": null}}`)
	t.Run("claims that the site has since the page was shown", func(t *testing.T) {
		s := newClaimsServer(t)
		name := s.site.user.Claims["name"]
		delete(s.site.user.Claims, "name")
		page := s.get(t, params)
		s.site.user.Claims["name"] = name
		checkErrorPage(t, s.decide(t, page, "allow"))
	})
	t.Run("a client of the owner's is trusted with the scopes that it may have", func(t *testing.T) {
		s := newClaimsServer(t, withoutConsent("webapp"))
		a := s.token(t, redeems(s.get(t, params).location().Get("code")))
		a.check(t, http.StatusOK, "")
		if access, _ := s.claimsOf(t, a.json(t)); access["name"] != "Alice" {
			t.Errorf("%v", access)
		}
	})
	t.Run("a refresh without openid has none of them", func(t *testing.T) {
		s := newClaimsServer(t)
		a := s.token(t, redeems(s.code(t, merge(params, "scope", "openid orders"))))
		a = s.token(t, refreshes(a.json(t)["refresh_token"].(string), "scope", "orders"))
		a.check(t, http.StatusOK, "")
		if access := s.claims(t, a.json(t)["access_token"]); access["name"] != nil {
			t.Errorf("%v", access)
		}
	})
	t.Run("scopes that were approved before give them without asking", func(t *testing.T) {
		s := newClaimsServer(t)
		s.code(t, asks("webapp", "scope", "openid email profile"))
		if a := s.get(t, params); a.location().Get("code") == "" {
			t.Errorf("%d %s", a.Code, a.Header().Get("Location"))
		}
	})
	t.Run("without openid, the parameter is nothing to this server", func(t *testing.T) {
		s := newClaimsServer(t)
		s.code(t, asks("webapp", "scope", "orders"))
		if a := s.get(t, asks("webapp", "scope", "orders", "claims", "{")); a.location().Get("code") == "" {
			t.Errorf("%d %s", a.Code, a.Header().Get("Location"))
		}
	})
}

func TestClaimsParameterThatIsWrong(t *testing.T) {
	s := newClaimsServer(t)
	for _, claims := range []string{
		"{", "null", "[]", `"x"`, `{"userinfo": []}`, `{"userinfo": {"name": "x"}}`, `{"userinfo": {"name": {"essential": "yes"}}}`,
		`{"id_token": {"sub": {"values": "alice"}}}`, `{} {}`, `{"userinfo": {"x": ` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}}`,
		`{"x": {"a": [[[[[[[[1]]]]]]]]}}`, `{"x": "` + strings.Repeat("x", maxClaimsRequest) + `"}`,
	} {
		a := s.get(t, asks("webapp", "scope", "openid", "claims", claims))
		if a.check(t, http.StatusSeeOther, "invalid_request"); a.location().Get("state") != "xyz" {
			t.Errorf("%.40s: %s", claims, a.Header().Get("Location"))
		}
	}
}

// OpenID Connect Core §3.1.2.1, §5.5.1: a request is about one person, and no other.
func TestRequestsAboutAUser(t *testing.T) {
	s := newClaimsServer(t, withoutConsent("webapp"))
	hint := func(user string) string {
		s.site.user = &User{Subject: user}
		a := s.token(t, redeems(s.code(t, asks("webapp", "scope", "openid"))))
		a.check(t, http.StatusOK, "")
		return a.json(t)["id_token"].(string)
	}
	alice, bob := hint("alice"), hint("bob")
	s.clock.Advance(20 * time.Minute) // the ID tokens have expired, and their key is still there
	access := s.token(t, redeems(s.code(t, asks("webapp", "scope", "openid")))).json(t)["access_token"].(string)
	s.site.login = "/login"
	sub := func(claim string) []string { return []string{"claims", `{"id_token": {"sub": ` + claim + `}}`} }
	for name, tt := range map[string]struct {
		params []string
		fits   string // the user, "" for nobody, "*" for everybody
	}{
		"a hint":              {[]string{"id_token_hint", alice}, "alice"},
		"another hint":        {[]string{"id_token_hint", bob}, "bob"},
		"sub":                 {sub(`{"value": "alice"}`), "alice"},
		"one of subs":         {sub(`{"values": ["carol", "alice"]}`), "alice"},
		"sub that is no text": {sub(`{"value": 1}`), ""},
		"any sub":             {sub(`{"essential": true}`), "*"},
		"sub at userinfo":     {[]string{"claims", `{"userinfo": {"sub": {"value": "alice"}}}`}, "alice"},
		"a hint and sub":      {append(sub(`{"value": "bob"}`), "id_token_hint", alice), ""},
	} {
		for _, user := range []string{"alice", "bob"} {
			t.Run(name+" of "+user, func(t *testing.T) {
				s.site.user = &User{Subject: user}
				fits := tt.fits == user || tt.fits == "*"
				params := asks("webapp", append([]string{"scope", "openid"}, tt.params...)...)
				silent := s.get(t, merge(params, "prompt", "none"))
				a := s.get(t, params)
				if fits {
					if silent.location().Get("code") == "" || a.location().Get("code") == "" {
						t.Errorf("prompt=none: %s; else: %s", silent.Header().Get("Location"), a.Header().Get("Location"))
					}
					return
				}
				silent.check(t, http.StatusSeeOther, "login_required")
				back := sent(t, a)
				s.visit(t, back).check(t, http.StatusSeeOther, "login_required")
				if tt.fits == "" {
					return
				}
				s.site.user = &User{Subject: tt.fits}
				if a := s.visit(t, back); a.location().Get("code") == "" {
					t.Errorf("after the login: %s", a.Header().Get("Location"))
				}
			})
		}
	}
	for name, hint := range map[string]string{
		"no JWT": "x", "an access token": access, "of another issuer": jwttest.NewKey(t, "RS256").Sign(t, []byte(`{"iss":"`+testIssuer+`","sub":"alice"}`)),
		"a changed one": flip(alice),
	} {
		a := s.get(t, asks("webapp", "scope", "openid", "id_token_hint", hint))
		if got := a.location().Get("error"); got != "invalid_request" {
			t.Errorf("a hint that is %s: %q, %s", name, got, a.Header().Get("Location"))
		}
	}
}

// A hint whose key is not there any more says nothing, so that only a page can help.
func TestHintOfARetiredKey(t *testing.T) {
	other := newClaimsServer(t, withoutConsent("webapp"))
	a := other.token(t, redeems(other.code(t, asks("webapp", "scope", "openid"))))
	hint := a.json(t)["id_token"].(string)
	s := newClaimsServer(t, withoutConsent("webapp"))
	params := asks("webapp", "scope", "openid", "id_token_hint", hint)
	if a := s.get(t, params); a.location().Get("code") == "" {
		t.Errorf("%s", a.Header().Get("Location"))
	}
	s.get(t, merge(params, "prompt", "none")).check(t, http.StatusSeeOther, "login_required")
}

func TestParametersOfOpenIDAreBounded(t *testing.T) {
	s := newClaimsServer(t, withoutConsent("webapp"))
	s.get(t, asks("webapp", "scope", "openid", "nonce", strings.Repeat("n", maxNonce+1))).check(t, http.StatusSeeOther, "invalid_request")
	s.get(t, asks("webapp", "scope", "openid", "registration", "{}")).check(t, http.StatusSeeOther, "registration_not_supported")
	if a := s.get(t, asks("webapp", "scope", "openid", "nonce", strings.Repeat("n", maxNonce), "acr_values", strings.Repeat("a ", 20000), "display", "popup")); a.location().Get("code") == "" {
		t.Errorf("%d %s", a.Code, a.Header().Get("Location"))
	}
}

// The names of claims that were asked for are in the record of the family.
func TestFamilyKeepsAskedClaims(t *testing.T) {
	f := &storage.Family{Client: "webapp", Asked: storage.AskedClaims{UserInfo: []string{"name", "x"}, IDToken: []string{"email"}}}
	record, err := f.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := storage.DecodeFamily(record)
	if err != nil || !reflect.DeepEqual(again.Asked, f.Asked) {
		t.Errorf("%+v, %v", again.Asked, err)
	}
}

// A client knows a person by the subject that it gets.
func TestRequestsAboutAPairwiseSubject(t *testing.T) {
	s := newClaimsServer(t, withoutConsent("webapp"), func(c *Config) {
		c.PairwiseSalt = strings.Repeat("salt", 10)
		c.Clients["webapp"].OpenID.Sector = "app.example.com"
	})
	params := asks("webapp", "scope", "openid", "prompt", "none")
	a := s.token(t, redeems(s.get(t, params).location().Get("code")))
	a.check(t, http.StatusOK, "")
	hint := a.json(t)["id_token"].(string)
	sub := s.idToken(t, "RS256", hint)["sub"].(string)
	if sub == "alice" {
		t.Fatal("the subject is not pairwise")
	}
	for _, about := range [][]string{{"id_token_hint", hint}, {"claims", `{"id_token": {"sub": {"value": "` + sub + `"}}}`}} {
		if a := s.get(t, merge(params, about...)); a.location().Get("code") == "" {
			t.Errorf("%s: %s", about[0], a.Header().Get("Location"))
		}
	}
	s.get(t, merge(params, "claims", `{"id_token": {"sub": {"value": "alice"}}}`)).check(t, http.StatusSeeOther, "login_required")
}

func FuzzClaimsParameter(f *testing.F) {
	for _, seed := range []string{
		`{"userinfo": {"name": {"essential": true}, "x": null}, "id_token": {"sub": {"value": "alice"}, "acr": {"essential": true, "values": ["a", 1]}}}`,
		`{"id_token": {"sub": {"values": []}}}`, `{"id_token": null}`, "{", "[[", `{"x": [{"y": {}}]}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, parameter string) {
		claims, err := readClaims(parameter)
		if (claims == nil) != (err != nil) {
			t.Fatalf("both or neither: %v, %v", claims, err)
		}
		if err != nil {
			return
		}
		if values, essential := claims.acr(); essential && values == nil {
			t.Error("an essential acr without values is no demand")
		}
		for _, list := range claims.subjects() {
			if list == nil {
				t.Error("a demand for a subject without a list")
			}
		}
	})
}

// A scope that the owner has taken from a client takes the claims with it that were asked for one by one.
func TestClaimsOfAScopeThatIsGone(t *testing.T) {
	s := newClaimsServer(t)
	page := s.get(t, asks("webapp", "scope", "openid", "claims", `{"userinfo": {"email": null}, "id_token": {"email": null}}`))
	tokens := s.token(t, redeems(s.decide(t, page, "allow").location().Get("code"))).json(t)
	if access, id := s.claimsOf(t, tokens); access["email"] == nil || id["email"] == nil {
		t.Fatalf("access token %v, ID token %v", access, id)
	}
	webapp := s.config.Clients["webapp"]
	webapp.Scopes = slices.DeleteFunc(slices.Clone(webapp.Scopes), func(scope string) bool { return scope == "email" })
	a := s.token(t, refreshes(tokens["refresh_token"].(string)))
	a.check(t, http.StatusOK, "")
	if access, id := s.claimsOf(t, a.json(t)); access["email"] != nil || id["email"] != nil {
		t.Errorf("afterwards: access token %v, ID token %v", access, id)
	}
}

// A client that the user has not approved learns nothing of who they are.
func TestUnapprovedClientLearnsNothingOfTheUser(t *testing.T) {
	for name, demand := range map[string][]string{
		"the user":           {"claims", `{"id_token": {"sub": {"values": ["alice"]}}}`},
		"another user":       {"claims", `{"id_token": {"sub": {"values": ["bob"]}}}`},
		"an old login":       {"max_age", "10000"},
		"a new login":        {"max_age", "60"},
		"an acr that is met": {"claims", `{"id_token": {"acr": {"essential": true, "value": "pwd"}}}`},
		"another acr":        {"claims", `{"id_token": {"acr": {"essential": true, "value": "mfa"}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, openID())
			s.site.user = signedInAt(s.clock.Now().Add(-time.Hour))
			s.site.user.Session.ACR = "pwd"
			s.get(t, asks("webapp", append([]string{"scope", "openid", "prompt", "none"}, demand...)...)).
				check(t, http.StatusSeeOther, "consent_required")
		})
	}
	about := asks("webapp", "scope", "openid", "claims", `{"id_token": {"sub": {"values": ["bob"]}}}`)
	for _, login := range []string{"", "/login"} {
		s := newTestServer(t, openID())
		s.site.login, s.site.again = login, login
		a := s.get(t, about)
		if login != "" {
			a = s.visit(t, sent(t, a))
		}
		checkErrorPage(t, a)
		s.code(t, asks("webapp", "scope", "openid"))
		s.browser = nil
		a = s.get(t, about)
		if login != "" {
			a = s.visit(t, sent(t, a))
		}
		a.check(t, http.StatusSeeOther, "login_required") // approved
	}
}
