package authserver

import (
	"context"
	"errors"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// throttled is a Verifier that bounds guessing, by account and by address. An account that does not exist is throttled
// like one that does; to the throttle, names that many sites take for one are one: they differ in case or in spaces
// around. Attempts under way count as failures, so that not one guess gets past the limits.
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
	return throttled{verifier, s, network(c.address)}
}

// Verify implements grants.Verifier.
func (t throttled) Verify(ctx context.Context, username, password string) (*grants.Person, error) {
	gate, account := t.s.gate, storage.HashID(strings.ToLower(strings.TrimSpace(username)))
	if gate.limits.Off {
		return t.verify(ctx, username, password)
	}
	limits := gate.secrets(throttledPassword, gate.limits.Passwords, account, t.address)
	try, after := gate.throttle.try(t.s.now(), limits)
	if try == nil {
		gate.refused(throttledPassword)
		return nil, tooMany(after)
	}
	person, err := t.verify(ctx, username, password)
	if !errors.Is(err, grants.ErrBadUser) {
		try.forgive(t.s.now())
	}
	if err == nil {
		gate.throttle.know(gate.pair(throttledPassword, account, t.address))
	}
	return person, err
}

func (t throttled) verify(ctx context.Context, username, password string) (*grants.Person, error) {
	person, err := t.Verifier.Verify(ctx, username, password)
	if err != nil {
		return nil, err
	}
	return person, t.s.checkSubject(ctx, person.Subject)
}
