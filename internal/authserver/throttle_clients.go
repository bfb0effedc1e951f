package authserver

import (
	"context"
	"errors"
	"slices"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// slowAtOnce is how many secrets are compared with hashes that are slow on purpose at once.
const slowAtOnce = 16

// throttled authenticates with a secret, unless too many were wrong: for the client, if the address has never known its
// secret, and from the address. A wrong secret for a client that has none, or that is not there, counts for the address
// only.
//
// It looks, compares, and counts what was wrong, so that good clients can come in any number at once. Guesses that were
// compared between a look and the count of the last one get past the limit: slowAtOnce where hashes are slow, as
// many as there are processors where they are not. They are owed, see [Throttle.charge].
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
	if a.gate.limits.Off {
		return compare(ctx)
	}
	address := network(c.address)
	limits := a.gate.secrets(throttledClient, a.gate.limits.Clients, party, address)
	if err := a.gate.check(throttledClient, limits); err != nil {
		return nil, err
	}
	client, err := compare(ctx)
	switch {
	case client != nil:
		a.gate.throttle.know(a.gate.pair(throttledClient, client.ID, address))
	case errors.Is(err, errBadClient):
		a.gate.throttle.charge(a.gate.now(), limits)
	}
	return client, err
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
