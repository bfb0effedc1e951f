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
// like one that does. To the throttle, names that many sites take for one are one: they differ in case or in spaces around.
type throttled struct {
	grants.Verifier
	s       *Server
	address string
}

// verifierFor returns the verifier of passwords that the grant type of a request brought, nil if it brought none.
func (s *Server) verifierFor(c *call) grants.Verifier {
	verifier := s.verifiers[c.grant]
	if verifier == nil {
		return nil
	}
	return throttled{verifier, s, network(c.site.ClientIP(c.r))}
}

// Verify implements grants.Verifier.
func (t throttled) Verify(ctx context.Context, username, password string) (*grants.Person, error) {
	prefix := "password\x00" + t.s.config.Name + "\x00"
	account := storage.HashID(strings.ToLower(strings.TrimSpace(username)))
	try, after := t.s.config.Throttle.try(t.s.now(), map[string]Limit{
		prefix + "account\x00" + account:   accountLimit,
		prefix + "address\x00" + t.address: addressLimit,
	})
	if try == nil {
		return nil, &grants.Error{
			Code: grants.SlowDown, Description: "too many failed attempts, try again later",
			Status: http.StatusTooManyRequests, RetryAfter: after,
		}
	}
	person, err := t.Verifier.Verify(ctx, username, password)
	if !errors.Is(err, grants.ErrBadUser) {
		try.forgive(t.s.now())
	}
	if err != nil {
		return nil, err
	}
	return person, t.s.checkSubject(person.Subject)
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
