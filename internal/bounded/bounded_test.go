package bounded

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/metrics"
	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

var aKey = storage.Key{Kind: "kind", ID: "id"}

// fakeStore is a store whose operations first call a function of the test.
type fakeStore struct {
	storage.Store

	before func(ctx context.Context) error
}

func (s *fakeStore) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	if err := s.before(ctx); err != nil {
		return nil, err
	}
	return s.Store.Get(ctx, key)
}

func (s *fakeStore) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	if err := s.before(ctx); err != nil {
		return err
	}
	return s.Store.Put(ctx, key, value, expires)
}

func (s *fakeStore) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	if err := s.before(ctx); err != nil {
		return err
	}
	return s.Store.Update(ctx, key, change)
}

func (s *fakeStore) Delete(ctx context.Context, key storage.Key) error {
	if err := s.before(ctx); err != nil {
		return err
	}
	return s.Store.Delete(ctx, key)
}

// List yields three IDs, and calls the function of the test before each.
func (s *fakeStore) List(ctx context.Context, _ storage.Kind) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, id := range []string{"a", "b", "c"} {
			if err := s.before(ctx); err != nil {
				yield("", err)
				return
			}
			if !yield(id, nil) {
				return
			}
		}
	}
}

// deafStore is one that may ignore its contexts.
type deafStore struct{ *fakeStore }

func (deafStore) Timeout() time.Duration { return time.Second }

// newTestStore returns a Store with a timeout of a second.
func newTestStore(t *testing.T, store storage.Store) *Store {
	t.Helper()
	measured, err := metrics.New(nil, "shop")
	if err != nil {
		t.Fatal(err)
	}
	return New(store, Options{Timeout: time.Second, Metrics: measured, Outages: NewOutages(zap.NewNop(), time.Now)})
}

func overMemory(before func(ctx context.Context) error) *fakeStore {
	return &fakeStore{memory.New(), before}
}

func works(context.Context) error { return nil }

// hangs ends when its context does.
func hangs(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// operations are those of a store, each of which fails if the store does.
var operations = map[string]func(ctx context.Context, s storage.Store) error{
	"get": func(ctx context.Context, s storage.Store) error {
		_, err := s.Get(ctx, aKey)
		return err
	},
	"put": func(ctx context.Context, s storage.Store) error { return s.Put(ctx, aKey, nil, time.Time{}) },
	"update": func(ctx context.Context, s storage.Store) error {
		return s.Update(ctx, aKey, func([]byte) ([]byte, time.Time, error) { return []byte("x"), time.Time{}, nil })
	},
	"delete": func(ctx context.Context, s storage.Store) error { return s.Delete(ctx, aKey) },
	"list": func(ctx context.Context, s storage.Store) (err error) {
		for _, err = range s.List(ctx, aKey.Kind) {
		}
		return err
	},
}

// Every operation ends after the timeout, at the deadline of its context, or when that is cancelled, whether the store
// looks at contexts or not.
func TestOperationsEndInTime(t *testing.T) {
	for name, operate := range operations {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				over := make(chan struct{})
				defer close(over)
				deaf := deafStore{overMemory(func(context.Context) error {
					<-over
					return nil
				})}
				for kind, store := range map[string]storage.Store{"listens": overMemory(hangs), "deaf": deaf} {
					s := newTestStore(t, store)
					check := func(what string, ctx context.Context, took time.Duration, unavailable bool) {
						t.Helper()
						began := time.Now()
						err := operate(ctx, s)
						if IsStoreFailure(err) != unavailable || time.Since(began) != took {
							t.Errorf("%s, %s: %v after %s", kind, what, err, time.Since(began))
						}
					}
					check("no deadline", t.Context(), time.Second, true)
					ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
					defer cancel()
					check("a deadline", ctx, 300*time.Millisecond, true)
					check("a deadline that is over", ctx, 0, true)
					ctx, cancel = context.WithTimeout(t.Context(), time.Hour)
					defer cancel()
					check("a deadline after the timeout", ctx, time.Second, true)
					ctx, cancel = context.WithCancel(t.Context())
					cancel()
					check("canceled", ctx, 0, false)
				}
			})
		})
	}
}

