package authserver

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// slowAtOnce is how many secrets at once are compared with hashes that are slow on purpose.
const slowAtOnce = 16

// throttled authenticates with a secret, unless too many were wrong: for the client, if the address has never known its
// secret, and from the address. A wrong secret for a client that has none, or that does not exist, counts for the
// address only.
//
// Failures are counted after the comparison, see [throttle.Limiter.Check]. So guesses that are compared at the same time
// can exceed the limit: by slowAtOnce where hashes are slow, else by the number of processors.
func (a *clientAuth) throttled(
	c *call, candidates []credentials, compare func(ctx context.Context) (*storage.Client, error),
) (*storage.Client, error) {
	ctx, party := c.ctx(), ""
	if c.named != nil && !c.named.Public() {
		party = c.named.ID
	}
	if a.isSlow(c.named, candidates) {
		if err := a.slow.Acquire(ctx, 1); err != nil {
			return nil, err
		}
		defer a.slow.Release(1)
	}
	attempt, wait := a.limiter.Check(throttle.Client, party, c.address)
	if attempt == nil {
		return nil, tooManyFailures(wait)
	}
	client, err := compare(ctx)
	switch {
	case client != nil:
		attempt.Succeeded(client.ID)
	case errors.Is(err, errBadClient):
		attempt.Failed()
	default:
		attempt.Canceled()
	}
	return client, err
}

// tooManyFailures returns the refusal of an attempt after too many failures, with the status of RFC 6585 §4. Of the
// error codes of RFC 6749, this is the one that tells the client to come back later.
func tooManyFailures(wait time.Duration) *grants.Error {
	return &grants.Error{
		Code: grants.TemporarilyUnavailable, Description: "too many failed attempts, try again later",
		Status: http.StatusTooManyRequests, RetryAfter: wait,
	}
}

// isSlow reports whether to compare secrets with those of the client, or of one that is not there, takes long.
func (a *clientAuth) isSlow(client *storage.Client, candidates []credentials) bool {
	if client == nil {
		client = a.directory.unknown()
	}
	return slices.ContainsFunc(client.SecretHashes, func(hash string) bool {
		return a.secrets.kind(hash) != nil && !slices.ContainsFunc(candidates, func(cred credentials) bool {
			return a.right.Has(hash, cred.secret)
		})
	})
}
