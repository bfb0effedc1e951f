package bearer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// RemoteIssuer validates access tokens of an issuer elsewhere: JWTs that its published keys verify (RFC 9068 §4). It does
// not learn what that issuer has revoked.
type RemoteIssuer struct {
	URL   string      // the issuer, exactly as in its metadata and tokens
	Keys  *RemoteKeys // of that issuer
	Types []string    // accepted types of tokens, beside at+jwt
	Log   *zap.Logger

	Scopes []string // that tokens must have; it is logged once if the issuer does not have them
	warned sync.Once
}

var _ Source = (*RemoteIssuer)(nil)

// AccessToken implements [Source]. If the error is no [jwt.InvalidToken], the issuer's keys could not be fetched.
func (i *RemoteIssuer) AccessToken(ctx context.Context, token string, leeway time.Duration) (*jwt.Claims, error) {
	t, err := jwt.Split(token)
	if err != nil {
		return nil, err
	}
	h, err := t.ParseHeader()
	if err != nil {
		return nil, err
	}
	// Check whatever needs no keys first, so that a token that cannot be of that issuer causes no fetch.
	if !h.IsType(jwt.AccessTokenType) && !slices.ContainsFunc(i.Types, h.IsType) {
		return nil, jwt.ErrType.Explain("typ "+h.Type, strings.Join(append([]string{jwt.AccessTokenType}, i.Types...), " "), "oauth_guard: types")
	}
	if !jwt.Asymmetric(h.Algorithm) {
		return nil, jwt.ErrAlgorithm.Explain("alg "+h.Algorithm, "an asymmetric algorithm", "")
	}
	set, keys, err := i.Keys.find(ctx, h, i.Log)
	if err != nil {
		return nil, err
	}
	i.warned.Do(func() { i.warnOfScopes(set.metadata.Scopes) })
	slot := set.cache.Find(token)
	if claims := slot.Get(i.Keys.now()); claims != nil {
		return claims, nil
	}
	claims, err := i.verify(t, keys, leeway)
	if err != nil {
		return nil, err
	}
	slot.Put(claims)
	return claims, nil
}

// warnOfScopes logs which scopes the issuer does not have, if it says which it has.
func (i *RemoteIssuer) warnOfScopes(supported []string) {
	for _, scope := range i.Scopes {
		if len(supported) > 0 && !slices.Contains(supported, scope) {
			i.Log.Warn("a guard requires a scope that its issuer does not list in scopes_supported; no token may ever have it",
				zap.String("issuer", i.URL), zap.String("scope", scope), zap.Strings("scopes_supported", supported))
		}
	}
}

// verify returns the claims of a token that one of the keys signed.
func (i *RemoteIssuer) verify(t jwt.Token, keys []*jwt.Key, leeway time.Duration) (*jwt.Claims, error) {
	for _, key := range keys {
		payload, err := t.Verify(key)
		if errors.Is(err, jwt.ErrSignature) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return i.check(payload, leeway)
	}
	return nil, jwt.ErrSignature
}

// check returns the claims of a payload that the issuer signed, if they are valid now.
func (i *RemoteIssuer) check(payload []byte, leeway time.Duration) (*jwt.Claims, error) {
	claims, err := jwt.ParseClaims(payload)
	if err != nil {
		return nil, err
	}
	if claims.Issuer != i.URL {
		return nil, jwt.ErrIssuer.Explain("iss "+claims.Issuer, i.URL, "oauth_guard: issuer").Of(claims)
	}
	if err := claims.CheckTime(i.Keys.now(), leeway); err != nil {
		return nil, err
	}
	return claims, nil
}

// RemoteKeys are the public keys of an issuer elsewhere. They are fetched when they are first needed, again before they
// expire, and when a token names an unknown key, though not too often. While the issuer is down, the known keys stay in
// use. Safe for concurrent use; meant to be shared and to outlive a configuration.
type RemoteKeys struct {
	fetcher fetcher
	now     func() time.Time

	set    atomic.Pointer[remoteSet] // nil before the first success
	down   atomic.Bool               // the last attempt failed
	flight singleflight.Group

	stop context.CancelFunc
	done context.Context //nolint:containedctx // ends with Destruct, not with a request

	// Of the last attempt; used only within flight.
	tried time.Time
	err   error
}

// remoteSet is the result of a successful attempt. It never changes, except for its cache: the next attempt replaces it.
type remoteSet struct {
	keys     []*jwt.Key // several can have the same kid, for different algorithms
	document []byte     // the JWKS that the keys are from
	metadata issuerMetadata
	located  time.Time // until when the metadata need not be looked up again

	renew, expires time.Time

	// The tokens that these keys signed. A new set of keys has a new cache, so that the tokens of a withdrawn key are
	// withdrawn too.
	cache *Cache
}

