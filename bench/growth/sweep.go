package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// swept is a sweep of expired families.
type swept struct {
	expired int
	took    time.Duration
	during  latency // of refreshes by many callers at the same time, if there were any
}

// sweeps adds an expired family for each hundred, and times the sweep: once without other work, and once under load.
func (p *filledStore) sweeps(ctx context.Context) error {
	if _, ok := storage.As[storage.Sweeper](p.store); !ok {
		return nil // it needs none
	}
	for _, loaded := range []bool{false, true} {
		s := swept{expired: max(p.n/100, 1)}
		if err := p.expire(ctx, s.expired); err != nil {
			return err
		}
		var done atomic.Bool
		refreshed := make(chan error, 1)
		if loaded {
			go func() {
				var err error
				s.during, err = p.refreshes(ctx, callers, time.Hour, &done)
				refreshed <- err
			}()
		} else {
			refreshed <- nil
		}
		began := time.Now()
		err := p.sweep(ctx)
		s.took = time.Since(began)
		done.Store(true)
		if err := errors.Join(err, <-refreshed); err != nil {
			return err
		}
		p.swept = append(p.swept, s)
	}
	return nil
}

// expire adds families that expired three hours ago.
func (p *filledStore) expire(ctx context.Context, n int) error {
	ended := time.Now().Add(-3 * time.Hour)
	return inParallel(fillers, func(filler int) error {
		for i := filler; i < n; i += fillers {
			if _, _, err := startFamily(ctx, p.store, i, ended); err != nil {
				return err
			}
		}
		return nil
	})
}

// sweep sweeps at once. The store has records that say when the next sweep is due and which bucket was swept last; both are
// reset first, so that the sweep includes the buckets of the expired families.
func (p *filledStore) sweep(ctx context.Context) error {
	sweeper, ok := storage.As[storage.Sweeper](p.store)
	if !ok {
		return nil
	}
	due, last := storage.Key{Kind: "sweep", ID: "buckets"}, storage.Key{Kind: "sweep", ID: "swept"}
	if err := p.store.Delete(ctx, due); err != nil {
		return err
	}
	err := p.store.Update(ctx, last, func(old []byte) ([]byte, time.Time, error) {
		if old == nil {
			return nil, time.Time{}, storage.ErrKeep
		}
		return []byte(storage.BucketFor(time.Now().Add(-6 * time.Hour))), time.Time{}, nil
	})
	if err != nil {
		return err
	}
	return sweeper.Sweep(ctx)
}
