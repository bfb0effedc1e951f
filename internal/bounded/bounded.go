// Package bounded wraps the store of a server, so that nobody waits for it too long: an operation ends at the deadline of
// its request or after a timeout, even if the store hangs. The wrapper also measures and traces each operation, tells
// failures of the store from other errors, and can make the store read-only. [Outages] keeps the log short while a store
// fails. Start reading at [Store].
package bounded

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/caddy-oauth/caddy-oauth/internal/metrics"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// defaultTimeout is for stores that do not say what is right for them.
const defaultTimeout = 5 * time.Second

// maxDetached is how many operations of a store that may hang can be under way. A store that works needs far fewer; in one
// that hangs, each may hold a thread.
const maxDetached = 1024

// Store is a storage.Store whose operations end in time. Safe for concurrent use.
type Store struct {
	store   storage.Store
	metrics *metrics.Issuer
	outages *Outages
	timeout time.Duration

	instant  bool                // the store never waits for anything
	detached *semaphore.Weighted // operations under way; nil if the store gives up when a context ends

	readOnly atomic.Bool
	writes   atomic.Int64 // under way, including those that nobody waits for any more
}

// Options are what a Store needs beside the store below.
type Options struct {
	Timeout  time.Duration // see [Timeout]; 0 is what is right for the store
	ReadOnly bool
	Metrics  *metrics.Issuer
	Outages  *Outages
}

// New returns a Store over another store.
func New(store storage.Store, options Options) *Store {
	s := &Store{store: store, metrics: options.Metrics, outages: options.Outages, timeout: options.Timeout}
	if s.timeout == 0 {
		s.timeout = Timeout(store)
	}
	if slow, ok := storage.As[storage.Slow](store); ok {
		if s.instant = slow.Timeout() == 0; !s.instant {
			s.detached = semaphore.NewWeighted(maxDetached)
		}
	}
	s.readOnly.Store(options.ReadOnly)
	return s
}

// Timeout returns how long a request may wait for the store in total. For anything but a request, it is the limit for one
// operation.
func Timeout(store storage.Store) time.Duration {
	if slow, ok := storage.As[storage.Slow](store); ok && slow.Timeout() > 0 {
		return slow.Timeout()
	}
	return defaultTimeout
}

// Timeout implements storage.Slow.
func (s *Store) Timeout() time.Duration { return s.timeout }

// Unwrap returns the store below. Its operations have no limits.
func (s *Store) Unwrap() storage.Store { return s.store }

// Get implements storage.Store.
func (s *Store) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	var value []byte
	err := s.do(ctx, operation{metrics.Get, key.Kind, func(ctx context.Context) (err error) {
		value, err = s.store.Get(ctx, key)
		return err
	}})
	switch {
	case err == nil:
		s.outages.Worked(Reading)
		return value, nil
	case errors.Is(err, storage.ErrNotFound):
		s.outages.Worked(Reading)
		return nil, err
	}
	return nil, failureAt(ctx, Reading, key, err)
}

// Put implements storage.Store.
func (s *Store) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	err := s.do(ctx, operation{metrics.Put, key.Kind, func(ctx context.Context) error {
		return s.store.Put(ctx, key, value, expires)
	}})
	if err != nil {
		return failureAt(ctx, Writing, key, err)
	}
	s.outages.Worked(Writing)
	return nil
}

// Update implements storage.Store. If the store is read-only, the change still sees the record, so that what would be
// refused anyway is refused for its own reason, and what would write nothing succeeds.
func (s *Store) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	if s.readOnly.Load() {
		return s.updateReadOnly(ctx, key, change)
	}
	awaited := &awaitedChange{change: change}
	err := s.do(ctx, operation{metrics.Update, key.Kind, func(ctx context.Context) error {
		return s.store.Update(ctx, key, awaited.run)
	}})
	ran, decided := awaited.giveUp()
	switch {
	case err == nil && decided == nil && ran:
		s.outages.Worked(Reading, Writing)
		return nil
	case err == nil:
		s.outages.Worked(Reading)
		return nil
	case decided != nil && errors.Is(err, decided): // It is the change that has failed.
		s.outages.Worked(Reading)
		return NameRecord(key, err)
	}
	return failureAt(ctx, Writing, key, err)
}

// Delete implements storage.Store.
func (s *Store) Delete(ctx context.Context, key storage.Key) error {
	err := s.do(ctx, operation{metrics.Delete, key.Kind, func(ctx context.Context) error {
		return s.store.Delete(ctx, key)
	}})
	if err != nil {
		return failureAt(ctx, Writing, key, err)
	}
	return nil // It does not end an outage: a full disk allows it too.
}

// operation is an operation of the store below.
type operation struct {
	op   metrics.Op
	kind storage.Kind
	run  func(ctx context.Context) error
}

