package bounded

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/metrics"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// List implements storage.Store. A listing may take long, as long as it goes on: the timeout is for each ID. The time that
// is measured includes what the caller does with each.
func (s *Store) List(ctx context.Context, kind storage.Kind) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		traced, m := s.measure(ctx, metrics.List, kind)
		defer m.end()
		while, cancel := context.WithCancelCause(traced)
		defer cancel(nil)
		next, stop, err := s.listing(while, cancel, kind)
		defer stop()
		for err == nil {
			var id string
			var more bool
			if id, more, err = next(); err != nil || !more {
				break
			}
			if !yield(id, nil) {
				return
			}
		}
		if err != nil {
			yield("", failure(ctx, Reading, err))
			return
		}
		s.outages.Worked(Reading)
	}
}

// nextID waits for the next ID of a listing, and reports whether there is one.
type nextID = func() (id string, more bool, err error)

// listing begins a listing, which stop ends. A store that may hang lists in a goroutine of its own.
func (s *Store) listing(
	ctx context.Context, cancel context.CancelCauseFunc, kind storage.Kind,
) (next nextID, stop func(), err error) {
	if s.detached == nil {
		next, stop = s.listDirectly(ctx, cancel, kind)
		return next, stop, nil
	}
	limited, release := withTimeout(ctx, s.timeout)
	defer release()
	if err := s.detached.Acquire(limited, 1); err != nil {
		return nil, func() {}, err
	}
	return s.listDetached(ctx, kind), func() {}, nil
}

// listDirectly lists in the goroutine of the caller, and cancels the context of the listing if an ID takes too long.
func (s *Store) listDirectly(
	ctx context.Context, cancel context.CancelCauseFunc, kind storage.Kind,
) (next nextID, stop func()) {
	pull, stop := iter.Pull2(s.store.List(ctx, kind))
	limit := time.AfterFunc(s.timeout, func() { cancel(context.DeadlineExceeded) })
	limit.Stop()
	return func() (id string, more bool, err error) {
		defer recovered(&err)
		limit.Reset(s.timeout)
		defer limit.Stop()
		id, err, more = pull()
		if err != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			err = fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
		}
		return id, more, err
	}, stop
}

// listDetached lists in a goroutine of its own, which ends when ctx does and the store has come that far.
func (s *Store) listDetached(ctx context.Context, kind storage.Kind) nextID {
	ids, ended := make(chan string), make(chan error, 1)
	go func() {
		defer s.detached.Release(1)
		ended <- s.sendIDs(ctx, kind, ids)
	}()
	return func() (string, bool, error) {
		limited, cancel := withTimeout(ctx, s.timeout)
		defer cancel()
		select {
		case id := <-ids:
			return id, true, nil
		case err := <-ended:
			return "", false, err
		case <-limited.Done():
			return "", false, limited.Err()
		}
	}
}

// sendIDs sends the IDs of a listing until ctx ends.
func (s *Store) sendIDs(ctx context.Context, kind storage.Kind, ids chan<- string) (err error) {
	defer recovered(&err)
	for id, err := range s.store.List(ctx, kind) {
		if err != nil {
			return err
		}
		select {
		case ids <- id:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Sweep implements storage.Sweeper for any store. It takes as long as it takes, but ends with ctx even if the store hangs.
func (s *Store) Sweep(ctx context.Context) error {
	sweeper, ok := storage.As[storage.Sweeper](s.store)
	if !ok || s.readOnly.Load() {
		return nil
	}
	return runDetached(ctx, func(ctx context.Context) (err error) {
		defer recovered(&err)
		return sweeper.Sweep(ctx)
	})
}
