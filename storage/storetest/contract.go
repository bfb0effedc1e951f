package storetest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

func testGetPut(t *testing.T, b Backend) {
	store, ctx := b.fresh(t), testContext(t)
	values := map[string]string{
		"text":           "a value",
		"empty":          "",
		"bytes":          "\x00\xff\n\r\n\x00",
		"looks the part": "oauth1 000000000000000 00000000\n",
		"large":          strings.Repeat("0123456789abcdef", 1<<16),
	}
	for shape, key := range keys() {
		wantAbsent(t, store, key)
		for name, value := range values {
			noError(t, store.Put(ctx, key, []byte(value), never))
			wantValue(t, store, key, value)
			if t.Failed() {
				t.Fatalf("%s, %s", shape, name)
			}
		}
	}

	key := freshKey()
	noError(t, store.Put(ctx, key, nil, never))
	wantValue(t, store, key, "")
	noError(t, store.Update(ctx, key, func(old []byte) ([]byte, time.Time, error) {
		if old == nil {
			t.Error("Update sees an empty record as absent")
		}
		return []byte{}, never, nil
	}))
	wantValue(t, store, key, "")
}

func testUpdate(t *testing.T, b Backend) {
	store, ctx := b.fresh(t), testContext(t)
	for shape, key := range keys() {
		steps := []struct{ sees, becomes []byte }{
			{nil, []byte("one")},
			{[]byte("one"), []byte("two")},
			{[]byte("two"), nil},
			{nil, nil},
			{nil, []byte("three")},
		}
		for i, step := range steps {
			err := store.Update(ctx, key, func(old []byte) ([]byte, time.Time, error) {
				if !bytes.Equal(old, step.sees) || (old == nil) != (step.sees == nil) {
					t.Errorf("%s, step %d: change sees %q, want %q", shape, i, old, step.sees)
				}
				return step.becomes, time.Now().Add(time.Hour), nil
			})
			noError(t, err)
			if step.becomes == nil {
				wantAbsent(t, store, key)
				continue
			}
			wantValue(t, store, key, string(step.becomes))
		}
	}
}

func testUpdateErrors(t *testing.T, b Backend) {
	store, ctx := b.fresh(t), testContext(t)
	refusal := errors.New("refused")
	for shape, key := range keys() {
		for _, c := range []struct{ gives, want error }{{refusal, refusal}, {storage.ErrKeep, nil}} {
			change := func([]byte) ([]byte, time.Time, error) { return []byte("written"), never, c.gives }

			if err := store.Update(ctx, key, change); err != c.want { //nolint:errorlint // the same error, not one that wraps it
				t.Fatalf("%s, absent: got error %v, want %v", shape, err, c.want)
			}
			wantAbsent(t, store, key)

			noError(t, store.Put(ctx, key, []byte("before"), never))
			if err := store.Update(ctx, key, change); err != c.want { //nolint:errorlint // the same error, not one that wraps it
				t.Fatalf("%s, present: got error %v, want %v", shape, err, c.want)
			}
			wantValue(t, store, key, "before")
			noError(t, store.Delete(ctx, key))
		}
	}

	// The lock must not outlive a change that failed.
	key := freshKey()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("Update hides a panic of change")
			}
		}()
		_ = store.Update(ctx, key, func([]byte) ([]byte, time.Time, error) { panic("in change") })
	}()
	noError(t, store.Update(ctx, key, set("after")))
	wantValue(t, store, key, "after")
}

func testDelete(t *testing.T, b Backend) {
	store, ctx := b.fresh(t), testContext(t)
	for _, key := range keys() {
		neighbour := storage.Key{Kind: key.Kind, ID: key.ID + "0"}
		noError(t, store.Put(ctx, neighbour, []byte("neighbour"), never))
		noError(t, store.Delete(ctx, key))
		noError(t, store.Put(ctx, key, []byte("value"), never))
		noError(t, store.Delete(ctx, key))
		wantAbsent(t, store, key)
		noError(t, store.Delete(ctx, key))
		wantValue(t, store, neighbour, "neighbour")
	}
}