// do runs an operation within the timeout.
func (s *Store) do(ctx context.Context, o operation) error {
	ctx, m := s.measure(ctx, o.op, o.kind)
	defer m.end()
	if s.instant {
		return s.call(ctx, o)
	}
	ctx, cancel := withTimeout(ctx, s.timeout)
	defer cancel()
	err := ctx.Err()
	switch {
	case err != nil:
	case s.detached == nil:
		err = s.call(ctx, o)
	default:
		if err = s.detached.Acquire(ctx, 1); err == nil {
			err = runDetached(ctx, func(ctx context.Context) error {
				defer s.detached.Release(1)
				return s.call(ctx, o)
			})
		}
	}
	if err != nil && ctx.Err() != nil { // The error of a context does not say what took so long.
		return fmt.Errorf("store: %s of kind %s: %w", o.op, o.kind, err)
	}
	return err
}

// measure begins to measure and to trace an operation.
func (s *Store) measure(ctx context.Context, op metrics.Op, kind storage.Kind) (context.Context, measurement) {
	ctx, span := metrics.StartSpan(ctx, spanNames[op])
	return ctx, measurement{s.metrics, op, kind, time.Now(), span}
}

var spanNames = map[metrics.Op]string{
	metrics.Get: "oauth.store.get", metrics.Put: "oauth.store.put", metrics.Update: "oauth.store.update",
	metrics.Delete: "oauth.store.delete", metrics.List: "oauth.store.list",
}

// measurement is the time and the span of an operation.
type measurement struct {
	metrics *metrics.Issuer
	op      metrics.Op
	kind    storage.Kind
	began   time.Time
	span    metrics.Span
}

func (m measurement) end() {
	m.metrics.StoreOperation(m.op, m.began)
	m.span.End("kind", string(m.kind))
}

// withTimeout returns a context that ends after the timeout, if it does not end earlier anyway: a request has one deadline
// for all it asks of the store.
func withTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= timeout {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, timeout)
}

// runDetached runs something that may ignore its context, such as a system call on a disk that hangs, in a goroutine of its
// own, and returns when it is done or ctx ends. If it never ends, the goroutine stays, but nobody waits for it. What was
// cancelled, as all is when a configuration is replaced, gets a moment to end, so that as a rule it writes nothing
// afterwards. run must recover from panics, since nobody else does in that goroutine.
func runDetached(ctx context.Context, run func(ctx context.Context) error) error {
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	last := time.NewTimer(0)
	defer last.Stop()
	if errors.Is(ctx.Err(), context.Canceled) {
		last.Reset(afterCancel)
	}
	select {
	case err := <-ended:
		return err
	case <-last.C:
		return ctx.Err()
	}
}

// afterCancel is how long something that was cancelled may take to end.
const afterCancel = time.Second

// call runs an operation, unless it writes and the store is read-only.
func (s *Store) call(ctx context.Context, o operation) (err error) {
	defer recovered(&err)
	if o.op != metrics.Get {
		s.writes.Add(1) // before the look at readOnly, so that MakeReadOnly waits for it
		defer s.writes.Add(-1)
		if s.readOnly.Load() {
			return storage.ErrReadOnly
		}
	}
	return o.run(ctx)
}

// recovered makes a panic an error. It has to be deferred.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = &panicError{p, debug.Stack()}
	}
}

// panicError is a panic of a store.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.value, e.stack) }

// awaitedChange is a change that is made only as long as the caller of Update waits. A caller that has given up cannot learn
// of it, and may be using again what the change uses.
type awaitedChange struct {
	change storage.Change

	mu      sync.Mutex
	givenUp bool
	ran     bool  // at least once
	err     error // of the last run
}

func (c *awaitedChange) run(old []byte) (value []byte, expires time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.givenUp {
		return nil, time.Time{}, context.Canceled
	}
	value, expires, err = c.change(old)
	c.ran, c.err = true, err
	return value, expires, err
}

// giveUp waits for a run that is under way, and allows no other. It returns whether there was one, and the error of the last.
func (c *awaitedChange) giveUp() (ran bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.givenUp = true
	return c.ran, c.err
}

// updateReadOnly is Update without writing.
func (s *Store) updateReadOnly(ctx context.Context, key storage.Key, change storage.Change) error {
	old, err := s.Get(ctx, key)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	switch _, _, err := change(old); {
	case errors.Is(err, storage.ErrKeep):
		return nil
	case err != nil:
		return NameRecord(key, err)
	}
	return storage.ErrReadOnly
}

// ReadOnly reports whether nothing may be written.
func (s *Store) ReadOnly() bool { return s.readOnly.Load() }

// Writing reports whether a write is under way.
func (s *Store) Writing() bool { return s.writes.Load() > 0 }

// MakeReadOnly allows no more writes, and waits for those that are under way.
func (s *Store) MakeReadOnly(ctx context.Context) error {
	s.readOnly.Store(true)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for s.Writing() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
	return nil
}

var (
	_ storage.Store   = (*Store)(nil)
	_ storage.Sweeper = (*Store)(nil)
)
