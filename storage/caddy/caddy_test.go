package caddystore

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/storetest"
)

func TestCaddyLayout(t *testing.T) {
	dir := t.TempDir()
	store := New(&certmagic.FileStorage{Path: dir}, "My Issuer")
	for id, want := range map[string]string{
		"abcd.ef": "oauth/=4dy=20=49ssuer/family/abcd/abcd.ef.record",
		"plain":   "oauth/=4dy=20=49ssuer/family/plain.record",
	} {
		if err := store.Put(t.Context(), family(id), nil, time.Time{}); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(want)))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s may be read by others: %v", want, info.Mode())
		}
	}
}

// A storage may be far away: what is listed again and again is not read each time.
func TestCaddyListReadsNothing(t *testing.T) {
	values := newMapStorage()
	store := New(values, "issuer")
	const records = 20
	for i := range records {
		key := (&storage.Cutoff{Token: strconv.Itoa(i), Expires: time.Now().Add(time.Hour)}).Key()
		if err := store.Put(t.Context(), key, []byte{byte(i)}, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	listed, before := 0, values.calls
	for _, err := range store.List(t.Context(), storage.KindCutoff) {
		if err != nil {
			t.Fatal(err)
		}
		listed++
	}
	if calls := values.calls - before; listed != records || calls > 2 {
		t.Errorf("%d records are listed with %d calls", listed, calls)
	}
}

// Opening, reading, listing and refusing leave no trace.
func TestCaddyNoTrace(t *testing.T) {
	dir := t.TempDir()
	store := New(&certmagic.FileStorage{Path: dir}, "issuer")
	for _, key := range storetest.HostileKeys() {
		_, err := store.Get(t.Context(), key)
		err = errors.Join(err, store.Put(t.Context(), key, nil, time.Time{}), store.Delete(t.Context(), key))
		if err == nil {
			t.Errorf("%q is no error", key)
		}
	}
	if _, err := store.Get(t.Context(), storage.Key{Kind: "kind", ID: "absent"}); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get of an absent record: %v", err)
	}
	for id, err := range store.List(t.Context(), "kind") {
		t.Errorf("List of an empty store yields %q, %v", id, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("there is something in the storage: %v, %v", entries, err)
	}
}

func TestCaddyHostileKeysReachNoStorage(t *testing.T) {
	cs := newMapStorage()
	store := New(cs, "issuer")
	keep := func([]byte) ([]byte, time.Time, error) { return nil, time.Time{}, storage.ErrKeep }
	for _, key := range storetest.HostileKeys() {
		_, err := store.Get(t.Context(), key)
		for _, err := range []error{
			err, store.Put(t.Context(), key, nil, time.Time{}),
			store.Update(t.Context(), key, keep), store.Delete(t.Context(), key),
		} {
			if err == nil {
				t.Errorf("%q is no error", key)
			}
		}
	}
	if cs.calls != 0 {
		t.Errorf("hostile keys made %d calls to the storage", cs.calls)
	}
}

// A damaged record is neither absent nor silently replaced, is found by a listing, and can be deleted.
func TestCaddyDamaged(t *testing.T) {
	dir := t.TempDir()
	store := New(&certmagic.FileStorage{Path: dir}, "issuer")
	key := storage.Key{Kind: storage.KindConsent, ID: "someone"}
	if err := store.Put(t.Context(), key, []byte("value"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "oauth", "issuer", "consent", "someone.record")
	for _, size := range []int64{35, 10, 0} {
		if err := os.Truncate(file, size); err != nil {
			t.Fatal(err)
		}
		_, getErr := store.Get(t.Context(), key)
		updateErr := store.Update(t.Context(), key, func([]byte) ([]byte, time.Time, error) {
			t.Error("a change sees a damaged record")
			return nil, time.Time{}, nil
		})
		for _, err := range []error{getErr, updateErr} {
			if err == nil || errors.Is(err, storage.ErrNotFound) || !strings.Contains(err.Error(), "consent/someone") {
				t.Errorf("%d bytes: got error %v, want one that names the record", size, err)
			}
		}
		listed := 0
		for id, err := range store.List(t.Context(), storage.KindConsent) {
			if err != nil || id != "someone" {
				t.Errorf("List yields %q, %v", id, err)
			}
			listed++
		}
		if listed != 1 {
			t.Errorf("List yields %d records, want the damaged one", listed)
		}
	}
	if err := store.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Get(t.Context(), key); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get after Delete: %v", err)
	}
}

// What a killed process leaves in the middle of a Store is no record.
func TestCaddyListsNoTemporaryFiles(t *testing.T) {
	dir := t.TempDir()
	store := New(&certmagic.FileStorage{Path: dir}, "issuer")
	if err := store.Put(t.Context(), storage.Key{Kind: "kind", ID: "zzzz.real"}, nil, time.Time{}); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, "oauth/issuer/kind/zzzz/zzzz.real.record"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"zzzz/1234567890", "1234", "abcd/zzzz.real.record", "zzzz.real.record"} {
		file := filepath.Join(dir, "oauth/issuer/kind", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, whole, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	var ids []string
	for id, err := range store.List(t.Context(), "kind") {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if len(ids) != 1 || ids[0] != "zzzz.real" {
		t.Errorf("List yields %q, want the one record", ids)
	}
}

// A storage may delete one key at a time; a sweep takes the whole bucket all the same.
func TestCaddySweepOverObjects(t *testing.T) {
	for _, deletesOne := range []bool{false, true} {
		cs := newMapStorage()
		cs.deletesOne = deletesOne
		store := New(cs, "issuer")
		past := time.Now().Add(-3 * time.Hour)
		for _, id := range []string{string(storage.BucketFor(past)) + ".a", string(storage.BucketFor(past)) + ".b", "late"} {
			if err := store.Put(t.Context(), storage.Key{Kind: "kind", ID: id}, nil, past); err != nil {
				t.Fatal(err)
			}
		}
		if err := store.Put(t.Context(), storage.Key{Kind: "kind", ID: "live"}, nil, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if err := store.(storage.Sweeper).Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		keys, err := cs.List(t.Context(), "oauth/issuer/kind", true)
		if err != nil || len(keys) != 1 || keys[0] != "oauth/issuer/kind/live.record" {
			t.Errorf("one delete per key %v: left are %q, %v", deletesOne, keys, err)
		}
	}
}