func testExpiry(t *testing.T, b Backend) {
	store, ctx := b.fresh(t), testContext(t)
	for shape, key := range keys() {
		put := func(expires time.Time) { noError(t, store.Put(ctx, key, []byte("put"), expires)) }
		update := func(expires time.Time) {
			noError(t, store.Update(ctx, key, func([]byte) ([]byte, time.Time, error) {
				return []byte("updated"), expires, nil
			}))
		}
		for name, write := range map[string]func(time.Time){"Put": put, "Update": update} {
			for _, past := range []time.Time{time.Now().Add(-time.Hour), time.Unix(0, 0), time.Unix(1, 0)} {
				write(time.Now().Add(time.Hour))
				if _, err := store.Get(ctx, key); err != nil {
					t.Fatalf("%s, %s: a live record: %v", shape, name, err)
				}
				write(past)
				wantAbsent(t, store, key)
			}
			write(time.Now().Add(50 * time.Millisecond))
			waitAbsent(t, store, key)
			noError(t, store.Update(ctx, key, func(old []byte) ([]byte, time.Time, error) {
				if old != nil {
					t.Errorf("%s, %s: change sees the expired record %q", shape, name, old)
				}
				return nil, never, storage.ErrKeep
			}))
		}
		noError(t, store.Put(ctx, key, []byte("back"), time.Now().AddDate(100, 0, 0)))
		wantValue(t, store, key, "back")
	}
}

func waitAbsent(t *testing.T, store storage.Store, key storage.Key) {
	t.Helper()
	ctx := testContext(t)
	for {
		_, err := store.Get(ctx, key)
		if errors.Is(err, storage.ErrNotFound) {
			return
		}
		if err != nil {
			t.Fatalf("%v should expire: %v", key, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// testOwnership checks that the store shares no bytes with its callers.
func testOwnership(t *testing.T, b Backend) {
	store, ctx := b.fresh(t), testContext(t)
	key := freshKey()
	spoil := func(b []byte) {
		for i := range b {
			b[i] = '!'
		}
	}

	given := []byte("value")
	noError(t, store.Put(ctx, key, given, never))
	spoil(given)
	wantValue(t, store, key, "value")

	got, err := store.Get(ctx, key)
	noError(t, err)
	spoil(got)
	wantValue(t, store, key, "value")

	noError(t, store.Update(ctx, key, func(old []byte) ([]byte, time.Time, error) {
		spoil(old)
		return nil, never, storage.ErrKeep
	}))
	wantValue(t, store, key, "value")

	noError(t, store.Update(ctx, key, func([]byte) ([]byte, time.Time, error) {
		given = []byte("next")
		return given, never, nil
	}))
	spoil(given)
	wantValue(t, store, key, "next")
}

func testKinds(t *testing.T, b Backend) {
	store, ctx := b.fresh(t), testContext(t)
	// A careless layout would take these IDs for a bucket, a folder of its own, or a temporary file.
	for _, id := range []string{"abcd", "zzzz", "0000", "07", "1234567890", "locks", randomID()} {
		for _, kind := range []storage.Kind{"one", "two", "one.two", "zzzz", "locks"} {
			noError(t, store.Put(ctx, storage.Key{Kind: kind, ID: id}, []byte(string(kind)+id), never))
			noError(t, store.Put(ctx, storage.Key{Kind: kind, ID: "zzzz." + id}, []byte("filed"), never))
		}
	}
	for _, kind := range []storage.Kind{"one", "two", "one.two", "zzzz", "locks"} {
		key := storage.Key{Kind: kind, ID: "abcd"}
		wantValue(t, store, key, string(kind)+"abcd")
		wantValue(t, store, storage.Key{Kind: kind, ID: "zzzz.abcd"}, "filed")
		if n := len(list(t, store, kind)); n != 14 {
			t.Errorf("kind %s: %d records listed, want 14", kind, n)
		}
		noError(t, store.Delete(ctx, key))
		wantAbsent(t, store, key)
		wantValue(t, store, storage.Key{Kind: kind, ID: "zzzz.abcd"}, "filed")
	}
}

func testOpenedTwice(t *testing.T, b Backend) {
	address := b.New(t)
	one, two, elsewhere := b.open(t, address), b.open(t, address), b.fresh(t)
	ctx, key := testContext(t), freshKey()
	noError(t, one.Put(ctx, key, []byte("value"), never))
	wantValue(t, two, key, "value")
	wantAbsent(t, elsewhere, key)
	noError(t, two.Delete(ctx, key))
	wantAbsent(t, one, key)
}

// HostileKeys returns keys that every method must refuse without any effect.
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
	// More than once, because a select between a free lock and an ended context may choose the right one by chance.
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
