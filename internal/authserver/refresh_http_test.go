package authserver

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// refresh refreshes and returns the new refresh token.
func (s *testServer) refresh(t *testing.T, token string, pairs ...string) string {
	t.Helper()
	a := s.token(t, refreshes(token, pairs...))
	a.check(t, http.StatusOK, "")
	next, _ := a.json(t)["refresh_token"].(string)
	return next
}

func (s *testServer) refused(t *testing.T, token string, pairs ...string) {
	t.Helper()
	s.token(t, refreshes(token, pairs...)).check(t, http.StatusBadRequest, "invalid_grant")
}

func TestRefreshRotates(t *testing.T) {
	const tooLate = 11 * time.Second
	start := func(t *testing.T, edits ...func(*Config)) (*testServer, string) {
		t.Helper()
		s := newTestServer(t, edits...)
		return s, s.tokens(t)["refresh_token"].(string)
	}
	t.Run("RFC 9700 §4.14.2 every refresh returns a new refresh token", func(t *testing.T) {
		s, first := start(t)
		second := s.refresh(t, first)
		third := s.refresh(t, second)
		if second == "" || first == second || second == third || first == third {
			t.Errorf("%q, %q, %q", first, second, third)
		}
	})
	t.Run("RFC 9700 §4.14.2 a replay revokes the family", func(t *testing.T) {
		s, first := start(t)
		second := s.refresh(t, first)
		s.clock.Advance(tooLate)
		s.refused(t, first)
		s.refused(t, second)
	})
	t.Run("RFC 9700 §4.14.2 a replay of a token two generations old revokes at once", func(t *testing.T) {
		s, first := start(t)
		third := s.refresh(t, s.refresh(t, first))
		s.refused(t, first)
		s.refused(t, third)
	})
	t.Run("a retry gets a lost answer again", func(t *testing.T) {
		s, first := start(t)
		second := s.refresh(t, first)
		if again := s.refresh(t, first); again != second {
			t.Errorf("the successor is %q, then %q", second, again)
		}
		s.refresh(t, second)
	})
	t.Run("a damaged token does not revoke its family", func(t *testing.T) {
		s, first := start(t)
		second := s.refresh(t, first)
		for _, token := range []string{first, second} {
			last := map[bool]string{true: "y", false: "x"}[strings.HasSuffix(token, "x")]
			for _, damaged := range []string{token + "\n", token + "x", " " + token, token[:len(token)-1] + last, token[:len(token)-1]} {
				s.refused(t, damaged)
			}
		}
		s.refresh(t, second)
	})
	t.Run("a test that refreshes twice within 12 seconds, as Google's does", func(t *testing.T) {
		for name, retry := range map[string]time.Duration{"webapp": storage.RetryUntilUsed, "spa": time.Minute} {
			s := newTestServer(t, client(name, func(c *storage.Client) { c.RefreshToken.Retry = retry }))
			tokens, as := s.tokens(t), []string(nil)
			if name == "spa" {
				tokens, as = asSPA()(t, s, s.code(t, asks("spa"))).json(t), []string{"client_id", "spa"}
			}
			first := tokens["refresh_token"].(string)
			second := s.refresh(t, first, as...)
			s.clock.Advance(12 * time.Second)
			if again := s.refresh(t, first, as...); again != second {
				t.Errorf("%s: the successor is %q, then %q", name, second, again)
			}
			s.refresh(t, second, as...)
		}
	})
	t.Run("RFC 9700 §4.14.2 strict single use", func(t *testing.T) {
		s, first := start(t, client("webapp", func(c *storage.Client) { c.RefreshToken.Retry = 0 }))
		second := s.refresh(t, first)
		s.refused(t, first)
		s.refused(t, second)
	})
	t.Run("RFC 9700 §2.2.2 a public client's rotate too", func(t *testing.T) {
		s := newTestServer(t)
		first := asSPA()(t, s, s.code(t, asks("spa"))).json(t)["refresh_token"].(string)
		second := s.refresh(t, first, "client_id", "spa")
		s.clock.Advance(tooLate)
		s.refused(t, first, "client_id", "spa")
		s.refused(t, second, "client_id", "spa")
	})
	t.Run("a client that keeps its refresh token", func(t *testing.T) {
		s, first := start(t, client("webapp", func(c *storage.Client) { c.RefreshToken.Keep = true }))
		for range 3 {
			if s.clock.Advance(tooLate); s.refresh(t, first) != first {
				t.Error("the refresh token changed")
			}
		}
	})
	t.Run("RFC 6749 §6 another client's, which does it no harm", func(t *testing.T) {
		s, first := start(t)
		s.refused(t, first, "client_id", "spa")
		s.refresh(t, first)
	})
	t.Run("RFC 9700 §4.14.2 expires when unused", func(t *testing.T) {
		s, token := start(t)
		for range 2 {
			s.clock.Advance(14*24*time.Hour - time.Second)
			token = s.refresh(t, token)
		}
		s.clock.Advance(14 * 24 * time.Hour)
		s.refused(t, token)
	})
	t.Run("RFC 9700 §4.14.2 ends with the approval, used or not", func(t *testing.T) {
		s, token := start(t)
		for range 29 {
			s.clock.Advance(24 * time.Hour)
			token = s.refresh(t, token)
		}
		s.clock.Advance(24 * time.Hour)
		s.refused(t, token)
	})
}

func TestRefreshScope(t *testing.T) {
	for _, tt := range []struct{ name, granted, asked, got string }{
		{"RFC 6749 §6 the original scope without a parameter", "orders", "", "orders"},
		{"RFC 6749 §6 fewer scopes", "profile orders", "orders", "orders"},
		{"RFC 6749 §6 wider than granted, though the client may", "orders", "profile orders", ""},
		{"RFC 6749 §6 wider than the client may", "orders", "admin", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t)
			body := s.token(t, redeems(s.code(t, asks("webapp", "scope", tt.granted)))).json(t)
			a := s.token(t, refreshes(body["refresh_token"].(string), "scope", tt.asked))
			if tt.got == "" {
				a.check(t, http.StatusBadRequest, "invalid_scope")
				s.refresh(t, body["refresh_token"].(string)) // the refusal used nothing up
				return
			}
			if body = a.json(t); body["scope"] != tt.got {
				t.Fatalf("scope %v", body)
			}
			// A narrower scope in one refresh does not narrow the refresh token (RFC 6749 §6).
			if body = s.token(t, refreshes(body["refresh_token"].(string))).json(t); body["scope"] != tt.granted {
				t.Errorf("the next refresh has scope %v", body["scope"])
			}
		})
	}
	t.Run("RFC 9700 §4.14.2 keeps the resources", func(t *testing.T) {
		s := newTestServer(t)
		body := s.token(t, redeems(s.code(t, asks("webapp", "resource", testAPI)))).json(t)
		body = s.token(t, refreshes(body["refresh_token"].(string))).json(t)
		if aud := s.claims(t, body["access_token"])["aud"]; aud != testAPI {
			t.Errorf("aud %v", aud)
		}
	})
	t.Run("tokens lose the scopes that the configuration no longer allows", func(t *testing.T) {
		s := newTestServer(t)
		token := s.tokens(t)["refresh_token"].(string)
		s.config.Clients["webapp"].Scopes = []string{"orders", "admin"}
		if scope := s.token(t, refreshes(token)).json(t)["scope"]; scope != "orders" {
			t.Errorf("scope %v", scope)
		}
	})
}