func TestPanicIsAFailure(t *testing.T) {
	panics := overMemory(func(context.Context) error { panic("a nil map") })
	for kind, store := range map[string]storage.Store{"listens": panics, "deaf": deafStore{panics}} {
		for name, operate := range operations {
			err := operate(t.Context(), newTestStore(t, store))
			if panicked, ok := errors.AsType[*panicError](err); !ok || panicked.value != "a nil map" || !IsStoreFailure(err) {
				t.Errorf("%s, %s: %v", kind, name, err)
			}
		}
	}
}

// A panic of the caller is the caller's.
func TestPanicInAListing(t *testing.T) {
	s := newTestStore(t, overMemory(works))
	defer func() {
		if p := recover(); p != "mine" {
			t.Errorf("recovered %v", p)
		}
	}()
	for _, err := range s.List(t.Context(), aKey.Kind) {
		if err == nil {
			panic("mine")
		}
	}
}

// A listing may take longer than the timeout if each ID comes in time. Its caller may also take longer.
func TestListingThatGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := overMemory(func(ctx context.Context) error {
			select {
			case <-time.After(900 * time.Millisecond):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		for kind, store := range map[string]storage.Store{"listens": slow, "deaf": deafStore{slow}} {
			var ids string
			for id, err := range newTestStore(t, store).List(t.Context(), aKey.Kind) {
				if err != nil {
					t.Errorf("%s: %v", kind, err)
				}
				ids += id
				time.Sleep(time.Minute)
			}
			if ids != "abc" {
				t.Errorf("%s: listed %q", kind, ids)
			}
		}
	})
}

// Only operations that may hang run in a goroutine of their own.
func TestNoGoroutineForAnOperation(t *testing.T) {
	var mu sync.Mutex
	ran := make(map[string]bool)
	store := overMemory(func(context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		buffer := make([]byte, 64)
		ran[string(buffer[:runtime.Stack(buffer, false)])] = true
		return nil
	})
	for name, operate := range operations {
		if name == "list" {
			continue // which is a coroutine
		}
		if err := operate(t.Context(), newTestStore(t, store)); err != nil && !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(ran) != 1 {
		t.Errorf("the operations ran in %d goroutines", len(ran))
	}
}

// However many operations hang, few are under way.
func TestOperationsThatHangAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		var mu sync.Mutex
		hanging := 0
		s := newTestStore(t, deafStore{overMemory(func(context.Context) error {
			mu.Lock()
			hanging++
			mu.Unlock()
			<-over
			return nil
		})})
		// One deadline for all. The race detector of Go 1.26 can crash when a thousand contexts of a bubble end at once.
		ctx, cancel := context.WithTimeout(t.Context(), s.Timeout())
		defer cancel()
		var all sync.WaitGroup
		for range maxDetached + 100 {
			all.Go(func() {
				if _, err := s.Get(ctx, aKey); !IsStoreFailure(err) {
					t.Errorf("%v is no failure of the store", err)
				}
			})
		}
		all.Wait()
		if hanging != maxDetached {
			t.Errorf("%d operations hang", hanging)
		}
		close(over)
		synctest.Wait()
		if _, err := s.Get(t.Context(), aKey); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// A change whose caller has given up is not made.
func TestChangeThatComesTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		store := deafStore{overMemory(func(context.Context) error {
			<-over
			return nil
		})}
		if err := operations["update"](t.Context(), newTestStore(t, store)); !IsStoreFailure(err) {
			t.Errorf("%v", err)
		}
		close(over)
		synctest.Wait()
		if value, err := store.Store.Get(t.Context(), aKey); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("it was made: %q, %v", value, err)
		}
	})
}

