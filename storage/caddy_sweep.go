package storage

import (
	"context"
	"time"

	"go.uber.org/zap"
)

const (
	bucketsEvery = 10 * time.Minute

	// sweepMargin is how far the clocks of nodes may differ before a sweep takes what is live.
	sweepMargin = time.Hour

	kindSweep Kind = "sweep"
)

// Sweep removes what has expired, and looks everywhere from time to time. The first node to come does it, for all of
// them.
func (s *caddyStore) Sweep(ctx context.Context) error {
	mine, err := s.takeTurn(ctx, "buckets", bucketsEvery)
	if err != nil || !mine {
		return err
	}
	s.log.Debug("sweeping", zap.String("root", s.place.root)) // for all nodes
	everywhere, err := s.takeTurn(ctx, "records", s.backend.everywhereEvery())
	if err != nil {
		return err
	}
	return s.backend.sweep(ctx, everywhere, s.lock)
}

// takeTurn reports whether this node is the one to do a job, and gives it to no other for as long as
// every: the record that says so expires by then.
func (s *caddyStore) takeTurn(ctx context.Context, job string, every time.Duration) (mine bool, err error) {
	err = s.Update(ctx, Key{kindSweep, job}, func(old []byte) ([]byte, time.Time, error) {
		mine = old == nil
		if !mine {
			return nil, time.Time{}, ErrKeep
		}
		return []byte{}, s.now().Add(every), nil
	})
	return mine && err == nil, err
}

// swept reports whether a bucket has ended for every node.
func swept(b Bucket, now time.Time) bool { return b.Ended(now.Add(-sweepMargin)) }
