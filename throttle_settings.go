package caddyoauth

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
)

// ThrottleSettings limit how often clients and people can fail before the answer is 429 with `Retry-After`, and how many
// authorization codes they can get. But for codes, only failures count. Each node counts for itself, in bounded memory, and a
// reload keeps the counts. The address of a client is the one that Caddy trusts (`trusted_proxies`). IPv6 addresses count by
// their first 64 bits, and all that share the first 48 bits together have ten times the limit of an address.
//
// An address that has authenticated a client or an account before has its own count for it, so that guesses from other
// addresses do not lock it out.
type ThrottleSettings struct {
	// No limits. **Danger:** anybody can guess secrets and passwords as fast as this server answers, and one user can fill
	// the store.
	Off bool `json:"off,omitempty"`

	// Wrong secrets of one client, at all endpoints where clients authenticate. Wrong assertions and certificates have the same limit and
	// a count of their own for each address, so that nobody at another address can lock out a client with a key. Default: 30 in 10 minutes.
	// **Danger:** with a low limit, anybody can lock a client with a secret out at addresses that it has not used before.
	Clients *FailureLimit `json:"clients,omitempty"`

	// Wrong passwords of one account. Default: 10 in 10 minutes. **Danger:** with a low limit, anybody can lock people out at
	// addresses that they have not used before.
	Passwords *FailureLimit `json:"passwords,omitempty"`

	// Wrong secrets from one address; and, each with a count of its own, wrong assertions and certificates of clients, wrong passwords, and
	// wrong codes that people type for a device. Default: 30 in 5 minutes. **Danger:** a whole office can share one address, and
	// without `trusted_proxies`, all who come through your proxy do.
	Addresses *FailureLimit `json:"addresses,omitempty"`

	// Invalid codes, refresh tokens and signed requests from one address with one client, and invalid access tokens from one address
	// at the guards. Nobody can guess them, so valid ones always pass: this limit only slows down broken clients. Default: 600 in
	// 10 minutes.
	Tokens *FailureLimit `json:"tokens,omitempty"`

	// Device codes for one address, used or not, since each becomes a record. All addresses together can get a hundred times as many
	// for one client. A client that the configuration has with a secret or a key can get 20 times as many, from one address or many.
	// Default: 60 in 10 minutes. **Danger:** with a high limit, one address can fill the store.
	Devices *CodeLimit `json:"devices,omitempty"`

	// Authorization requests that public clients, and clients that nobody has added here, push from one address (RFC 9126), used or not,
	// since each becomes a record. All addresses together can push a hundred times as many for one client, and a client that the
	// configuration has with a secret or a key 20 times as many. The first visit of a browser that is not signed in keeps such a record for
	// an hour more; one address can do that as often as it can push. Default: 300 in 10 minutes. **Danger:** with a high limit, one address
	// can fill the store.
	Pushed *RequestLimit `json:"pushed,omitempty"`

	// Authorization codes of one user for one client, used or not, since each can become a record that lives as long as a
	// refresh token: one limit or two, which both hold. Beyond them, the client gets the error `temporarily_unavailable`.
	// Refresh tokens for logins with a password have the same limits and a count of their own. Such a login never fails because
	// of it: beyond the limits, the client gets an access token without a refresh token. Default: 20 in a minute, and 200 in a
	// day. **Danger:** with high limits, one user can fill the store.
	Codes []CodeLimit `json:"codes,omitempty"`
}

// FailureLimit allows a number of failures in a time. It is a token bucket: all of them may come at once, and each is
// allowed again after its share of the time.
type FailureLimit struct {
	// The number of failures.
	Failures int `json:"failures"`

	// The time, from a second to a year.
	Per caddy.Duration `json:"per"`
}

// CodeLimit allows a number of authorization codes, or device codes, in a time. All can be had at once, and each again after its share
// of the time.
type CodeLimit struct {
	// The number of codes.
	Codes int `json:"codes"`

	// The time, from a second to a year.
	Per caddy.Duration `json:"per"`
}

// RequestLimit allows a number of requests in a time. All can come at once, and each can be repeated after its share of the time.
type RequestLimit struct {
	// The number of requests.
	Requests int `json:"requests"`

	// The time, from a second to a year.
	Per caddy.Duration `json:"per"`
}

const (
	maxFailures   = 100_000
	maxPer        = 365 * 24 * time.Hour
	maxCodeLimits = 2
)

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
		if err := checkLimit(limit.Failures, "failures", limit.Per); err != nil {
			return directive.At(name, err)
		}
	}
	if s.Devices != nil {
		limited = true
		if err := checkLimit(s.Devices.Codes, "device codes", s.Devices.Per); err != nil {
			return directive.At("devices", err)
		}
	}
	if s.Pushed != nil {
		limited = true
		if err := checkLimit(s.Pushed.Requests, "requests", s.Pushed.Per); err != nil {
			return directive.At("pushed", err)
		}
	}
	if len(s.Codes) > maxCodeLimits {
		return directive.At("codes", errors.New("expected one limit or two"))
	}
	for _, limit := range s.Codes {
		limited = true
		if err := checkLimit(limit.Codes, "codes", limit.Per); err != nil {
			return directive.At("codes", err)
		}
	}
	if s.Off == limited {
		return errors.New("expected either off, or limits in a block")
	}
	return nil
}

func checkLimit(number int, of string, per caddy.Duration) error {
	if number < 1 || number > maxFailures {
		return fmt.Errorf("expected a number of %s from 1 to %d", of, maxFailures)
	}
	if d := time.Duration(per); d < time.Second || d > maxPer {
		return errors.New("expected a duration from a second to a year")
	}
	return nil
}

func (s *ThrottleSettings) byName() map[string]**FailureLimit {
	return map[string]**FailureLimit{
		"clients": &s.Clients, "passwords": &s.Passwords, "addresses": &s.Addresses, "tokens": &s.Tokens,
	}
}

// limits returns the limits of the server.
func (s *ThrottleSettings) limits() throttle.Limits {
	if s == nil {
		return throttle.Limits{}
	}
	limits := throttle.Limits{
		Off: s.Off, Clients: s.Clients.limit(), Passwords: s.Passwords.limit(), Addresses: s.Addresses.limit(),
		Tokens: s.Tokens.limit(),
	}
	if s.Devices != nil {
		limits.Devices = limitOf(s.Devices.Codes, s.Devices.Per)
	}
	if s.Pushed != nil {
		limits.Pushed = limitOf(s.Pushed.Requests, s.Pushed.Per)
	}
	for _, limit := range s.Codes {
		limits.Codes = append(limits.Codes, limitOf(limit.Codes, limit.Per))
	}
	return limits
}

// limit returns zero, which is the default, if there is no setting.
func (l *FailureLimit) limit() throttle.Limit {
	if l == nil {
		return throttle.Limit{}
	}
	return limitOf(l.Failures, l.Per)
}

func limitOf(number int, per caddy.Duration) throttle.Limit {
	return throttle.Limit{Burst: number, Every: time.Duration(per) / time.Duration(number)}
}
