package authserver

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// The claims of a minimal token have neither its client nor its family. It can be revoked like any other token, and only like that.
func TestMinimalTokensCanBeRevoked(t *testing.T) {
	for _, tt := range []struct {
		name   string
		revoke func(t *testing.T, s *testServer, tokens map[string]any)
	}{
		{"the user", func(t *testing.T, s *testServer, _ map[string]any) {
			t.Helper()
			s.revoke(t, "alice", "")
		}},
		{"the client", func(t *testing.T, s *testServer, _ map[string]any) {
			t.Helper()
			s.revoke(t, "", "webapp")
		}},
		{"the client of the user", func(t *testing.T, s *testServer, _ map[string]any) {
			t.Helper()
			s.revoke(t, "alice", "webapp")
		}},
		{"the refresh token", func(t *testing.T, s *testServer, tokens map[string]any) {
			t.Helper()
			s.revokeToken(t, tokens["refresh_token"])
		}},
		{"the access token", func(t *testing.T, s *testServer, tokens map[string]any) {
			t.Helper()
			s.revokeToken(t, tokens["access_token"])
		}},
		{"the reuse of a refresh token", func(t *testing.T, s *testServer, tokens map[string]any) {
			t.Helper()
			second := s.token(t, refreshes(tokens["refresh_token"].(string))).json(t)
			s.token(t, refreshes(second["refresh_token"].(string))).check(t, http.StatusOK, "")
			s.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t, func(c *Config) { c.AccessToken.Minimal = true })
			tokens := s.tokens(t)
			spa := redeems(s.code(t, asks("spa")), "client_id", "spa", "redirect_uri", "https://spa.example.com/callback")
			other := s.token(t, spa).json(t)
			s.state(t, tokens["access_token"], nil)
			tt.revoke(t, s, tokens)
			s.state(t, tokens["access_token"], jwt.ErrRevoked)
			if tt.name != "the user" {
				s.state(t, other["access_token"], nil)
			}
			s.restart(t, s.config)
			s.state(t, tokens["access_token"], jwt.ErrRevoked)
		})
	}
}

// revoke ends the tokens of a user, a client or both.
func (s *testServer) revoke(t *testing.T, subject, client string) {
	t.Helper()
	if err := s.revoker.Revoke(t.Context(), subject, client, "test", ""); err != nil {
		t.Fatal(err)
	}
}

// A node that does not know a revocation yet issues a minimal token for a void family. The token is void as soon as the node knows it.
func TestMinimalTokenOfANodeThatDidNotKnow(t *testing.T) {
	minimal := func(c *Config) { c.AccessToken.Minimal = true }
	a := newTestServer(t, minimal)
	tokens := a.tokens(t)
	b := newTestServer(t, minimal, func(c *Config) { c.Store, c.Now = a.store, a.clock.Now })
	b.state(t, tokens["access_token"], nil)
	a.revoke(t, "alice", "webapp")
	a.clock.Advance(2 * time.Second) // less than a poll
	late := b.token(t, refreshes(tokens["refresh_token"].(string))).json(t)
	if err := b.upkeep.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.state(t, late["access_token"], jwt.ErrRevoked)
}

// All tokens of a client that was disabled or deleted are void, minimal ones too.
func TestMinimalTokensOfADisabledClient(t *testing.T) {
	for name, end := range map[string]func(*testServer) error{
		"disabled": func(s *testServer) error { _, err := s.clients.Disable(t.Context(), "robot"); return err },
		"deleted":  func(s *testServer) error { return s.clients.Delete(t.Context(), "robot") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, runTime, func(c *Config) { c.AccessToken.Minimal = true })
			late := s.node(t)
			secret := s.add(t, "robot")
			token := s.machine(t, "robot", secret)
			if !s.accepts(t, token) || !late.accepts(t, late.machine(t, "robot", secret)) {
				t.Fatal("the tokens of the client are void already")
			}
			if err := end(s); err != nil {
				t.Fatal(err)
			}
			s.clock.Advance(2 * time.Second) // the other node does not know yet
			after := late.machine(t, "robot", secret)
			if s.accepts(t, token) || s.accepts(t, after) {
				t.Error("a token of the client is still valid")
			}
			inactive(t, s.introspection(t, "webapp", token.json(t)["access_token"]))
		})
	}
}