// An error is a failure of the store, unless it is that of the change, a missing record, or a caller that has gone away.
func TestFailures(t *testing.T) {
	mine := errors.New("my own")
	s := newTestStore(t, overMemory(works))
	if _, err := s.Get(t.Context(), aKey); !errors.Is(err, storage.ErrNotFound) || IsStoreFailure(err) {
		t.Errorf("nothing there: %v", err)
	}
	change := func([]byte) ([]byte, time.Time, error) { return nil, time.Time{}, mine }
	if err := s.Update(t.Context(), aKey, change); !errors.Is(err, mine) || IsStoreFailure(err) {
		t.Errorf("a change that fails: %v", err)
	}
	keep := func([]byte) ([]byte, time.Time, error) { return nil, time.Time{}, storage.ErrKeep }
	if err := s.Update(t.Context(), aKey, keep); err != nil {
		t.Errorf("a change that keeps: %v", err)
	}
	full := newTestStore(t, overMemory(func(context.Context) error { return syscall.ENOSPC }))
	for name, operate := range operations {
		if err := operate(t.Context(), full); !IsStoreFailure(err) || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s on a full disk: %v", name, err)
		}
	}
	if !IsStoreFailure(fmt.Errorf("waiting: %w", storage.ErrTimeout)) {
		t.Error("a wait for another caller is no failure")
	}
}

func TestReadOnly(t *testing.T) {
	s := newTestStore(t, memory.New())
	if err := s.Put(t.Context(), aKey, []byte("old"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := s.MakeReadOnly(t.Context()); err != nil || !s.ReadOnly() {
		t.Fatal(err)
	}
	for _, name := range []string{"put", "update", "delete"} {
		if err := operations[name](t.Context(), s); !errors.Is(err, storage.ErrReadOnly) || IsStoreFailure(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	mine := errors.New("my own")
	for _, want := range []error{mine, nil} {
		decided := mine
		if want == nil {
			decided = storage.ErrKeep
		}
		err := s.Update(t.Context(), aKey, func(old []byte) ([]byte, time.Time, error) {
			if string(old) != "old" {
				t.Errorf("the change sees %q", old)
			}
			return nil, time.Time{}, decided
		})
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	if value, err := s.Get(t.Context(), aKey); err != nil || string(value) != "old" {
		t.Errorf("then there is %q: %v", value, err)
	}
}

// MakeReadOnly returns when no operation is writing any more, not even one whose caller has given up.
func TestReadOnlyWaitsForWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		store := deafStore{overMemory(func(context.Context) error {
			<-over
			return nil
		})}
		s := newTestStore(t, store)
		if err := operations["put"](t.Context(), s); !IsStoreFailure(err) {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.MakeReadOnly(ctx); !errors.Is(err, context.DeadlineExceeded) || !s.Writing() {
			t.Errorf("a write hangs: %v", err)
		}
		close(over)
		if err := s.MakeReadOnly(t.Context()); err != nil || s.Writing() {
			t.Errorf("the write has ended: %v", err)
		}
	})
}

// However many write, nothing is written once the store is read-only.
func TestReadOnlyUnderLoad(t *testing.T) {
	var mu sync.Mutex
	written := 0
	s := newTestStore(t, overMemory(func(context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		written++
		return nil
	}))
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for operations["put"](t.Context(), s) == nil {
				runtime.Gosched()
			}
		})
	}
	if err := s.MakeReadOnly(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	before := written
	mu.Unlock()
	writers.Wait()
	if written != before {
		t.Errorf("%d writes after the store was read-only", written-before)
	}
}

type sweepingStore struct {
	storage.Store
	sweeps int
}

func (s *sweepingStore) Sweep(context.Context) error {
	s.sweeps++
	return nil
}

func TestSweep(t *testing.T) {
	below := &sweepingStore{Store: memory.New()}
	s := newTestStore(t, below)
	if err := s.Sweep(t.Context()); err != nil || below.sweeps != 1 {
		t.Errorf("%d sweeps, %v", below.sweeps, err)
	}
	if err := s.MakeReadOnly(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(t.Context()); err != nil || below.sweeps != 1 {
		t.Errorf("read-only: %d sweeps, %v", below.sweeps, err)
	}
	if err := newTestStore(t, memory.New()).Sweep(t.Context()); err != nil {
		t.Errorf("a store that needs no sweep: %v", err)
	}
}

func TestTimeout(t *testing.T) {
	for want, store := range map[time.Duration]storage.Store{
		time.Second:    deafStore{},
		defaultTimeout: &fakeStore{},
	} {
		if got := Timeout(store); got != want {
			t.Errorf("%T: %s, want %s", store, got, want)
		}
	}
}
