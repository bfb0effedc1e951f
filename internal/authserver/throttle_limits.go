package authserver

import (
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
)

// Limits are how often things can go wrong. A Limit that is zero is the default.
type Limits struct {
	Off       bool  // nothing is bounded
	Clients   Limit // wrong secrets for a client
	Passwords Limit // wrong passwords for an account
	Addresses Limit // of these, by an address
	Tokens    Limit // codes, refresh tokens and access tokens that are no good, by an address
}

// withDefaults returns the limits with nothing left open.
func (l Limits) withDefaults() Limits {
	for limit, standard := range map[*Limit]Limit{
		&l.Clients:   {Burst: 30, Every: 20 * time.Second},
		&l.Passwords: {Burst: 10, Every: time.Minute}, // RFC 6749 §4.3.2
		&l.Addresses: {Burst: 30, Every: 10 * time.Second},
		&l.Tokens:    {Burst: 600, Every: time.Second},
	} {
		if limit.Burst == 0 {
			*limit = standard
		}
	}
	return l
}

// The kinds of what is throttled, for the metrics.
const (
	throttledClient   = "client"
	throttledPassword = "password"
	throttledGrant    = "grant"
	throttledToken    = "token"
)

// gate is the throttle as one issuer uses it.
type gate struct {
	throttle *Throttle
	limits   Limits
	issuer   string
	refused  func(kind string) // counts
	now      func() time.Time
}

func newGate(throttle *Throttle, limits Limits, issuer string, refused func(kind string), now func() time.Time) *gate {
	return &gate{throttle, limits.withDefaults(), issuer, refused, now}
}

// secrets returns what bounds guesses of a secret of a party, a client or the hash of an account, from an address. An
// address that has known the secret has a count of its own with that party: neither guessers elsewhere nor neighbours can
// use it up. "" is no party that there is; only the address counts then.
func (g *gate) secrets(kind string, limit Limit, party, address string) []bound {
	byAddress := bound{throttleKey{g.issuer, kind, "", address}, g.limits.Addresses}
	if party == "" {
		return []bound{byAddress}
	}
	if pair := g.pair(kind, party, address); g.throttle.knows(pair) {
		return []bound{{pair, limit}}
	}
	return []bound{{throttleKey{g.issuer, kind, party, ""}, limit}, byAddress}
}

func (g *gate) pair(kind, party, address string) throttleKey {
	return throttleKey{g.issuer, kind, party, address}
}

// check refuses an attempt if one of the limits is used up.
func (g *gate) check(kind string, limits []bound) error {
	if after := g.throttle.look(g.now(), limits); after > 0 {
		g.refused(kind)
		return tooMany(after)
	}
	return nil
}

// tooMany returns the refusal for failures that were too many. RFC 6585 §4 has the status; of the error codes of RFC
// 6749, this is the one that asks to come back later.
func tooMany(after time.Duration) *grants.Error {
	return &grants.Error{
		Code: grants.TemporarilyUnavailable, Description: "too many failed attempts, try again later",
		Status: http.StatusTooManyRequests, RetryAfter: after,
	}
}

// garbage counts something that no one can guess and that was no good, and returns for how long the address has been
// bringing too much of it, 0 if it has not. It is asked afterwards: what is good always passes, so that
// nobody can lock out others by sending garbage through them.
func (g *gate) garbage(kind, party, address string) (after time.Duration) {
	if g.limits.Off {
		return 0
	}
	now, limits := g.now(), []bound{{throttleKey{g.issuer, kind, party, address}, g.limits.Tokens}}
	if after := g.throttle.look(now, limits); after > 0 {
		g.refused(kind)
		return after
	}
	g.throttle.charge(now, limits)
	return 0
}

// badGrant counts a code or refresh token that was refused, and returns what to answer.
func (s *Server) badGrant(c *call, err error) error {
	var refusal *grants.Error
	if !errors.As(err, &refusal) || refusal.Situation != grants.BadCode && refusal.Situation != grants.BadRefreshToken {
		return err
	}
	after := s.gate.garbage(throttledGrant, c.client.ID, network(c.address))
	if after == 0 {
		return err
	}
	slow := tooMany(after)
	slow.Cause = err
	return slow
}

// network returns what an address has in common with all others of the same line: itself, or for IPv6, of which
// everybody has more than can be counted, the first 64 bits.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	if ip.Is4() {
		return address // which has one spelling
	}
	if ip = ip.Unmap().WithZone(""); ip.Is6() {
		prefix, _ := ip.Prefix(64)
		return prefix.String()
	}
	return ip.String()
}