const (
	attemptInterval      = 10 * time.Second // at least, between attempts
	firstAttemptInterval = time.Second      // the same as long as there are no keys at all
	attemptTimeout       = 5 * time.Second
)

// NewRemoteKeys returns the keys of the issuer with that URL. It does not use the network. A nil now means time.Now.
func NewRemoteKeys(issuer string, now func() time.Time) *RemoteKeys {
	if now == nil {
		now = time.Now
	}
	k := &RemoteKeys{fetcher: newFetcher(issuer), now: now}
	k.done, k.stop = context.WithCancel(context.Background())
	return k
}

// Destruct ends an attempt that is in progress. It implements the interface of Caddy's UsagePool.
func (k *RemoteKeys) Destruct() error {
	k.stop()
	return nil
}

// load returns the keys. It waits for an attempt if there are none, or if they have expired because no request came for
// long. If the keys are merely due for renewal, the attempt runs in the background.
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

// find returns the keys that a token's header names, of which one must have signed it.
func (k *RemoteKeys) find(ctx context.Context, h jwt.Header, log *zap.Logger) (*remoteSet, []*jwt.Key, error) {
	set, err := k.load(ctx, log)
	if err != nil {
		return nil, nil, err
	}
	keys, err := set.find(h)
	if errors.Is(err, jwt.ErrKey) {
		if set, err = k.refresh(ctx, log); err != nil {
			return nil, nil, err
		}
		keys, err = set.find(h)
	}
	return set, keys, err
}

// find returns the known keys that a token's header names. The key decides on the algorithm, never the token (RFC 8725
// §3.1). If the token names no key, any may have signed it (RFC 7515 §4.1.4).
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
		return nil, jwt.ErrKey.Explain("kid "+h.KeyID, "one of "+s.kids(), "the keys at "+s.metadata.JWKSURI)
	case len(keys) == 0:
		return nil, jwt.ErrAlgorithm.Explain("alg "+h.Algorithm, "the algorithm of the key "+h.KeyID, "the keys at "+s.metadata.JWKSURI)
	}
	return keys, nil
}

// kids lists the IDs of the keys, for the log.
func (s *remoteSet) kids() string {
	ids := make([]string, 0, len(s.keys))
	for _, key := range s.keys {
		ids = append(ids, key.ID)
	}
	return strings.Join(ids, " ")
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

// attempt fetches the keys in the background, unless an attempt is in progress or was made a moment ago.
func (k *RemoteKeys) attempt(log *zap.Logger) <-chan singleflight.Result {
	return k.flight.DoChan("", func() (any, error) {
		set, now := k.set.Load(), k.now()
		interval := attemptInterval
		if set == nil {
			interval = firstAttemptInterval
		}
		if k.tried.IsZero() || now.Sub(k.tried) >= interval {
			k.tried = now
			set = k.update(set, now, log)
		}
		if set == nil {
			return nil, k.err
		}
		return set, nil
	})
}

// update makes an attempt and returns the keys after it: the old ones if it failed.
func (k *RemoteKeys) update(set *remoteSet, now time.Time, log *zap.Logger) *remoteSet {
	ctx, cancel := context.WithTimeout(k.done, attemptTimeout)
	defer cancel()
	next, err := k.fetch(ctx, set, now)
	k.down.Store(err != nil)
	if err != nil {
		k.err = fmt.Errorf("the keys of the issuer %s: %w", k.fetcher.issuer, err)
		log.Warn("keys of remote issuer not fetched; known keys stay in use",
			zap.String("issuer", k.fetcher.issuer), zap.Bool("known", set != nil), zap.Error(err))
		return set
	}
	if set == nil || next.cache != set.cache {
		log.Info("keys of remote issuer fetched", zap.String("issuer", k.fetcher.issuer), zap.Int("keys", len(next.keys)))
	}
	k.set.Store(next)
	return next
}

// fetch fetches the issuer's metadata, unless the JWKS URI in it is still fresh, and then its keys.
func (k *RemoteKeys) fetch(ctx context.Context, old *remoteSet, now time.Time) (*remoteSet, error) {
	next := new(remoteSet)
	if old != nil && now.Before(old.located) && !k.down.Load() {
		next.metadata, next.located = old.metadata, old.located
	} else {
		metadata, fresh, err := k.fetcher.locate(ctx, now)
		if err != nil {
			return nil, err
		}
		next.metadata, next.located = metadata, now.Add(fresh)
	}
	document, fresh, err := k.fetcher.get(ctx, next.metadata.JWKSURI, now)
	if err != nil {
		return nil, err
	}
	next.document, next.expires = document, now.Add(fresh)
	next.renew = now.Add(fresh - fresh/4)
	if old != nil && slices.Equal(old.document, document) {
		next.keys, next.cache = old.keys, old.cache
		return next, nil
	}
	next.cache = new(Cache)
	next.keys, err = jwt.ParsePublicKeys(document)
	return next, err
}
