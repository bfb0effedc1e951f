package memory

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/storetest"
)

func TestMemory(t *testing.T)      { storetest.Run(t, backend()) }
func BenchmarkMemory(b *testing.B) { storetest.Benchmark(b, backend()) }

// backend uses the module itself, so that stores of one issuer meet in its pool.
func backend() storetest.Backend {
	var mu sync.Mutex
	var module Memory
	return storetest.Backend{
		New: func(tb testing.TB) string {
			tb.Helper()
			tb.Cleanup(func() {
				mu.Lock()
				defer mu.Unlock()
				noError(tb, module.Cleanup())
			})
			return tb.TempDir() // a unique name
		},
		Open: func(name string) (storage.Store, error) {
			mu.Lock()
			defer mu.Unlock()
			return module.Open(name)
		},
	}
}

func noError(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func open(t *testing.T, m *Memory, issuer string) storage.Store {
	t.Helper()
	store, err := m.Open(issuer)
	noError(t, err)
	return store
}

// users returns how many modules use the records of an issuer.
func users(issuer string) int {
	n, _ := memories.References(issuer)
	return n
}

// During a reload the new config opens before the old one is cleaned up.
func TestMemorySurvivesReload(t *testing.T) {
	ctx, key := t.Context(), storage.Key{Kind: storage.KindFamily, ID: "zzzz.id"}
	before, after := new(Memory), new(Memory)
	noError(t, open(t, before, "reload").Put(ctx, key, []byte("value"), time.Time{}))
	open(t, before, "removed")

	kept := open(t, after, "reload")
	noError(t, before.Cleanup())
	if value, err := kept.Get(ctx, key); string(value) != "value" {
		t.Errorf("after the reload: got %q, %v", value, err)
	}
	if users("reload") != 1 || users("removed") != 0 {
		t.Errorf("%d and %d users are left, want 1 and 0", users("reload"), users("removed"))
	}

	// A config that fails is cleaned up too, perhaps before it opened anything, perhaps twice.
	failed := new(Memory)
	noError(t, failed.Cleanup())
	open(t, failed, "reload")
	open(t, failed, "reload")
	noError(t, failed.Cleanup())
	noError(t, failed.Cleanup())
	if _, err := kept.Get(ctx, key); err != nil {
		t.Errorf("a config that failed took the records: %v", err)
	}

	noError(t, after.Cleanup())
	last := new(Memory)
	if _, err := open(t, last, "reload").Get(ctx, key); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the records outlive their last config: %v", err)
	}
	noError(t, last.Cleanup())
}

func TestMemorySweep(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	store := newStore()
	store.now = func() time.Time { return now }
	soon := now.Add(30 * time.Minute)
	for id, expires := range map[string]time.Time{
		string(storage.BucketFor(soon)) + ".filed": soon,
		"zzzz.never":          {},
		"zzzz.never-but-soon": soon,
		"plain":               {},
		"plain-but-soon":      soon,

		string(storage.BucketFor(now.Add(720*time.Hour))) + ".code": soon, // it ends long before its bucket
	} {
		noError(t, store.Put(t.Context(), storage.Key{Kind: storage.KindFamily, ID: id}, []byte("value"), expires))
	}
	held := func() (n int) {
		for i := range store.shards {
			n += len(store.shards[i].keys())
		}
		return n
	}
	noError(t, store.Sweep(t.Context()))
	if n := held(); n != 6 {
		t.Errorf("%d records while all live, want 6", n)
	}
	now = now.Add(2 * time.Hour)
	noError(t, store.Sweep(t.Context()))
	if n := held(); n != 2 {
		t.Errorf("%d records after four have expired, want 2", n)
	}
}

func TestCaddyfile(t *testing.T) {
	for text, valid := range map[string]bool{
		"memory":                true,
		"memory big":            false,
		"memory {\n\tsize 5\n}": false,
	} {
		if err := new(Memory).UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)); (err == nil) != valid {
			t.Errorf("%q: got error %v, want one: %v", text, err, !valid)
		}
	}
}
