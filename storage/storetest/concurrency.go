package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// win writes name if nobody has written yet, and reports whether it did.
func win(ctx context.Context, store storage.Store, key storage.Key, name string) (won bool, err error) {
	err = store.Update(ctx, key, func(old []byte) ([]byte, time.Time, error) {
		runtime.Gosched() // lets other goroutines run, if nothing excludes them
		won = old == nil
		if !won {
			return nil, never, storage.ErrKeep
		}
		return []byte(name), never, nil
	})
	return won && err == nil, err
}

// count adds one.
func count(ctx context.Context, store storage.Store, key storage.Key) error {
	return store.Update(ctx, key, func(old []byte) ([]byte, time.Time, error) {
		runtime.Gosched()
		n := 0
		if old != nil {
			var err error
			if n, err = strconv.Atoi(string(old)); err != nil {
				return nil, never, fmt.Errorf("not a number: %q", old)
			}
		}
		return []byte(strconv.Itoa(n + 1)), never, nil
	})
}

// Two opened stores compete, as an old and a new config do during a reload.
func testGoroutinesWinner(t *testing.T, b Backend) {
	address := b.New(t)
	stores := []storage.Store{b.open(t, address), b.open(t, address)}
	ctx := testContext(t)
	for range 5 {
		key := freshKey()
		var winners atomic.Int32
		var group sync.WaitGroup
		for i := range 32 {
			group.Go(func() {
				won, err := win(ctx, stores[i%2], key, strconv.Itoa(i))
				if err != nil {
					t.Errorf("Update: %v", err)
				}
				if won {
					winners.Add(1)
				}
			})
		}
		group.Wait()
		if n := winners.Load(); n != 1 {
			t.Fatalf("%d goroutines won, want 1", n)
		}
	}
}

// testGoroutinesOnce uses a value a hundred times at once. It is used once, and can be used again when the note of it has expired.
func testGoroutinesOnce(t *testing.T, b Backend) {
	address := b.New(t)
	stores := []storage.Store{b.open(t, address), b.open(t, address)}
	ctx, value := testContext(t), randomID()
	use := func(value string, expires time.Time) int {
		var first atomic.Int32
		var group sync.WaitGroup
		for i := range 100 {
			group.Go(func() {
				was, err := storage.Once(ctx, stores[i%2], expires, "storetest", value)
				if err != nil {
					t.Errorf("Once: %v", err)
				}
				if was {
					first.Add(1)
				}
			})
		}
		group.Wait()
		return int(first.Load())
	}
	expires := time.Now().Add(time.Minute)
	if n := use(value, expires); n != 1 {
		t.Errorf("%d of 100 were the first, want 1", n)
	}
	if n := use(value, expires); n != 0 {
		t.Errorf("%d of 100 were the first after another, want 0", n)
	}
	if n := use(randomID(), time.Now().Add(-time.Minute)); n != 100 {
		t.Errorf("%d of 100 found no note that is over, want 100", n)
	}
	if first, err := storage.Once(ctx, stores[0], expires, "storetest", value, ""); !first || err != nil {
		t.Errorf("another value: first is %v, error %v", first, err)
	}
}

func testGoroutinesCounter(t *testing.T, b Backend) {
	address := b.New(t)
	stores := []storage.Store{b.open(t, address), b.open(t, address)}
	ctx, key := testContext(t), freshKey()
	const goroutines, rounds = 8, 25
	var group sync.WaitGroup
	for i := range goroutines {
		group.Go(func() {
			for range rounds {
				if err := count(ctx, stores[i%2], key); err != nil {
					t.Errorf("Update: %v", err)
				}
			}
		})
	}
	group.Wait()
	wantValue(t, stores[0], key, strconv.Itoa(goroutines*rounds))
}

// testReaders reads a record that others keep updating to values of every size. A reader must see intact values, and never an older
// one than it has seen.
func testReaders(t *testing.T, b Backend) {
	address := b.New(t)
	writers := []storage.Store{b.open(t, address), b.open(t, address)}
	ctx, key := testContext(t), freshKey()
	noError(t, writers[0].Put(ctx, key, countedValue(0), never))
	var writing, reading sync.WaitGroup
	for i := range 4 {
		writing.Go(func() {
			for range 50 {
				if err := writers[i%2].Update(ctx, key, countUp); err != nil {
					t.Errorf("Update: %v", err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	for range 4 {
		store := b.open(t, address)
		reading.Go(func() {
			if err := readCounted(ctx, store, key, done); err != nil {
				t.Error(err)
			}
		})
	}
	writing.Wait()
	close(done)
	reading.Wait()
	wantValue(t, writers[1], key, string(countedValue(200)))
}

// countedValue returns a value that repeats its number, so that a mixture of two values is detected.
func countedValue(n int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%08d", n), 1+n*37%500) }

func countUp(old []byte) ([]byte, time.Time, error) {
	n, err := readCount(old)
	return countedValue(n + 1), never, err
}

func readCount(value []byte) (int, error) {
	n, err := strconv.Atoi(string(value[:min(8, len(value))]))
	if err != nil || !bytes.Equal(value, countedValue(n)) {
		return 0, fmt.Errorf("%d bytes from %.20q to %q are not a counted value", len(value), value, value[max(0, len(value)-20):])
	}
	return n, nil
}

func readCounted(ctx context.Context, store storage.Store, key storage.Key, done <-chan struct{}) error {
	for seen := 0; ; {
		value, err := store.Get(ctx, key)
		if err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		n, err := readCount(value)
		if err != nil {
			return err
		}
		if n < seen {
			return fmt.Errorf("a reader saw value %d after value %d", n, seen)
		}
		seen = n
		runtime.Gosched() // or the writers starve on few processors
		select {
		case <-done:
			return nil
		default:
		}
	}
}

// testDeadline blocks an Update inside its change. A store that locks must let others give up. One without locks may let others
// write, and then runs the first change again.
func testDeadline(t *testing.T, b Backend) {
	address := b.New(t)
	ctx, key := testContext(t), freshKey()
	inside, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	held := make(chan error)
	go func() {
		store, err := b.Open(address)
		if err != nil {
			held <- err
			return
		}
		held <- store.Update(ctx, key, func(old []byte) ([]byte, time.Time, error) {
			once.Do(func() { close(inside) })
			<-leave
			return append(old, "held"...), never, nil
		})
	}()
	select {
	case <-inside:
	case err := <-held:
		t.Fatalf("Update: %v", err)
	}

	want := "held"
	for name, store := range map[string]storage.Store{"another store": b.open(t, address), "the same again": b.open(t, address)} {
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		err := store.Update(short, key, func(old []byte) ([]byte, time.Time, error) {
			return append(old, "passed "...), never, nil
		})
		cancel()
		switch {
		case err == nil:
			want = "passed " + want
		case !errors.Is(err, context.DeadlineExceeded):
			t.Errorf("%s: got error %v, want DeadlineExceeded", name, err)
		}
	}
	// A Get does not wait for the lock.
	if _, err := b.open(t, address).Get(ctx, key); err != nil && !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get while the record is locked: %v", err)
	}
	close(leave)
	noError(t, <-held)
	wantValue(t, b.open(t, address), key, want)
	// Those that gave up have not kept the lock.
	noError(t, b.open(t, address).Update(ctx, key, set("free")))
	wantValue(t, b.open(t, address), key, "free")
}
