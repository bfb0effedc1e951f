package authserver

import (
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// Access tokens that were made before the owner made their life shorter stay revoked for as long as they live.
func TestRevokedForTheWholeLifeOfAToken(t *testing.T) {
	a := newTestServer(t, func(c *Config) {
		c.Keys.Lifetime = 24 * time.Hour
		for _, client := range c.Clients {
			client.AccessTokenLifetime = 24 * time.Hour
		}
	})
	tokens := a.tokens(t)
	config := a.config
	config.Keys.Lifetime = 10 * time.Minute
	a.restart(t, config)
	a.state(t, tokens["access_token"], nil)
	a.revokeToken(t, tokens["refresh_token"])
	a.state(t, tokens["access_token"], jwt.ErrRevoked)
	a.clock.Advance(11 * time.Minute)
	a.restart(t, config)
	a.state(t, tokens["access_token"], jwt.ErrRevoked)
}
