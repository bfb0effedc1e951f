package authserver

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

func everyClient(change func(*storage.Client)) func(*Config) {
	return func(c *Config) {
		for _, client := range c.Clients {
			change(client)
		}
	}
}

// A code can live longer than any access token. It is void with the user all its life.
func TestRevocationOutlivesCodes(t *testing.T) {
	s := newTestServer(t, everyClient(func(c *storage.Client) {
		if c.ID != "billing" {
			c.GrantTypes = []string{"authorization_code"}
		}
		c.CodeLifetime, c.AccessTokenLifetime = 10*time.Minute, time.Minute
	}), func(c *Config) { c.Keys.Lifetime = time.Minute })
	code := s.code(t, asks("webapp"))
	s.clock.Advance(990 * time.Millisecond)
	if err := s.revoker.Revoke(t.Context(), "alice", "", "test", ""); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(5 * time.Minute)
	s.restart(t, s.config)
	s.token(t, redeems(code)).check(t, http.StatusBadRequest, "invalid_grant")
}

// A cutoff is kept for the new, shorter lifetime. When it expires, families that were approved under a longer lifetime stay void.
func TestRevocationOutlivesTheLifetimeOfBefore(t *testing.T) {
	s := newTestServer(t)
	tokens := s.tokens(t)
	everyClient(func(c *storage.Client) { c.RefreshToken.Lifetime = time.Hour })(&s.config)
	s.restart(t, s.config)
	s.clock.Advance(990 * time.Millisecond)
	if err := s.revoker.Revoke(t.Context(), "alice", "", "test", ""); err != nil {
		t.Fatal(err)
	}
	s.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
	s.clock.Advance(3 * time.Hour)
	s.restart(t, s.config)
	s.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
}
