package authserver

import (
	"context"
	"errors"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// throttled is a Verifier that bounds guessing, by account and by address. An account that does not exist is throttled
// like one that does; to the throttle, names that many sites take for one are one: they differ in case or in spaces
// around. Attempts under way count as failures, so that not one guess gets past the limits.
type throttled struct {
	grants.Verifier
	core    *core
	address string // of the client
}

// verifierFor returns the verifier of passwords that the grant type of a request brought, nil if it brought none.
func (e *tokenEndpoint) verifierFor(c *call) grants.Verifier {
	verifier := e.verifiers[c.grant]
	if verifier == nil {
		return nil
	}
	return throttled{verifier, e.core, c.address}
}

// Verify implements grants.Verifier.
func (t throttled) Verify(ctx context.Context, username, password string) (*grants.Person, error) {
	account := accountKey(username)
	attempt, wait := t.core.limiter.Reserve(throttle.Password, account, t.address)
	if attempt == nil {
		return nil, clients.TooManyFailures(wait)
	}
	person, err := t.verify(ctx, username, password)
	switch {
	case err == nil:
		attempt.Succeeded(account)
	case errors.Is(err, grants.ErrBadUser):
		attempt.Failed()
	default:
		attempt.Canceled()
	}
	return person, err
}

// accountKey returns a short name of an account for the throttle.
func accountKey(username string) string {
	return storage.HashID(strings.ToLower(strings.TrimSpace(username)))
}

func (t throttled) verify(ctx context.Context, username, password string) (*grants.Person, error) {
	person, err := t.Verifier.Verify(ctx, username, password)
	if err != nil {
		return nil, err
	}
	return person, t.core.checkSubject(ctx, person.Subject)
}
