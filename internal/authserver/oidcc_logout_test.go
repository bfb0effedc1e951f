package authserver

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// The modules of the OpenID Foundation's plans oidcc-rp-initiated-logout-certification-test-plan and
// oidcc-backchannel-rp-initiated-logout-certification-test-plan, each with the outcome that it asks for.

func TestOIDCCRPInitiatedLogoutDiscoveryEndpointVerification(t *testing.T) {
	s := newLogoutServer(t)
	doc := s.do(t, httptest.NewRequest(http.MethodGet, "/.well-known/openid-configuration", nil)).json(t)
	if doc["end_session_endpoint"] != testIssuer+"/oauth/logout" {
		t.Errorf("end_session_endpoint %v", doc["end_session_endpoint"])
	}
}

func TestOIDCCRPInitiatedLogout(t *testing.T) {
	for name, send := range map[string]func(s *logoutServer, params url.Values) answer{
		"GET":  func(s *logoutServer, params url.Values) answer { return s.logout(t, params) },
		"POST": func(s *logoutServer, params url.Values) answer { return s.postLogout(t, params) },
	} {
		s := newLogoutServer(t)
		tokens := s.signIn(t, "webapp")
		s.clock.Advance(30 * time.Minute) // the ID token has expired
		a := s.atSite(t, send(s, hinted(tokens)))
		if got := a.Header().Get("Location"); a.Code != http.StatusSeeOther || got != bye+"?state=a%26b" {
			t.Errorf("%s: %d to %q", name, a.Code, got)
		}
		s.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
		s.site.user = nil
		s.get(t, merge(asks("webapp"), "scope", "openid", "prompt", "none")).check(t, http.StatusSeeOther, "login_required")
	}
}

func TestOIDCCRPInitiatedLogoutBadPostLogoutRedirectURI(t *testing.T) {
	s := newLogoutServer(t)
	tokens := s.signIn(t, "webapp")
	for _, uri := range []string{"https://evil.example/", bye + "/", bye + "#", strings.ToUpper(bye), "javascript:alert(1)", "//app.example.com/bye", webRedirect} {
		for _, params := range []url.Values{hinted(tokens, "post_logout_redirect_uri", uri), {"client_id": {"webapp"}, "post_logout_redirect_uri": {uri}}} {
			a := s.logout(t, params)
			a.check(t, http.StatusBadRequest, "invalid_request")
			if a.Header().Get("Location") != "" || !s.alive(t, tokens) {
				t.Errorf("%s: redirected to %q", uri, a.Header().Get("Location"))
			}
		}
	}
}

func TestOIDCCRPInitiatedLogoutQueryAddedToPostLogoutRedirectURI(t *testing.T) {
	s := newLogoutServer(t)
	tokens := s.signIn(t, "webapp")
	s.logout(t, hinted(tokens, "post_logout_redirect_uri", bye+"?foo=bar")).check(t, http.StatusBadRequest, "invalid_request")
	a := s.atSite(t, s.logout(t, hinted(tokens, "post_logout_redirect_uri", bye+"?a=b")))
	if got := a.Header().Get("Location"); got != bye+"?a=b&state=a%26b" {
		t.Errorf("a registered query: to %q", got)
	}
}

// A hint that is no ID token of this server is no reason to end anything: the person is asked, and nobody is redirected.
func (s *logoutServer) asksWithHint(t *testing.T, hint string, tokens map[string]any) {
	t.Helper()
	a := s.logout(t, hinted(tokens, "id_token_hint", hint))
	a.logoutPage(t, askHeading)
	if !s.alive(t, tokens) {
		t.Error("the tokens ended without an answer of the person")
	}
	s.atSite(t, s.postLogout(t, url.Values{"request": {a.sealed(t)}, "decision": {"sign_out"}})).logoutPage(t, outHeading)
	if s.alive(t, tokens) {
		t.Error("the tokens live on")
	}
}

func TestOIDCCRPInitiatedLogoutModifiedIDTokenHint(t *testing.T) {
	s := newLogoutServer(t)
	tokens := s.signIn(t, "webapp")
	parts := strings.Split(tokens["id_token"].(string), ".")
	parts[2] = strings.Repeat("A", len(parts[2]))
	s.asksWithHint(t, strings.Join(parts, "."), tokens)
}

func TestOIDCCRPInitiatedLogoutBadIDTokenHint(t *testing.T) {
	for name, hint := range map[string]func(s *logoutServer, tokens map[string]any) string{
		"no token":  func(*logoutServer, map[string]any) string { return "xyz" },
		"unsigned":  func(*logoutServer, map[string]any) string { return "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.e30." },
		"of others": func(*logoutServer, map[string]any) string { return foreignToken(t) },
		"access token": func(_ *logoutServer, tokens map[string]any) string {
			return tokens["access_token"].(string)
		},
		"logout token": func(s *logoutServer, _ map[string]any) string {
			signer, err := s.keys.LoadFor(t.Context(), "ES256")
			if err != nil {
				t.Fatal(err)
			}
			token, err := signer.SignWith("ES256", logoutTokenType, []byte(`{"iss":"`+testIssuer+`","sub":"alice","aud":"webapp","sid":"s1"}`))
			if err != nil {
				t.Fatal(err)
			}
			return token
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newLogoutServer(t)
			tokens := s.signIn(t, "webapp")
			s.asksWithHint(t, hint(s, tokens), tokens)
		})
	}
}

