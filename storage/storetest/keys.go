package storetest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// HostileKeys returns keys that every method must refuse without touching anything.
func HostileKeys() []storage.Key {
	names := []string{
		"", ".", "..", "../x", "..\\x", "/", "/x", "x/", "a/b", "a\\b", ".hidden", "dot.", "x/../y",
		"a\x00b", "UPPER", "white space", "line\n", "ümlaut", "\xff", "a:b", "a%2fb", "*", "~",
		strings.Repeat("x", 129), strings.Repeat("x", 300),
	}
	hostile := make([]storage.Key, 0, 4*len(names))
	for _, name := range names {
		hostile = append(hostile,
			storage.Key{Kind: testKind, ID: name},
			storage.Key{Kind: storage.Kind(name), ID: "id"},
			storage.Key{Kind: storage.Kind(name), ID: name},
			storage.Key{Kind: testKind, ID: "zzzz." + name + "/"})
	}
	return hostile
}

func testHostileKeys(t *testing.T, b Backend) {
	store, ctx := b.fresh(t), testContext(t)
	innocent := freshKey()
	noError(t, store.Put(ctx, innocent, []byte("innocent"), never))
	for _, key := range HostileKeys() {
		for method, err := range callAll(ctx, store, key) {
			if err == nil || errors.Is(err, storage.ErrNotFound) {
				t.Errorf("%s with %.40q %.40q: got error %v, want a refusal", method, key.Kind, key.ID, err)
			}
		}
	}
	for _, kind := range []storage.Kind{"", "..", "../x", "UPPER", "a/b"} {
		var got error
		for id, err := range store.List(ctx, kind) {
			got = err
			if id != "" {
				t.Errorf("List of kind %q yields %q", kind, id)
			}
		}
		if got == nil {
			t.Errorf("List of kind %q: no error", kind)
		}
	}
	wantValue(t, store, innocent, "innocent")
	if ids := list(t, store, testKind); len(ids) != 1 {
		t.Errorf("hostile keys left %d records where there was one", len(ids))
	}
}

func testCancelled(t *testing.T, b Backend) {
	store, key := b.fresh(t), freshKey()
	noError(t, store.Put(testContext(t), key, []byte("value"), never))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// More than once, since whoever selects between a free lock and a dead context may be lucky.
	for range 20 {
		for method, err := range callAll(ctx, store, key) {
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("%s with a cancelled context: got error %v", method, err)
			}
		}
		var got error
		for _, got = range store.List(ctx, testKind) {
			if got == nil {
				t.Fatal("List with a cancelled context yields a record")
			}
		}
		if !errors.Is(got, context.Canceled) {
			t.Fatalf("List with a cancelled context: got error %v", got)
		}
	}
	wantValue(t, store, key, "value")
}

// callAll calls every method with a key, and returns their errors.
func callAll(ctx context.Context, store storage.Store, key storage.Key) map[string]error {
	errs := map[string]error{}
	_, errs["Get"] = store.Get(ctx, key)
	errs["Put"] = store.Put(ctx, key, []byte("put"), never)
	errs["Update"] = store.Update(ctx, key, set("updated"))
	errs["Update that keeps"] = store.Update(ctx, key, func([]byte) ([]byte, time.Time, error) {
		return nil, never, storage.ErrKeep
	})
	errs["Delete"] = store.Delete(ctx, key)
	return errs
}
