package authserver

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// RemoteKeys are the public keys of an issuer elsewhere. They are fetched on first need, again before they run out and,
// not too often, when a token names an unknown one. While the issuer is down, the known ones go on serving. Safe for
// concurrent use; meant to be shared and to outlive a configuration.
type RemoteKeys struct {
	fetcher remoteFetcher
	now     func() time.Time

	set    atomic.Pointer[remoteSet] // nil before the first success
	down   atomic.Bool               // the last attempt failed
	flight singleflight.Group

	stop context.CancelFunc
	done context.Context //nolint:containedctx // ends with Destruct, not with a request

	// Of the last attempt; touched within flight alone.
	tried time.Time
	err   error
}

// remoteSet is what was learned of an issuer. It does not change, but for its cache: an attempt replaces it.
type remoteSet struct {
	keys     []*jwt.Key // of one kid there can be several, for different algorithms
	document []byte     // the JWKS that the keys are from
	uri      string     // of the JWKS
	located  time.Time  // until when uri need not be looked up again

	renew, expires time.Time

	// The tokens that these keys signed. With other keys it begins anew, so that a key that is taken back takes its
	// tokens with it.
	cache *tokenCache
}

const (
	remoteFloor      = 10 * time.Second // between attempts
	remoteFirstFloor = time.Second      // between attempts while there are no keys at all
	remoteTimeout    = 5 * time.Second  // of an attempt
)

// NewRemoteKeys returns the keys of the issuer with that URL. It does not touch the network. now is nil for time.Now.
func NewRemoteKeys(issuer string, now func() time.Time) *RemoteKeys {
	if now == nil {
		now = time.Now
	}
	k := &RemoteKeys{fetcher: newRemoteFetcher(issuer), now: now}
	k.done, k.stop = context.WithCancel(context.Background())
	return k
}

// Destruct ends an attempt that is under way. It implements the interface of Caddy's UsagePool.
func (k *RemoteKeys) Destruct() error {
	k.stop()
	return nil
}

// load returns the keys. It waits for an attempt if there are none, or if they have run out unnoticed, as nobody asked
// for long; else an attempt that is due runs in the background.
func (k *RemoteKeys) load(ctx context.Context, log *zap.Logger) (*remoteSet, error) {
	set, now := k.set.Load(), k.now()
	switch {
	case set == nil, !now.Before(set.expires) && !k.down.Load():
		return k.refresh(ctx, log)
	case !now.Before(set.renew):
		k.attempt(log)
	}
	return set, nil
}

// find returns the keys that a token's header asks for, of which one must have signed it.
func (k *RemoteKeys) find(ctx context.Context, h jwt.Header, log *zap.Logger) (*remoteSet, []*jwt.Key, error) {
	set, err := k.load(ctx, log)
	if err != nil {
		return nil, nil, err
	}
	keys, err := set.find(h)
	if err == jwt.ErrKey { //nolint:errorlint // never wrapped
		if set, err = k.refresh(ctx, log); err != nil {
			return nil, nil, err
		}
		keys, err = set.find(h)
	}
	return set, keys, err
}

// find is RemoteKeys.find among known keys. The key decides on the algorithm, never the token (RFC 8725 §3.1); a token
// that names no key (RFC 7515 §4.1.4) can be of any.
func (s *remoteSet) find(h jwt.Header) ([]*jwt.Key, error) {
	var keys []*jwt.Key
	named := false
	for _, key := range s.keys {
		if h.KeyID != "" && key.ID != h.KeyID {
			continue
		}
		named = true
		if key.Algorithm == h.Algorithm {
			keys = append(keys, key)
		}
	}
	switch {
	case !named:
		return nil, jwt.ErrKey
	case len(keys) == 0:
		return nil, jwt.ErrAlgorithm
	}
	return keys, nil
}

// refresh waits for an attempt and returns the keys that are known after it.
func (k *RemoteKeys) refresh(ctx context.Context, log *zap.Logger) (*remoteSet, error) {
	select {
	case result := <-k.attempt(log):
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*remoteSet), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// attempt looks for news in the background, unless somebody does or just did.
func (k *RemoteKeys) attempt(log *zap.Logger) <-chan singleflight.Result {
	return k.flight.DoChan("", func() (any, error) {
		set, now := k.set.Load(), k.now()
		floor := remoteFloor
		if set == nil {
			floor = remoteFirstFloor
		}
		if k.tried.IsZero() || now.Sub(k.tried) >= floor {
			k.tried = now
			set = k.update(set, now, log)
		}
		if set == nil {
			return nil, k.err
		}
		return set, nil
	})
}

// update returns the keys after an attempt: those before if it failed.
func (k *RemoteKeys) update(set *remoteSet, now time.Time, log *zap.Logger) *remoteSet {
	ctx, cancel := context.WithTimeout(k.done, remoteTimeout)
	defer cancel()
	next, err := k.fetch(ctx, set, now)
	k.down.Store(err != nil)
	if err != nil {
		k.err = fmt.Errorf("the keys of the issuer %s: %w", k.fetcher.issuer, err)
		log.Warn("keys of an issuer elsewhere not fetched; those known go on serving",
			zap.String("issuer", k.fetcher.issuer), zap.Bool("known", set != nil), zap.Error(err))
		return set
	}
	if set == nil || next.cache != set.cache {
		log.Info("keys of an issuer elsewhere fetched", zap.String("issuer", k.fetcher.issuer), zap.Int("keys", len(next.keys)))
	}
	k.set.Store(next)
	return next
}

// fetch asks the issuer where its keys are, if that is not known from before, and what they are.
func (k *RemoteKeys) fetch(ctx context.Context, old *remoteSet, now time.Time) (*remoteSet, error) {
	next := new(remoteSet)
	if old != nil && now.Before(old.located) && !k.down.Load() {
		next.uri, next.located = old.uri, old.located
	} else {
		uri, fresh, err := k.fetcher.locate(ctx, now)
		if err != nil {
			return nil, err
		}
		next.uri, next.located = uri, now.Add(fresh)
	}
	document, fresh, err := k.fetcher.get(ctx, next.uri, now)
	if err != nil {
		return nil, err
	}
	next.document, next.expires = document, now.Add(fresh)
	next.renew = now.Add(fresh - fresh/4)
	if old != nil && slices.Equal(old.document, document) {
		next.keys, next.cache = old.keys, old.cache
		return next, nil
	}
	next.cache = new(tokenCache)
	next.keys, err = jwt.ParsePublicKeys(document)
	return next, err
}
