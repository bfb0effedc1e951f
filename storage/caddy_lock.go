package storage

import (
	"context"
	"fmt"

	"github.com/caddy-oauth/caddy-oauth/internal/stripes"
)

// lock excludes everybody else from the record: first the goroutines of this process, by a stripe, then the other
// processes, by a lock of the backend. It waits no longer than ctx lives.
func (s *caddyStore) lock(ctx context.Context, key Key) (unlock func(), err error) {
	n := stripes.Of(string(key.Kind), key.ID)
	if err := s.stripes.Lock(ctx, n); err != nil {
		return nil, fmt.Errorf("storage: waiting for %s: %w", s.place.path(key), err)
	}
	release, err := s.backend.tryLock(key)
	if err != nil {
		s.stripes.Unlock(n)
		return nil, err
	}
	if release == nil {
		if release, err = s.waitLock(ctx, key, n); err != nil {
			return nil, err
		}
	}
	return func() {
		release()
		s.stripes.Unlock(n)
	}, nil
}

// waitLock waits at arm's length, as not every lock gives up with ctx. It is called with stripe n held, and sees to
// it that the stripe is given back if it fails. A wait that nobody waits for any more keeps the stripe until
// it is over: the next in line queue up at the stripe, instead of each blocking one more thread on a lock whose
// holder has stopped.
func (s *caddyStore) waitLock(ctx context.Context, key Key, n uint8) (release func(), err error) {
	type result struct {
		release func()
		err     error
	}
	results := make(chan result)
	go func() {
		release, err := s.backend.waitLock(ctx, key)
		select {
		case results <- result{release, err}:
			return
		case <-ctx.Done():
		}
		if err == nil {
			release()
		}
		s.stripes.Unlock(n)
	}()
	select {
	case r := <-results:
		if r.err != nil {
			s.stripes.Unlock(n)
		}
		return r.release, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("storage: waiting for %s: %w", s.place.path(key), ctx.Err())
	}
}
