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

// throttled is a Verifier that bounds guessing, by account and by address. It treats accounts that do not exist like those
// that do. A running attempt counts as a failure until its outcome is known, so that not one guess exceeds the limits.
type throttled struct {
	grants.Verifier
	core    *core
	address string // of the client
}

// Verify implements grants.Verifier.
func (t throttled) Verify(ctx context.Context, username, password string) (*grants.Person, error) {
	account := accountKey(username)
	attempt, wait := t.core.limiter.Reserve(throttle.Password, t.address, account)
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

// accountKey returns the name of an account for the throttle: a hash, since a request can make the user name long. Names
// that differ in case or in spaces around them are the same account, as they are on many sites.
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
