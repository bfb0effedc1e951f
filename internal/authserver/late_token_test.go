package authserver

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// A node that does not know a revocation yet issues a token that is younger than the cutoff. The token is void as soon as the node
// knows the revocation.
func TestTokenOfANodeThatDidNotKnow(t *testing.T) {
	a := newTestServer(t)
	tokens := a.tokens(t)
	b := newTestServer(t, func(c *Config) { c.Store, c.Now = a.store, a.clock.Now })
	b.state(t, tokens["access_token"], nil)
	if err := a.revoker.Revoke(t.Context(), "alice", "", "test", ""); err != nil {
		t.Fatal(err)
	}
	a.clock.Advance(2 * time.Second) // less than a poll
	late := b.token(t, refreshes(tokens["refresh_token"].(string)))
	late.check(t, http.StatusOK, "")
	token := late.json(t)["access_token"]
	if err := b.upkeep.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.state(t, tokens["access_token"], jwt.ErrRevoked)
	b.state(t, token, jwt.ErrRevoked)
}

// Such a token is void at other nodes too, also if the node that issued it dies before it knows the revocation.
func TestTokenOfANodeThatDied(t *testing.T) {
	for _, format := range []string{"jwt", "opaque"} {
		t.Run(format, func(t *testing.T) {
			shape := func(c *Config) { c.AccessToken.Opaque = format == "opaque" }
			a := newTestServer(t, shape)
			tokens := a.tokens(t)
			b := newTestServer(t, shape, func(c *Config) { c.Store, c.Now = a.store, a.clock.Now })
			b.state(t, tokens["access_token"], nil)
			if err := a.revoker.Revoke(t.Context(), "alice", "", "test", ""); err != nil {
				t.Fatal(err)
			}
			a.clock.Advance(2 * time.Second) // less than a poll
			late := b.token(t, refreshes(tokens["refresh_token"].(string)))
			late.check(t, http.StatusOK, "")
			a.state(t, late.json(t)["access_token"], jwt.ErrRevoked)
			next := newTestServer(t, shape, func(c *Config) { c.Store, c.Now = a.store, a.clock.Now })
			next.state(t, late.json(t)["access_token"], jwt.ErrRevoked)
		})
	}
}
