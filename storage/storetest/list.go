package storetest

import (
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
	want, late := map[string]bool{}, map[string]bool{}
	for range 20 {
		for _, key := range keys() {
			want[key.ID] = true
			noError(t, store.Put(ctx, key, []byte("live"), time.Now().Add(time.Hour)))
		}
		for _, key := range keys() {
			late[key.ID] = true
			noError(t, store.Put(ctx, key, []byte("late"), time.Now().Add(-time.Minute)))
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
	wantListed(t, store, want, late)

	// The body of the loop may stop, and may use the store.
	for id, err := range store.List(ctx, testKind) {
		noError(t, err)
		noError(t, store.Delete(ctx, storage.Key{Kind: testKind, ID: id}))
		delete(want, id)
		delete(late, id)
		break
	}
	wantListed(t, store, want, late)
}

// wantListed checks that the records of a kind are listed, and beside them none but those that are late.
func wantListed(t *testing.T, store storage.Store, want, late map[string]bool) {
	t.Helper()
	got := list(t, store, testKind)
	for id := range want {
		if !got[id] {
			t.Errorf("List misses %s", id)
		}
	}
	for id := range got {
		if !want[id] && !late[id] {
			t.Errorf("List yields %s, which there never was in this kind, or was deleted", id)
		}
	}
}

// testListWhileChanging checks that what stays is listed whatever comes and goes beside it.
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
		return // it drops expired records by itself
	}
	live, listed, late := keys(), map[string]bool{}, map[string]bool{}
	for _, key := range live {
		listed[key.ID] = true
		noError(t, store.Put(ctx, key, []byte("live"), time.Now().Add(time.Hour)))
	}
	for _, key := range keys() {
		late[key.ID] = true
		noError(t, store.Put(ctx, key, []byte("late"), time.Now().Add(-time.Hour)))
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
	wantListed(t, store, listed, late)
}
