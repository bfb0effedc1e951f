package authserver

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
)

// The clocks of clients may differ a little from ours: FAPI 2.0 Security Profile §5.3.2.1 accepts what is up to 10 seconds ahead, and
// refuses what is more than 60 seconds ahead. A proof is of the last 60 seconds.
func TestClockOfDPoPProofs(t *testing.T) {
	s := newTestServer(t)
	p := jwttest.NewProver(t, "ES256", s.clock.Now)
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"billing"}, "client_secret": {webSecret}}
	for _, tt := range []struct {
		name string
		iat  time.Duration
		good bool
	}{
		{"iat is now", 0, true},
		{"iat is 8 s behind", -8 * time.Second, true},
		{"iat is 8 s ahead", 8 * time.Second, true},
		{"iat is 59 s behind", -59 * time.Second, true},
		{"iat is 60 s behind", -60 * time.Second, false},
		{"iat is 11 s ahead", 11 * time.Second, false},
		{"iat is 60 s ahead", 60 * time.Second, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.token(t, form, proof(t, p, "iat", s.clock.Now().Add(tt.iat).Unix()))
			if tt.good {
				a.check(t, http.StatusOK, "")
				return
			}
			a.check(t, http.StatusBadRequest, grants.InvalidDPoPProof)
		})
	}
}

// The clocks may differ by 30 seconds. An assertion may be as old as its exp allows, so that an iat or nbf of long ago is good.
func TestClockOfClientAssertions(t *testing.T) {
	k := newKeyed(t, "ES256")
	for _, tt := range []struct {
		name, claim string
		at          time.Duration
		good        bool
	}{
		{"iat is 8 s ahead", "iat", 8 * time.Second, true},
		{"iat is 60 s ahead", "iat", 60 * time.Second, false},
		{"iat is 8 s behind", "iat", -8 * time.Second, true},
		{"iat is 60 s behind", "iat", -60 * time.Second, true},
		{"nbf is 8 s ahead", "nbf", 8 * time.Second, true},
		{"nbf is 60 s ahead", "nbf", 60 * time.Second, false},
		{"nbf is 8 s behind", "nbf", -8 * time.Second, true},
		{"nbf is 60 s behind", "nbf", -60 * time.Second, true},
		{"exp is 8 s ahead", "exp", 8 * time.Second, true},
		{"exp is 8 s behind", "exp", -8 * time.Second, true},
		{"exp is 29 s behind", "exp", -29 * time.Second, true},
		{"exp is 30 s behind", "exp", -30 * time.Second, false},
		{"exp is 60 s behind", "exp", -60 * time.Second, false},
		{"exp is 60 s ahead", "exp", 60 * time.Second, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k.site.address = tt.name // failures of one address are limited
			signed := k.sign(t, "", k.claimsOf("billing", tt.claim, k.clock.Now().Add(tt.at).Unix()))
			a := k.token(t, with(signed), header("Authorization", ""))
			if !tt.good {
				a.check(t, http.StatusUnauthorized, "invalid_client")
				return
			}
			a.check(t, http.StatusOK, "")
			// The jti is remembered for as long as the assertion is good.
			k.token(t, with(signed), header("Authorization", "")).check(t, http.StatusUnauthorized, "invalid_client")
		})
	}
}
