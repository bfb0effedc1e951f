// Package storetest is the suite that every [storage.Store] must pass, and the benchmarks by which
// they compare.
package storetest

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Backend is what the suite needs to know of a store.
type Backend struct {
	// New makes an empty place for records and returns its address, which means something to Open
	// only. What needs to be cleaned up is, when the test ends.
	New func(tb testing.TB) (address string)

	// Open opens the store at an address. The suite opens an address several times.
	Open func(address string) (storage.Store, error)

	// Processes says that other processes reach the records by their address. It needs a TestMain
	// that calls [Child] with the same Open.
	Processes bool

	// LocksOutlive says that after a process was killed in an Update its lock may stay for long,
	// which the suite does not wait for.
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
		"kinds are apart":           testKinds,
		"hostile keys":              testHostileKeys,
		"List":                      testList,
		"List while records change": testListWhileChanging,
		"Sweep keeps what is live":  testSweep,
		"Export":                    testExport,
		"opened twice":              testOpenedTwice,
		"cancelled":                 testCancelled,
		"deadline at a lock":        testDeadline,
		"goroutines, one winner":    testGoroutinesWinner,
		"goroutines, one counter":   testGoroutinesCounter,
		"readers see whole values":  testReaders,
	} {
		t.Run(name, func(t *testing.T) { test(t, b) })
	}
	if b.Processes {
		t.Run("processes", func(t *testing.T) { runProcesses(t, b) })
	}
}

// patience is how long the suite waits for what must happen. No store that works comes near it.
const patience = time.Minute

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

// testContext ends with the test, or when a store hangs.
func testContext(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// keys returns fresh keys of every shape: filed by an hour, filed under Never, and not filed.
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

// set is a Change to a value that never expires.
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
