package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// round is how long refreshes took in a round, with one caller and with many.
type round struct{ one, many latency }

// latency is the rate and the latency of refreshes.
type latency struct {
	rate     float64 // of all callers
	p50, p99 time.Duration
}

func (p *filledStore) round(ctx context.Context, length time.Duration) (err error) {
	var r round
	if r.one, err = p.refreshes(ctx, 1, length, nil); err != nil {
		return err
	}
	if r.many, err = p.refreshes(ctx, callers, length, nil); err != nil {
		return err
	}
	p.rounds = append(p.rounds, r)
	if len(p.rounds) == 1 {
		p.memory = memoryNow()
	}
	return nil
}

// refreshes refreshes random families for a time, or until stop is true. Without stop, each caller has at least one refresh. No two
// callers refresh the same families.
func (p *filledStore) refreshes(ctx context.Context, n int, length time.Duration, stop *atomic.Bool) (latency, error) {
	took := make([][]time.Duration, n)
	began := time.Now()
	err := inParallel(n, func(caller int) error {
		for len(took[caller]) == 0 && stop == nil || time.Since(began) < length && (stop == nil || !stop.Load()) {
			if err := ctx.Err(); err != nil {
				return err
			}
			i := rand.IntN(p.n/callers)*callers + caller //nolint:gosec // G404: not a secret
			one, err := p.refresh(ctx, i)
			if err != nil {
				return err
			}
			took[caller] = append(took[caller], one)
		}
		return nil
	})
	elapsed := time.Since(began)
	all := slices.Concat(took...)
	if err != nil || len(all) == 0 {
		return latency{}, err
	}
	slices.Sort(all)
	return latency{
		rate: float64(len(all)) / elapsed.Seconds(),
		p50:  all[len(all)/2],
		p99:  all[len(all)*99/100],
	}, nil
}

// refresh updates the record of a family as the server does for a refresh, and returns how long that took.
func (p *filledStore) refresh(ctx context.Context, i int) (time.Duration, error) {
	id, token, err := p.noted(i)
	if err != nil {
		return 0, err
	}
	var next string
	began := time.Now()
	err = p.store.Update(ctx, storage.Key{Kind: storage.KindFamily, ID: id}, func(old []byte) ([]byte, time.Time, error) {
		if old == nil {
			return nil, time.Time{}, errors.New("a family is missing")
		}
		f, err := storage.DecodeFamily(old)
		if err != nil {
			return nil, time.Time{}, err
		}
		now := time.Now()
		if f.TokenStatus(token, now, 0) != storage.TokenCurrent {
			return nil, time.Time{}, errors.New("the current token of a family is another one")
		}
		if next, err = f.Rotate(token, now); err != nil {
			return nil, time.Time{}, err
		}
		record, err := f.Encode()
		return record, f.Expires(now, 0), err
	})
	took := time.Since(began)
	if err != nil {
		return 0, err
	}
	return took, p.note(i, id, next)
}
