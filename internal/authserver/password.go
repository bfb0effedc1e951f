package authserver

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// How often an account, and an address, can be wrong about a password (RFC 6749 §4.3.2).
var (
	accountLimit = Limit{Burst: 10, Every: time.Minute}
	addressLimit = Limit{Burst: 30, Every: 10 * time.Second}
)

// throttled is a Verifier that bounds guessing, by account and by address. An account that does not exist is throttled
// like one that does.
type throttled struct {
	grants.Verifier
	s       *Server
	address string
}

// verifierFor returns the verifier of passwords for a request, nil if there is none.
func (s *Server) verifierFor(c *call) grants.Verifier {
	if s.passwords == nil {
		return nil
	}
	return throttled{s.passwords, s, network(c.site.ClientIP(c.r))}
}

// Verify implements grants.Verifier.
func (t throttled) Verify(ctx context.Context, username, password string) (*grants.Person, error) {
	prefix := "password\x00" + t.s.config.Name + "\x00"
	try, after := t.s.config.Throttle.try(t.s.now(), map[string]Limit{
		prefix + "account\x00" + storage.HashID(strings.ToLower(username)): accountLimit,
		prefix + "address\x00" + t.address:                                 addressLimit,
	})
	if try == nil {
		return nil, &grants.Error{
			Code: grants.SlowDown, Description: "too many failed attempts, try again later",
			Status: http.StatusTooManyRequests, RetryAfter: after,
		}
	}
	person, err := t.Verifier.Verify(ctx, username, password)
	if !errors.Is(err, grants.ErrBadUser) {
		try.forgive()
	}
	if err != nil {
		return nil, err
	}
	return person, t.s.checkSubject(ctx, person.Subject)
}

// network returns what an address has in common with all others of the same line: itself, or for IPv6, of which
// everybody has more than can be counted, the first 64 bits.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	if ip = ip.Unmap().WithZone(""); ip.Is6() {
		prefix, _ := ip.Prefix(64)
		return prefix.String()
	}
	return ip.String()
}
