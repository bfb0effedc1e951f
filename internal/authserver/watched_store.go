package authserver

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/metrics"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// maxRunning is how many operations of a slow store can be under way. Far fewer are where it works; where it hangs, each
// may hold a thread.
const maxRunning = 1024

// watchedStore is a store whose operations are measured, traced where the request is, and given up when they take too
// long, whether the store listens to contexts or not.
type watchedStore struct {
	store   storage.Store
	metrics *metrics.Issuer
	outages *outages
	timeout time.Duration
	prompt  bool          // it keeps nobody waiting
	slow    bool          // it may not listen to contexts
	running chan struct{} // has an element for each operation that is under way, if it does not

	readOnly atomic.Bool
	writes   atomic.Int64 // that are under way, those that nobody waits for any more included
}

func newWatchedStore(store storage.Store, metrics *metrics.Issuer, outages *outages, timeout time.Duration) *watchedStore {
	s := &watchedStore{
		store: store, metrics: metrics, outages: outages, timeout: timeout, running: make(chan struct{}, maxRunning),
	}
	if slow, ok := storage.As[storage.Slow](store); ok {
		s.prompt = slow.Timeout() == 0
		s.slow = !s.prompt
	}
	return s
}

// begin begins an operation, which the returned function ends.
func (s *watchedStore) begin(ctx context.Context, op metrics.Op, kind storage.Kind) (context.Context, operation) {
	ctx, span := metrics.StartSpan(ctx, "oauth.store."+string(op))
	return ctx, operation{s.metrics, op, kind, time.Now(), span}
}

// operation is one that is under way.
type operation struct {
	metrics *metrics.Issuer
	op      metrics.Op
	kind    storage.Kind
	began   time.Time
	span    metrics.Span
}

func (o operation) end() {
	o.metrics.StoreOperation(o.op, o.began)
	o.span.End("kind", string(o.kind))
}

// do does an operation.
func (s *watchedStore) do(
	ctx context.Context, op metrics.Op, kind storage.Kind, operate func(ctx context.Context) error,
) error {
	ctx, o := s.begin(ctx, op, kind)
	defer o.end()
	if s.prompt {
		return recovered(ctx, operate)
	}
	ctx, done := withinTimeout(ctx, s.timeout)
	defer done()
	err := s.within(ctx, operate)
	if err != nil && ctx.Err() != nil { // which says nothing of what took so long
		return fmt.Errorf("store: %s of kind %s: %w", op, kind, err)
	}
	return err
}

// within does an operation until ctx ends.
func (s *watchedStore) within(ctx context.Context, operate func(ctx context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !s.slow {
		return recovered(ctx, operate)
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	return apart(ctx, func(ctx context.Context) error {
		defer s.leave()
		return operate(ctx)
	})
}

func (s *watchedStore) enter(ctx context.Context) error {
	select {
	case s.running <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *watchedStore) leave() { <-s.running }

// write runs an operation that writes, unless the store is read-only.
func (s *watchedStore) write(operate func() error) error {
	s.writes.Add(1) // before the look at readOnly, so that makeReadOnly waits for it
	defer s.writes.Add(-1)
	if s.readOnly.Load() {
		return storage.ErrReadOnly
	}
	return operate()
}

// makeReadOnly allows no more writes, and waits for those that are under way.
func (s *watchedStore) makeReadOnly(ctx context.Context) error {
	s.readOnly.Store(true)
	ticker := time.NewTicker(idleInterval)
	defer ticker.Stop()
	for s.writes.Load() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
	return nil
}

// decide is Update for a read-only store. It lets the change see the record, so that what would be refused anyway is
// refused for its own reason, and what would write nothing succeeds.
func (s *watchedStore) decide(ctx context.Context, key storage.Key, change storage.Change) error {
	old, err := s.Get(ctx, key)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	switch _, _, err := change(old); {
	case errors.Is(err, storage.ErrKeep):
		return nil
	case err != nil:
		return err
	}
	return storage.ErrReadOnly
}

// Timeout implements storage.Slow.
func (s *watchedStore) Timeout() time.Duration { return s.timeout }

// Get implements storage.Store.
func (s *watchedStore) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	var value []byte
	err := s.do(ctx, metrics.Get, key.Kind, func(ctx context.Context) (err error) {
		value, err = s.store.Get(ctx, key)
		return err
	})
	switch {
	case err == nil:
		s.outages.worked(reading)
		return value, nil
	case errors.Is(err, storage.ErrNotFound):
		s.outages.worked(reading)
		return nil, err
	}
	return nil, storeErr(ctx, reading, err)
}

// Put implements storage.Store.
func (s *watchedStore) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	err := s.do(ctx, metrics.Put, key.Kind, func(ctx context.Context) error {
		return s.write(func() error { return s.store.Put(ctx, key, value, expires) })
	})
	if err != nil {
		return storeErr(ctx, writing, err)
	}
	s.outages.worked(writing)
	return nil
}

// Update implements storage.Store.
func (s *watchedStore) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	if s.readOnly.Load() {
		return s.decide(ctx, key, change)
	}
	awaited := &onlyWhileAwaited{change: change}
	err := s.do(ctx, metrics.Update, key.Kind, func(ctx context.Context) error {
		return s.write(func() error { return s.store.Update(ctx, key, awaited.run) })
	})
	ran, decided := awaited.giveUp()
	switch {
	case err == nil && decided == nil && ran:
		s.outages.worked(reading, writing)
		return nil
	case err == nil:
		s.outages.worked(reading)
		return nil
	case decided != nil && errors.Is(err, decided): // it is the change that has failed
		s.outages.worked(reading)
		return err
	}
	return storeErr(ctx, writing, err)
}

// Delete implements storage.Store.
func (s *watchedStore) Delete(ctx context.Context, key storage.Key) error {
	err := s.do(ctx, metrics.Delete, key.Kind, func(ctx context.Context) error {
		return s.write(func() error { return s.store.Delete(ctx, key) })
	})
	if err != nil {
		return storeErr(ctx, writing, err)
	}
	return nil // which a full disk allows too, so that it is no sign of an end of trouble
}
