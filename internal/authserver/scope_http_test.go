package authserver

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// The developer of a client reads which scope is wrong.
func TestUnknownScopeIsNamed(t *testing.T) {
	const want = "the client may not ask for the scope oders"
	for method, send := range bothMethods {
		t.Run("authorize by "+method, func(t *testing.T) {
			s := newTestServer(t)
			to := send(s, t, asks("webapp", "scope", "profile oders")).location()
			if to.Get("error") != "invalid_scope" || to.Get("error_description") != want {
				t.Errorf("the client gets %v", to)
			}
		})
	}
	t.Run("token", func(t *testing.T) {
		s := newTestServer(t)
		a := s.token(t, asBilling("scope", "profile oders"))
		a.check(t, http.StatusBadRequest, "invalid_scope")
		if got := a.json(t)["error_description"]; got != want {
			t.Errorf("the client gets %v", got)
		}
	})
}

// Many apps ask every server for the same scopes.
func TestUnknownScopesAreDropped(t *testing.T) {
	const asked = "openid profile email offline_access"
	s := newTestServer(t, client("webapp", func(c *storage.Client) { c.DropUnknownScopes = true }))
	body := s.token(t, redeems(s.code(t, asks("webapp", "scope", asked)))).json(t)
	if body["scope"] != "profile" {
		t.Errorf("RFC 6749 §5.1: the client gets %v", body)
	}
	// The client may ask for the same when it refreshes, and does not get more than was granted (RFC 6749 §6).
	body = s.token(t, refreshes(body["refresh_token"].(string), "scope", asked+" orders")).json(t)
	if body["scope"] != "profile" {
		t.Errorf("RFC 6749 §6: the refresh returns %v", body)
	}
	body = s.token(t, redeems(s.code(t, asks("webapp", "scope", "openid email")))).json(t)
	if body["scope"] != "profile orders" {
		t.Errorf("without a scope that it may have, the client gets %v", body)
	}
	if consent := s.get(t, asks("webapp", "scope", "openid orders")).Body.String(); strings.Contains(consent, "openid") {
		t.Error("the consent page has a scope that the client may not have")
	}
}

// RFC 8707 §2: clients that parse and write URLs spell a resource in another way. Tokens have the spelling of the configuration.
func TestSpellingsOfAResource(t *testing.T) {
	s := newTestServer(t)
	for _, spelling := range []string{testAPI + "/", "https://API.example.com", "HTTPS://api.example.com:443/"} {
		body := s.token(t, redeems(s.code(t, asks("webapp", "resource", spelling)), "resource", spelling)).json(t)
		if aud := s.claims(t, body["access_token"])["aud"]; aud != testAPI {
			t.Errorf("%s: aud %v", spelling, aud)
		}
		body = s.token(t, refreshes(body["refresh_token"].(string), "resource", spelling)).json(t)
		if aud := s.claims(t, body["access_token"])["aud"]; aud != testAPI {
			t.Errorf("%s, refreshed: aud %v", spelling, aud)
		}
	}
	to := s.get(t, asks("webapp", "resource", "https://evil.example/")).location()
	if to.Get("error") != "invalid_target" {
		t.Errorf("another resource: the client gets %v", to)
	}
}

func TestReadPrompt(t *testing.T) {
	for parameter, want := range map[string]string{
		"": "", "login": "login", "consent login": "consent login", "none": "none", "select_account consent": "select_account consent", "create consent": "consent",
		strings.Repeat("login ", 10_000): "login", strings.Repeat("unheard ", 10_000) + "login": "login",
		"none login": "error", "login none": "error", "none select_account": "error", "none none": "error",
	} {
		prompt, ok := readPrompt(parameter)
		if got := strings.Join(prompt, " "); ok != (want != "error") || ok && got != want {
			t.Errorf("OpenID Connect Core §3.1.2.1: %.40q gives %q and %v, want %q", parameter, got, ok, want)
		}
	}
}
