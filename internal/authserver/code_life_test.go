package authserver

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// RFC 6749 §4.1.2: as long as a code is valid, its second use is noticed.
func TestCodeLivesNoLongerThanWhatComesOfIt(t *testing.T) {
	for name, policy := range map[string]storage.RefreshPolicy{
		"idle":     {Lifetime: time.Hour, Idle: 20 * time.Second},
		"lifetime": {Lifetime: 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, client("webapp", func(c *storage.Client) { c.RefreshToken = policy }))
			code := s.code(t, asks("webapp"))
			s.clock.Advance(9 * time.Second)
			token := s.token(t, redeems(code)).json(t)["access_token"]
			s.clock.Advance(10900 * time.Millisecond)
			s.token(t, redeems(code)).check(t, http.StatusBadRequest, "invalid_grant")
			s.state(t, token, jwt.ErrRevoked)

			code = s.code(t, asks("webapp"))
			token = s.token(t, redeems(code)).json(t)["access_token"]
			s.clock.Advance(30 * time.Second) // less than the minute that codes live else
			s.token(t, redeems(code)).check(t, http.StatusBadRequest, "invalid_grant")
			s.state(t, token, nil) // an expired code, not a replay

			code = s.code(t, asks("webapp"))
			s.clock.Advance(20 * time.Second)
			s.token(t, redeems(code)).check(t, http.StatusBadRequest, "invalid_grant")
		})
	}
}
