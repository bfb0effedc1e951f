package caddyoauth

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
)

// ThrottleSettings bound how often something can be wrong before the answer is 429 with `Retry-After`. Only failures
// count. They are counted by this node, in bounded memory, and a reload does not forget them. Addresses are those that
// Caddy trusts (`trusted_proxies`), IPv6 ones by their first 64 bits.
//
// An address that has authenticated as a client or an account has counts of its own with that one, so that guesses from
// elsewhere do not lock it out.
type ThrottleSettings struct {
	// Nothing is bounded. **Danger:** secrets and passwords can then be guessed as fast as this server can answer.
	Off bool `json:"off,omitempty"`

	// Wrong secrets for one client, at the token, introspection and revocation endpoints. Default: 30 in 10 minutes.
	// **Danger:** with a small number, anybody can keep the client from authenticating at addresses it has not been at
	// yet.
	Clients *FailureLimit `json:"clients,omitempty"`

	// Wrong passwords for one account. Default: 10 in 10 minutes. **Danger:** with a small number, anybody can keep
	// people out at addresses they have not been at yet.
	Passwords *FailureLimit `json:"passwords,omitempty"`

	// Wrong secrets, and wrong passwords, from one address. Default: 30 in 5 minutes. **Danger:** behind one address may be
	// a whole office, or, without `trusted_proxies`, everybody who comes through your proxy.
	Addresses *FailureLimit `json:"addresses,omitempty"`

	// Codes and refresh tokens from one address with one client, and access tokens from one address at the guards, that
	// are no good. Nobody can guess these, so good ones always pass: this tells broken clients to slow down. Default: 600
	// in 10 minutes.
	Tokens *FailureLimit `json:"tokens,omitempty"`
}

// FailureLimit is how many failures are let through in how long. They can come all at once; each is given back
// after its share of the time.
type FailureLimit struct {
	// How many.
	Failures int `json:"failures"`

	// In how long, at least a second.
	Per caddy.Duration `json:"per"`
}

const maxFailures = 100_000

func (s *ThrottleSettings) check() error {
	if s == nil {
		return nil
	}
	limits, limited := s.byName(), false
	for _, name := range slices.Sorted(maps.Keys(limits)) {
		limit := *limits[name]
		if limit == nil {
			continue
		}
		limited = true
		if limit.Failures < 1 || limit.Failures > maxFailures {
			return directive.At(name, errors.New("expected a number of failures from 1 to 100000"))
		}
		if time.Duration(limit.Per) < time.Second {
			return directive.At(name, errors.New("expected a duration of a second or more"))
		}
	}
	if s.Off == limited {
		return errors.New("expected either off, or limits in a block")
	}
	return nil
}

func (s *ThrottleSettings) byName() map[string]**FailureLimit {
	return map[string]**FailureLimit{
		"clients": &s.Clients, "passwords": &s.Passwords, "addresses": &s.Addresses, "tokens": &s.Tokens,
	}
}

// limits returns the settings as the server wants them.
func (s *ThrottleSettings) limits() throttle.Limits {
	if s == nil {
		return throttle.Limits{}
	}
	return throttle.Limits{
		Off: s.Off, Clients: s.Clients.limit(), Passwords: s.Passwords.limit(), Addresses: s.Addresses.limit(),
		Tokens: s.Tokens.limit(),
	}
}

// limit returns zero, which is the default, if there is none.
func (l *FailureLimit) limit() throttle.Limit {
	if l == nil {
		return throttle.Limit{}
	}
	return throttle.Limit{Burst: l.Failures, Every: time.Duration(l.Per) / time.Duration(l.Failures)}
}
