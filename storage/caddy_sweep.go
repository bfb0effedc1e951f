package storage

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
)

const (
	bucketsEvery = 10 * time.Minute
	recordsEvery = 24 * time.Hour

	// sweepMargin is how far the clocks of nodes may differ before a sweep takes what is live.
	sweepMargin = time.Hour

	kindSweep Kind = "sweep"
)

// Sweep deletes ended buckets, a directory each, and once a day looks for late records where there
// is no bucket to end. The first node to come does it, for all of them.
func (s *caddyStore) Sweep(ctx context.Context) error {
	mine, err := s.takeTurn(ctx, "buckets", bucketsEvery)
	if err != nil || !mine {
		return err
	}
	s.log.Debug("sweeping", zap.String("root", s.root)) // for all nodes
	records, err := s.takeTurn(ctx, "records", recordsEvery)
	if err != nil {
		return err
	}
	kinds, err := s.subdirs(ctx, s.root)
	if err != nil {
		return err
	}
	var errs []error
	for _, kind := range kinds {
		errs = append(errs, s.sweepBuckets(ctx, s.dir(Kind(kind))))
		if records {
			errs = append(errs, s.sweepRecords(ctx, Kind(kind)))
		}
	}
	return errors.Join(errs...)
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

func (s *caddyStore) sweepBuckets(ctx context.Context, dir string) error {
	buckets, err := s.subdirs(ctx, dir)
	if err != nil {
		return err
	}
	for _, bucket := range buckets {
		if err := ctx.Err(); err != nil {
			return err
		}
		end, ends := Bucket(bucket).End()
		if !ends || !late(end.Add(sweepMargin), s.now()) {
			continue
		}
		if err := s.dropBucket(ctx, dir+"/"+bucket); err != nil {
			return err
		}
	}
	return nil
}

func (s *caddyStore) dropBucket(ctx context.Context, dir string) error {
	if err := s.remove(ctx, dir); err != nil {
		return err
	}
	// A storage should delete what is in a directory with it, but not every one does.
	for name, err := range s.walk(ctx, dir) {
		if err != nil {
			return err
		}
		if err := s.remove(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// sweepRecords passes over damaged records: they are for people to look at.
func (s *caddyStore) sweepRecords(ctx context.Context, kind Kind) error {
	for key, err := range s.keys(ctx, kind) {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, ends := key.Bucket().End(); ends {
			continue
		}
		if _, err := s.load(ctx, key); !errors.Is(err, ErrNotFound) {
			continue
		}
		if err := s.Update(ctx, key, dropLate); err != nil {
			return err
		}
	}
	return nil
}

// dropLate looks again, now under the lock, whether the record is late.
func dropLate(old []byte) ([]byte, time.Time, error) {
	if old != nil {
		return nil, time.Time{}, ErrKeep
	}
	return nil, time.Time{}, nil
}
