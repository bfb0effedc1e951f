package caddystore

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"
	"github.com/caddyserver/certmagic"

	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/storetest"
)

// pooled returns how many modules use an issuer's value in a pool.
func pooled(pool *caddy.UsagePool, issuer string) int {
	n, _ := pool.References(issuer)
	return n
}

func openModule(t *testing.T, m storage.Opener, issuer string) storage.Store {
	t.Helper()
	store, err := m.Open(issuer)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func cleanUp(t *testing.T, m caddy.CleanerUpper) {
	t.Helper()
	noError(t, m.Cleanup())
}

func TestCaddySharesStripesAcrossReload(t *testing.T) {
	cs := &certmagic.FileStorage{Path: t.TempDir()}
	before, after := &Caddy{on: cs, log: caddy.Log()}, &Caddy{on: cs, log: caddy.Log()}
	one := openModule(t, before, "reload").(*store)
	two := openModule(t, after, "reload").(*store)
	other := openModule(t, after, "other").(*store)
	if one.stripes != two.stripes || one.stripes == other.stripes {
		t.Error("stripes are not shared by issuer")
	}
	cleanUp(t, before)
	cleanUp(t, before)
	if n := pooled(stripePool, "reload"); n != 1 {
		t.Errorf("%d users of the stripes are left, want 1", n)
	}
	cleanUp(t, after)
	if pooled(stripePool, "reload")+pooled(stripePool, "other") != 0 {
		t.Error("stripes outlive their last config")
	}
	cleanUp(t, new(Caddy))
}

// Loaded by Caddy, the module uses the storage of its config, and leaves no trace there.
func TestCaddyModuleProvision(t *testing.T) {
	dir := t.TempDir()
	raw, err := json.Marshal(map[string]string{"module": "file_system", "root": dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		Admin:      &caddy.AdminConfig{Disabled: true},
		StorageRaw: raw,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(ctx)
	defer cancel()
	module, err := ctx.LoadModuleByID("oauth.stores.caddy", nil)
	if err != nil {
		t.Fatal(err)
	}
	store := openModule(t, module.(storage.Opener), "provision").(*store)
	if _, err := store.Get(t.Context(), storage.Key{Kind: storage.KindKeys, ID: "none"}); !errors.Is(err, storage.ErrNotFound) {
		t.Error(err)
	}
	if files, ok := store.backend.(*files); !ok || files.top != dir {
		t.Errorf("the store is on %v, not on the storage of the config", store.backend)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("there is something in the storage: %v, %v", entries, err)
	}
	cancel()
	if pooled(stripePool, "provision") != 0 {
		t.Error("Caddy's cleanup left something in the pools")
	}
}

func TestCaddyfile(t *testing.T) {
	for text, valid := range map[string]bool{
		"caddy":                true,
		"caddy big":            false,
		"caddy {\n\tsize 5\n}": false,
	} {
		if err := new(Caddy).UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)); (err == nil) != valid {
			t.Errorf("%q: got error %v, want one: %v", text, err, !valid)
		}
	}
}

func TestCaddyLayout(t *testing.T) {
	dir := t.TempDir()
	store := New(&certmagic.FileStorage{Path: dir}, "My Issuer")
	for id, want := range map[string]string{
		"abcd.ef": "oauth/=4dy=20=49ssuer/family/abcd/abcd.ef.record",
		"plain":   "oauth/=4dy=20=49ssuer/family/plain.record",
	} {
		noError(t, store.Put(t.Context(), family(id), nil, time.Time{}))
		info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(want)))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s may be read by others: %v", want, info.Mode())
		}
	}
}

// A storage may be far away, so a listing does not read the records.
func TestCaddyListReadsNothing(t *testing.T) {
	values := newMapStorage()
	store := New(values, "issuer")
	const records = 20
	for i := range records {
		key := (&storage.Cutoff{Token: strconv.Itoa(i), Expires: time.Now().Add(time.Hour)}).Key()
		noError(t, store.Put(t.Context(), key, []byte{byte(i)}, time.Now().Add(time.Hour)))
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

// Opening, reading, listing and refused calls leave no trace.
func TestCaddyNoTrace(t *testing.T) {
	dir := t.TempDir()
	store := New(&certmagic.FileStorage{Path: dir}, "issuer")
	for _, key := range storetest.HostileKeys() {
		_, err := store.Get(t.Context(), key)
		err = errors.Join(err, store.Put(t.Context(), key, nil, time.Time{}), store.Delete(t.Context(), key))
		if err == nil {
			t.Errorf("%q is not refused", key)
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
				t.Errorf("%q is not refused", key)
			}
		}
	}
	if cs.calls != 0 {
		t.Errorf("hostile keys made %d calls to the storage", cs.calls)
	}
}

// A damaged record is neither absent nor silently replaced. It is listed, and can be deleted.
func TestCaddyDamaged(t *testing.T) {
	dir := t.TempDir()
	store := New(&certmagic.FileStorage{Path: dir}, "issuer")
	key := storage.Key{Kind: storage.KindConsent, ID: "someone"}
	noError(t, store.Put(t.Context(), key, []byte("value"), time.Time{}))
	file := filepath.Join(dir, "oauth", "issuer", "consent", "someone.record")
	for _, size := range []int64{35, 10, 0} {
		noError(t, os.Truncate(file, size))
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
	noError(t, store.Delete(t.Context(), key))
	if _, err := store.Get(t.Context(), key); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get after Delete: %v", err)
	}
}

// The files that a killed process leaves behind are not records.
func TestCaddyListsNoTemporaryFiles(t *testing.T) {
	dir := t.TempDir()
	store := New(&certmagic.FileStorage{Path: dir}, "issuer")
	noError(t, store.Put(t.Context(), storage.Key{Kind: "kind", ID: "zzzz.real"}, nil, time.Time{}))
	whole, err := os.ReadFile(filepath.Join(dir, "oauth/issuer/kind/zzzz/zzzz.real.record"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"zzzz/1234567890", "1234", "abcd/zzzz.real.record", "zzzz.real.record"} {
		file := filepath.Join(dir, "oauth/issuer/kind", name)
		noError(t, errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, whole, 0o600)))
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

// A sweep deletes the whole bucket, even if the storage deletes only one key at a time.
func TestCaddySweepOverObjects(t *testing.T) {
	for _, deletesOne := range []bool{false, true} {
		cs := newMapStorage()
		cs.deletesOne = deletesOne
		store := New(cs, "issuer")
		past := time.Now().Add(-3 * time.Hour)
		for _, id := range []string{string(storage.BucketFor(past)) + ".a", string(storage.BucketFor(past)) + ".b", "late"} {
			noError(t, store.Put(t.Context(), storage.Key{Kind: "kind", ID: id}, nil, past))
		}
		noError(t, store.Put(t.Context(), storage.Key{Kind: "kind", ID: "live"}, nil, time.Time{}))
		noError(t, store.(storage.Sweeper).Sweep(t.Context()))
		keys, err := cs.List(t.Context(), "oauth/issuer/kind", true)
		if err != nil || len(keys) != 1 || keys[0] != "oauth/issuer/kind/live.record" {
			t.Errorf("one delete per key %v: left are %q, %v", deletesOne, keys, err)
		}
	}
}
