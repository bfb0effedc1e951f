package storetest

import (
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// list returns the IDs of a kind and fails if one comes twice.
func list(t *testing.T, store storage.Store, kind storage.Kind) map[string]bool {
	t.Helper()
	ids := map[string]bool{}
	for id, err := range store.List(testContext(t), kind) {
		if err != nil {
			t.Fatalf("List: %v", err)
		}
		if ids[id] {
			t.Errorf("List yields %s twice", id)
		}
		ids[id] = true
	}
	return ids
}

func testList(t *testing.T, b Backend) {
	store, ctx := b.fresh(t), testContext(t)
	if ids := list(t, store, testKind); len(ids) > 0 {
		t.Errorf("a fresh store lists %v", ids)
	}
	want, expired := map[string]bool{}, map[string]bool{}
	for range 20 {
		for _, key := range keys() {
			want[key.ID] = true
			noError(t, store.Put(ctx, key, []byte("live"), time.Now().Add(time.Hour)))
		}
		for _, key := range keys() {
			expired[key.ID] = true
			noError(t, store.Put(ctx, key, []byte("expired"), time.Now().Add(-time.Minute)))
		}
		for _, key := range keys() {
			noError(t, store.Put(ctx, key, []byte("deleted"), never))
			noError(t, store.Delete(ctx, key))
		}
		for _, key := range keys() {
			key.Kind = "other"
			noError(t, store.Put(ctx, key, []byte("other"), never))
		}
	}
	wantListed(t, store, want, expired)

	// The body of the loop may stop, and may use the store.
	for id, err := range store.List(ctx, testKind) {
		noError(t, err)
		noError(t, store.Delete(ctx, storage.Key{Kind: testKind, ID: id}))
		delete(want, id)
		delete(expired, id)
		break
	}
	wantListed(t, store, want, expired)
}

// wantListed checks that List yields the wanted records of a kind, and no others but expired ones.
func wantListed(t *testing.T, store storage.Store, want, expired map[string]bool) {
	t.Helper()
	got := list(t, store, testKind)
	for id := range want {
		if !got[id] {
			t.Errorf("List misses %s", id)
		}
	}
	for id := range got {
		if !want[id] && !expired[id] {
			t.Errorf("List yields %s, which was never of this kind, or was deleted", id)
		}
	}
}

// testListWhileChanging checks that List yields all records that stay while others are written and deleted.
func testListWhileChanging(t *testing.T, b Backend) {
	store, ctx := b.fresh(t), testContext(t)
	stays := map[string]bool{}
	for range 10 {
		for _, key := range keys() {
			stays[key.ID] = true
			noError(t, store.Put(ctx, key, []byte("stays"), never))
		}
	}
	stop := make(chan struct{})
	var changing sync.WaitGroup
	changing.Go(func() {
		for i := 0; ; i++ {
			for _, key := range keys() {
				select {
				case <-stop:
					return
				default:
				}
				if err := store.Put(ctx, key, []byte(strconv.Itoa(i)), never); err != nil {
					t.Errorf("Put: %v", err)
				}
				if err := store.Delete(ctx, key); err != nil {
					t.Errorf("Delete: %v", err)
				}
			}
		}
	})
	for range 20 {
		got := list(t, store, testKind)
		for id := range stays {
			if !got[id] {
				t.Errorf("List misses %s, which was there all the time", id)
			}
		}
	}
	close(stop)
	changing.Wait()
}

func testSweep(t *testing.T, b Backend) {
	store, ctx := b.fresh(t), testContext(t)
	sweeper, ok := store.(storage.Sweeper)
	if !ok {
		return // it removes expired records by itself
	}
	live, listed, expired := keys(), map[string]bool{}, map[string]bool{}
	for _, key := range live {
		listed[key.ID] = true
		noError(t, store.Put(ctx, key, []byte("live"), time.Now().Add(time.Hour)))
	}
	for _, key := range keys() {
		expired[key.ID] = true
		noError(t, store.Put(ctx, key, []byte("expired"), time.Now().Add(-time.Hour)))
	}
	var sweeps sync.WaitGroup
	for range 4 {
		sweeps.Go(func() {
			if err := sweeper.Sweep(ctx); err != nil {
				t.Errorf("Sweep: %v", err)
			}
		})
	}
	sweeps.Wait()
	for _, key := range live {
		wantValue(t, store, key, "live")
	}
	wantListed(t, store, listed, expired)
}

func testExport(t *testing.T, b Backend) {
	store, ctx := b.fresh(t), testContext(t)
	exporter, ok := store.(storage.Exporter)
	if !ok {
		return // it cannot list its records
	}
	if got := export(t, exporter); len(got) > 0 {
		t.Errorf("a fresh store exports %v", got)
	}
	want := map[storage.Key]storage.Record{}
	put := func(key storage.Key, value string, expires time.Time) {
		noError(t, store.Put(ctx, key, []byte(value), expires))
		want[key] = storage.Record{Key: key, Value: []byte(value), Expires: expires}
	}
	for i, kind := range []storage.Kind{testKind, "other"} {
		for shape, key := range keys() {
			key.Kind = kind
			put(key, shape, time.Now().Add(time.Hour+time.Duration(i)*time.Minute+time.Second/2))
		}
		for _, key := range keys() {
			key.Kind = kind
			put(key, "", never)
		}
		for _, key := range keys() {
			key.Kind = kind
			noError(t, store.Put(ctx, key, []byte("expired"), time.Now().Add(-time.Minute)))
		}
	}
	if sweeper, ok := store.(storage.Sweeper); ok {
		noError(t, sweeper.Sweep(ctx)) // its own records are not exported
	}
	got := export(t, exporter)
	if len(got) != len(want) {
		t.Errorf("%d records are exported, want %d: %v", len(got), len(want), got)
	}
	for key, record := range want {
		sameRecord(t, "Export", got[key], record)
		looked, err := exporter.Look(ctx, key)
		noError(t, err)
		sameRecord(t, "Look", looked, record)
	}

	absent := freshKey()
	if record, err := exporter.Look(ctx, absent); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Look at nothing: %v and error %v, want ErrNotFound", record, err)
	}
	// The body of the loop may stop, and may use the store.
	for record, err := range exporter.Export(ctx) {
		noError(t, err)
		noError(t, store.Delete(ctx, record.Key))
		break
	}
	if got := export(t, exporter); len(got) != len(want)-1 {
		t.Errorf("%d records are left after one of %d was deleted", len(got), len(want))
	}
}

// export returns all exported records. A record may be yielded twice.
func export(t *testing.T, exporter storage.Exporter) map[storage.Key]storage.Record {
	t.Helper()
	all := map[storage.Key]storage.Record{}
	for record, err := range exporter.Export(testContext(t)) {
		noError(t, err)
		all[record.Key] = record
	}
	return all
}

// sameRecord compares the expiry to the millisecond. A record must not expire before its time.
func sameRecord(t *testing.T, what string, got, want storage.Record) {
	t.Helper()
	later := got.Expires.Sub(want.Expires)
	if got.Key != want.Key || string(got.Value) != string(want.Value) ||
		got.Expires.IsZero() != want.Expires.IsZero() || later < 0 || later > 2*time.Millisecond {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
