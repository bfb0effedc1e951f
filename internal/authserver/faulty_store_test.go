package authserver

import (
	"context"
	"fmt"
	"iter"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// faultyStore is a store whose operations a test can make fail.
type faultyStore struct {
	storage.Store

	fault atomic.Pointer[fault]
	calls atomic.Int64
}

// fault runs before an operation. If it returns an error, the operation does not run.
type fault func(ctx context.Context) error

func (s *faultyStore) fail(f fault) { s.fault.Store(&f) }

// Timeout makes it a store that may ignore its contexts.
func (s *faultyStore) Timeout() time.Duration { return 5 * time.Second }

func (s *faultyStore) mend() { s.fault.Store(nil) }

func (s *faultyStore) before(ctx context.Context) error {
	s.calls.Add(1)
	if f := s.fault.Load(); f != nil {
		return (*f)(ctx)
	}
	return nil
}

func (s *faultyStore) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	if err := s.before(ctx); err != nil {
		return nil, err
	}
	return s.Store.Get(ctx, key)
}

func (s *faultyStore) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	if err := s.before(ctx); err != nil {
		return err
	}
	return s.Store.Put(ctx, key, value, expires)
}

func (s *faultyStore) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	if err := s.before(ctx); err != nil {
		return err
	}
	return s.Store.Update(ctx, key, change)
}

func (s *faultyStore) Delete(ctx context.Context, key storage.Key) error {
	if err := s.before(ctx); err != nil {
		return err
	}
	return s.Store.Delete(ctx, key)
}

func (s *faultyStore) List(ctx context.Context, kind storage.Kind) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := s.before(ctx); err != nil {
			yield("", err)
			return
		}
		s.Store.List(ctx, kind)(yield)
	}
}

// Sweep implements storage.Sweeper.
func (s *faultyStore) Sweep(ctx context.Context) error { return s.before(ctx) }

// full fails as a disk without space does.
func full(context.Context) error { return fmt.Errorf("writing a record: %w", syscall.ENOSPC) }

// panics fails as a store with a bug does.
func panics(context.Context) error { panic("a nil map") }

// hangs waits until the context ends.
func hangs(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// deaf returns a fault that ignores its context and hangs until the test is over.
func deaf(t *testing.T) fault {
	t.Helper()
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	return func(context.Context) error {
		<-over
		return context.DeadlineExceeded
	}
}

// slow returns a fault that only takes time.
func slow(d time.Duration) fault {
	return func(ctx context.Context) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// newFaultyServer returns a server whose requests wait for the store no longer than the timeout.
func newFaultyServer(t *testing.T, timeout time.Duration, edits ...func(*Config)) (*testServer, *faultyStore) {
	t.Helper()
	var store *faultyStore
	s := newTestServer(t, append(edits, func(c *Config) {
		store = &faultyStore{Store: c.Store}
		c.Store, c.StoreTimeout = store, timeout
	})...)
	return s, store
}
