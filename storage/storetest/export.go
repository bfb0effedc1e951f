package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

func testExport(t *testing.T, b Backend) {
	store, ctx := b.fresh(t), testContext(t)
	exporter, ok := store.(storage.Exporter)
	if !ok {
		return // it cannot be moved
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
			noError(t, store.Put(ctx, key, []byte("late"), time.Now().Add(-time.Minute)))
		}
	}
	if sweeper, ok := store.(storage.Sweeper); ok {
		noError(t, sweeper.Sweep(ctx)) // of whose traces nothing is exported
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

// export returns what is exported, of which a record may come twice.
func export(t *testing.T, exporter storage.Exporter) map[storage.Key]storage.Record {
	t.Helper()
	all := map[storage.Key]storage.Record{}
	for record, err := range exporter.Export(testContext(t)) {
		noError(t, err)
		all[record.Key] = record
	}
	return all
}

// sameRecord compares the expiry to the millisecond: a record must not go before its time.
func sameRecord(t *testing.T, what string, got, want storage.Record) {
	t.Helper()
	later := got.Expires.Sub(want.Expires)
	if got.Key != want.Key || string(got.Value) != string(want.Value) ||
		got.Expires.IsZero() != want.Expires.IsZero() || later < 0 || later > 2*time.Millisecond {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
