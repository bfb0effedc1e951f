package caddystore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// sweepClock is a clock that stands until it is set.
type sweepClock struct{ t time.Time }

func (c *sweepClock) now() time.Time { return c.t }

func newSweepClock() *sweepClock {
	return &sweepClock{time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
}

func fileNode(t *testing.T, dir string, clock *sweepClock) *store {
	t.Helper()
	store := New(&certmagic.FileStorage{Path: dir}, "issuer").(*store)
	store.now = clock.now
	return store
}

// filesBelow returns the records on disk by their names, without those of the sweep itself.
func filesBelow(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasSuffix(file, recordSuffix) &&
			!strings.Contains(filepath.ToSlash(file), "/sweep/") {
			names = append(names, strings.TrimSuffix(filepath.Base(file), recordSuffix))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func putAll(t *testing.T, store storage.Store, now time.Time) {
	t.Helper()
	soon := now.Add(30 * time.Minute)
	bucket := string(storage.BucketFor(soon))
	for id, expires := range map[string]time.Time{
		bucket + ".filed":     soon,
		"zzzz.never":          {},
		"zzzz.never-but-soon": soon,
		"plain":               {},
		"plain-but-soon":      soon,
	} {
		if err := store.Put(t.Context(), family(id), []byte("value"), expires); err != nil {
			t.Fatal(err)
		}
	}
}

func sweep(t *testing.T, store storage.Sweeper) {
	t.Helper()
	if err := store.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestCaddySweep(t *testing.T) {
	dir, clock := t.TempDir(), newSweepClock()
	one, two := fileNode(t, dir, clock), fileNode(t, dir, clock)
	putAll(t, one, clock.t)
	bucket := string(storage.BucketFor(clock.t.Add(30 * time.Minute)))
	all := bucket + ".filed plain plain-but-soon zzzz.never zzzz.never-but-soon"

	expect := func(when, want string) {
		t.Helper()
		if got := filesBelow(t, dir); got != want {
			t.Fatalf("%s there are %q, want %q", when, got, want)
		}
	}
	expect("before all sweeps", all)
	sweep(t, one)
	expect("while all live", all)

	end, _ := storage.Bucket(bucket).End()
	clock.t = end.Add(clockSkew - time.Second)
	sweep(t, two)
	expect("within the margin of clocks", all)

	clock.t = end.Add(clockSkew + time.Second)
	sweep(t, one)
	sweep(t, two)
	expect("before the next turn", all)

	clock.t = clock.t.Add(sweepEvery)
	sweep(t, one)
	expect("after the turn", "plain zzzz.never")
	if _, err := os.Stat(filepath.Join(dir, "oauth", "issuer", "family", bucket)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory of an ended bucket is left: %v", err)
	}
}

// A sweep leaves damaged records, goes on after them, and does not take what is none of its own.
func TestCaddySweepPassesOver(t *testing.T) {
	dir, clock := t.TempDir(), newSweepClock()
	store := fileNode(t, dir, clock)
	putAll(t, store, clock.t)
	family := filepath.Join(dir, "oauth", "issuer", "family")
	write := func(name string, data string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(family, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(family, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("damaged.record", "half a rec")
	write("1234", "a temporary file")
	write("README", "mine")
	write("notes/README", "mine")
	clock.t = clock.t.Add(24 * time.Hour)
	sweep(t, store)
	if got, want := filesBelow(t, dir), "damaged plain zzzz.never"; got != want {
		t.Errorf("there are %q, want %q", got, want)
	}
	for _, name := range []string{"1234", "README", "notes/README"} {
		if _, err := os.Stat(filepath.Join(family, name)); err != nil {
			t.Errorf("a sweep took %s: %v", name, err)
		}
	}
}

func family(id string) storage.Key { return storage.Key{Kind: storage.KindFamily, ID: id} }