func TestOIDCCRPInitiatedLogoutNoIDTokenHint(t *testing.T) {
	s := newLogoutServer(t)
	tokens := s.signIn(t, "webapp")
	s.logout(t, hinted(tokens, "id_token_hint", "")).logoutPage(t, askHeading)
	// With the client's ID, the URI is known to be its own.
	a := s.logout(t, hinted(tokens, "id_token_hint", "", "client_id", "webapp"))
	a.logoutPage(t, askHeading)
	a = s.atSite(t, s.postLogout(t, url.Values{"request": {a.sealed(t)}, "decision": {"sign_out"}}))
	if got := a.Header().Get("Location"); got != bye+"?state=a%26b" {
		t.Errorf("to %q", got)
	}
}

func TestOIDCCRPInitiatedLogoutNoParams(t *testing.T) {
	s := newLogoutServer(t)
	tokens := s.signIn(t, "webapp")
	a := s.logout(t, nil)
	text := a.logoutPage(t, askHeading)
	if !strings.Contains(text, "apps that you signed in to from here") || !strings.Contains(text, "alice") {
		t.Errorf("the page says %s", text)
	}
	s.postLogout(t, url.Values{"request": {a.sealed(t)}, "decision": {"stay"}}).logoutPage(t, staysHeading)
	if !s.alive(t, tokens) {
		t.Error("the tokens of a person who stays have ended")
	}
	s.atSite(t, s.postLogout(t, url.Values{"request": {a.sealed(t)}, "decision": {"sign_out"}})).logoutPage(t, outHeading)
	if s.alive(t, tokens) {
		t.Error("the tokens live on")
	}
	s.logout(t, nil).logoutPage(t, outHeading) // nobody is signed in any more
}

func TestOIDCCRPInitiatedLogoutNoPostLogoutRedirectURI(t *testing.T) {
	s := newLogoutServer(t)
	s.atSite(t, s.logout(t, hinted(s.signIn(t, "webapp"), "post_logout_redirect_uri", ""))).logoutPage(t, outHeading)
}

func TestOIDCCRPInitiatedLogoutNoState(t *testing.T) {
	s := newLogoutServer(t)
	a := s.atSite(t, s.logout(t, hinted(s.signIn(t, "webapp"), "state", "")))
	if got := a.Header().Get("Location"); got != bye {
		t.Errorf("to %q", got)
	}
}

func TestOIDCCRPInitiatedLogoutOnlyState(t *testing.T) {
	s := newLogoutServer(t)
	s.signIn(t, "webapp")
	a := s.logout(t, url.Values{"state": {"xyz"}})
	a.logoutPage(t, askHeading)
	s.atSite(t, s.postLogout(t, url.Values{"request": {a.sealed(t)}, "decision": {"sign_out"}})).logoutPage(t, outHeading)
}

func TestOIDCCBackchannelLogoutDiscoveryEndpointVerification(t *testing.T) {
	s := newLogoutServer(t)
	doc := s.do(t, httptest.NewRequest(http.MethodGet, "/.well-known/openid-configuration", nil)).json(t)
	if doc["backchannel_logout_supported"] != true || doc["backchannel_logout_session_supported"] != true || doc["end_session_endpoint"] == nil {
		t.Errorf("metadata %v", doc)
	}
	bare := newTestServer(t, func(c *Config) { c.OpenID = true })
	doc = bare.do(t, httptest.NewRequest(http.MethodGet, "/.well-known/openid-configuration", nil)).json(t)
	if doc["end_session_endpoint"] != nil || doc["backchannel_logout_supported"] != true || doc["backchannel_logout_session_supported"] != false {
		t.Errorf("of a site without a page for signing out, and without session IDs: %v", doc)
	}
}

func TestOIDCCBackchannelRPInitiatedLogout(t *testing.T) {
	s := newLogoutServer(t)
	tokens := s.signIn(t, "webapp")
	s.signIn(t, "other")
	s.site.user.Session.ID = "s2"
	kept := s.signIn(t, "webapp")
	s.site.user.Session.ID = "s1"
	a := s.atSite(t, s.logout(t, hinted(tokens)))
	if got := a.Header().Get("Location"); got != bye+"?state=a%26b" {
		t.Errorf("to %q", got)
	}
	s.send(t)
	var audiences []string
	for _, token := range s.told.got() {
		if header := decoded(t, token, 0); header["typ"] != "logout+jwt" || header["alg"] != "ES256" {
			t.Errorf("header %v", header)
		}
		claims := s.idToken(t, "ES256", token)
		audiences = append(audiences, claims["aud"].(string))
		now := float64(s.clock.Now().Unix())
		if claims["iss"] != testIssuer || claims["sub"] != "alice" || claims["sid"] != "s1" || claims["iat"] != now || claims["exp"] != now+120 ||
			claims["jti"] == "" || claims["nonce"] != nil || fmt.Sprint(claims["events"]) != "map[http://schemas.openid.net/event/backchannel-logout:map[]]" {
			t.Errorf("claims %v", claims)
		}
	}
	slices.Sort(audiences)
	if !slices.Equal(audiences, []string{"other", "webapp"}) {
		t.Errorf("told %v", audiences)
	}
	if s.alive(t, tokens) || !s.alive(t, kept) {
		t.Error("another session has ended, or this one has not")
	}
	if n := s.store.Count(t, storage.KindLogout); n != 0 {
		t.Errorf("%d logouts are left", n)
	}
	s.send(t)
	if n := len(s.told.got()); n != 2 {
		t.Errorf("%d logout tokens, want 2", n)
	}
}
