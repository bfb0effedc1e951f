package authserver

import (
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

func TestRFC9068AccessToken(t *testing.T) {
	s := newTestServer(t)
	s.site.user.Claims = map[string]any{"name": "Alice Doe", "groups": []string{"a", "b"}}
	token := s.tokens(t)["access_token"].(string)
	claims := s.claims(t, token)

	t.Run("§2.1 typ at+jwt", func(t *testing.T) {
		h, err := headerOf(t, token)
		if err != nil || h.Type != "at+jwt" || h.Algorithm != "ES256" || h.KeyID == "" {
			t.Errorf("%v: typ %q, alg %q, kid %q", err, h.Type, h.Algorithm, h.KeyID)
		}
	})
	t.Run("§2.1 RS256 is supported", func(t *testing.T) {
		s := newTestServer(t, func(c *Config) { c.Keys.Algorithm = "RS256" })
		token := s.token(t, asBilling()).json(t)["access_token"].(string)
		if h, err := headerOf(t, token); err != nil || h.Algorithm != "RS256" || h.Type != "at+jwt" {
			t.Errorf("%v: typ %q, alg %q", err, h.Type, h.Algorithm)
		}
		s.claims(t, token)
	})
	t.Run("§2.2 claims", func(t *testing.T) {
		now := float64(s.clock.Now().Unix())
		for name, want := range map[string]any{
			"iss": testIssuer, "sub": "alice", "aud": []any{testIssuer, testAPI}, "exp": now + 600, "iat": now,
			"client_id": "webapp", "scope": "profile orders", "name": "Alice Doe", "groups": []any{"a", "b"},
		} {
			if !equalJSON(claims[name], want) {
				t.Errorf("%s is %#v, want %#v", name, claims[name], want)
			}
		}
	})
	t.Run("§2.2 every jti is another", func(t *testing.T) {
		seen := map[any]bool{claims["jti"]: true}
		for range 20 {
			jti := s.claims(t, s.token(t, asBilling()).json(t)["access_token"])["jti"]
			if id, _ := jti.(string); len(id) < 22 || seen[jti] {
				t.Fatalf("jti %v after %v", jti, seen)
			}
			seen[jti] = true
		}
	})
	t.Run("§2.2.3 no scope where none was granted", func(t *testing.T) {
		s := newTestServer(t)
		s.config.Clients["billing"].Scopes = nil
		if scope, ok := s.claims(t, s.token(t, asBilling()).json(t)["access_token"])["scope"]; ok {
			t.Errorf("scope %v", scope)
		}
	})
	t.Run("§2.2 one audience is a string", func(t *testing.T) {
		if aud := s.claims(t, s.token(t, asBilling("resource", testAPI)).json(t)["access_token"])["aud"]; aud != testAPI {
			t.Errorf("aud %#v", aud)
		}
	})
	t.Run("no token part names the family's code or refresh token", func(t *testing.T) {
		body := s.tokens(t)
		family, refresh := s.claims(t, body["access_token"])["family"].(string), body["refresh_token"].(string)
		if family == "" || strings.Contains(family, refresh[4:26]) {
			t.Errorf("family %q of refresh token %q", family, refresh)
		}
	})
}

func headerOf(t *testing.T, token string) (jwt.Header, error) {
	t.Helper()
	split, err := jwt.Split(token)
	if err != nil {
		t.Fatal(err)
	}
	return split.ParseHeader()
}
