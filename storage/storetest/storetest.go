// Package storetest tests that a [storage.Store] does what its contract promises, and measures it. Start with [Run].
package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Backend says how the suite gets a store.
type Backend struct {
	// New makes an empty backend and returns its address, which only Open interprets. It uses tb.Cleanup to clean up.
	New func(tb testing.TB) (address string)

	// Open opens the store at an address. The suite opens the same address several times.
	Open func(address string) (storage.Store, error)

	// Processes says that other processes can open the address too. This needs a TestMain that calls [Child] with the same Open.
	Processes bool

	// LocksOutlive says that the lock of a process that was killed during an Update may stay for long. The suite does not wait
	// for that.
	LocksOutlive bool
}

// Run tests all that [storage.Store] promises.
func Run(t *testing.T, b Backend) {
	for name, test := range map[string]func(*testing.T, Backend){
		"Get and Put":               testGetPut,
		"Update":                    testUpdate,
		"Update passes errors":      testUpdateErrors,
		"Delete":                    testDelete,
		"expiry":                    testExpiry,
		"ownership of bytes":        testOwnership,
		"kinds are separate":        testKinds,
		"hostile keys":              testHostileKeys,
		"List":                      testList,
		"List while records change": testListWhileChanging,
		"Sweep keeps what is live":  testSweep,
		"Export":                    testExport,
		"opened twice":              testOpenedTwice,
		"cancelled":                 testCancelled,
		"deadline at a lock":        testDeadline,
		"goroutines, one winner":    testGoroutinesWinner,
		"goroutines, one use":       testGoroutinesOnce,
		"goroutines, one counter":   testGoroutinesCounter,
		"readers see whole values":  testReaders,
	} {
		t.Run(name, func(t *testing.T) { test(t, b) })
	}
	if b.Processes {
		t.Run("processes", func(t *testing.T) { runProcesses(t, b) })
	}
}

// Benchmark measures each method with one caller, and Update also with one caller for each processor, on records of the size of a
// family.
func Benchmark(b *testing.B, backend Backend) {
	value := bytes.Repeat([]byte("x"), 600)
	expires := time.Now().Add(time.Hour)
	var change storage.Change = func([]byte) ([]byte, time.Time, error) { return value, expires, nil }

	b.Run("Put", func(b *testing.B) {
		store, ctx := backend.fresh(b), b.Context()
		b.ReportAllocs()
		for b.Loop() {
			noError(b, store.Put(ctx, freshKey(), value, expires))
		}
	})
	b.Run("Get", func(b *testing.B) {
		store, ctx, key := backend.fresh(b), b.Context(), freshKey()
		noError(b, store.Put(ctx, key, value, expires))
		b.ReportAllocs()
		for b.Loop() {
			_, err := store.Get(ctx, key)
			noError(b, err)
		}
	})
	b.Run("Update", func(b *testing.B) {
		store, ctx, key := backend.fresh(b), b.Context(), freshKey()
		b.ReportAllocs()
		for b.Loop() {
			noError(b, store.Update(ctx, key, change))
		}
	})
	b.Run("UpdateParallel", func(b *testing.B) {
		store, ctx := backend.fresh(b), b.Context()
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			key := freshKey()
			for pb.Next() {
				if err := store.Update(ctx, key, change); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("UpdateContended", func(b *testing.B) {
		store, ctx, key := backend.fresh(b), b.Context(), freshKey()
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := store.Update(ctx, key, change); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// timeout is how long the suite waits for what must happen, far longer than any working store needs.
const timeout = time.Minute

const testKind storage.Kind = "storetest"

var never time.Time

func (b Backend) fresh(tb testing.TB) storage.Store {
	tb.Helper()
	return b.open(tb, b.New(tb))
}

func (b Backend) open(tb testing.TB, address string) storage.Store {
	tb.Helper()
	store, err := b.Open(address)
	if err != nil {
		tb.Fatalf("open: %v", err)
	}
	return store
}

// testContext returns a context that ends with the test, or when a store hangs.
func testContext(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), timeout)
	tb.Cleanup(cancel)
	return ctx
}

// keys returns new keys of every shape: in the bucket of an hour, in the bucket Never, and without a bucket.
func keys() map[string]storage.Key {
	return map[string]storage.Key{
		"with a bucket":    freshKey(),
		"in bucket Never":  {Kind: testKind, ID: string(storage.Never) + "." + randomID()},
		"without a bucket": {Kind: testKind, ID: randomID()},
	}
}

func freshKey() storage.Key {
	hour := storage.BucketFor(time.Now().Add(2 * time.Hour))
	return storage.Key{Kind: testKind, ID: string(hour) + "." + randomID()}
}

func randomID() string { return storage.HashID(rand.Text()) }

// set returns a Change to a value that never expires.
func set(value string) storage.Change {
	return func([]byte) ([]byte, time.Time, error) { return []byte(value), never, nil }
}

func wantValue(t *testing.T, store storage.Store, key storage.Key, want string) {
	t.Helper()
	got, err := store.Get(testContext(t), key)
	if err != nil {
		t.Fatalf("Get %v: %v", key, err)
	}
	if string(got) != want {
		t.Fatalf("Get %v: got %s, want %s", key, brief(string(got)), brief(want))
	}
}

func wantAbsent(t *testing.T, store storage.Store, key storage.Key) {
	t.Helper()
	value, err := store.Get(testContext(t), key)
	if !errors.Is(err, storage.ErrNotFound) || value != nil {
		t.Fatalf("Get %v: got %q and error %v, want ErrNotFound", key, value, err)
	}
}

func noError(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func brief(s string) string {
	if len(s) > 60 {
		s = s[:60] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
