package caddystore

import (
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

func noError(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// onFiles returns a store on files, and the name of a record's file.
func onFiles(t *testing.T, key storage.Key) (s *store, name string) {
	t.Helper()
	s = New(&certmagic.FileStorage{Path: t.TempDir()}, "issuer").(*store)
	return s, s.backend.(*files).file(key)
}

func setTo(value string) storage.Change {
	return func([]byte) ([]byte, time.Time, error) { return []byte(value), time.Time{}, nil }
}

func want(t *testing.T, store storage.Store, key storage.Key, value string) {
	t.Helper()
	if got, err := store.Get(t.Context(), key); err != nil || string(got) != value {
		t.Errorf("got %.40q, error %v; want %.40q", got, err, value)
	}
}

func update(t *testing.T, store storage.Store, key storage.Key, change storage.Change) {
	t.Helper()
	noError(t, store.Update(t.Context(), key, change))
}

func stat(t *testing.T, name string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// sweepClock is a clock that a test sets.
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

// filesBelow returns the IDs of the records on disk, without the sweep's own records.
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
		noError(t, store.Put(t.Context(), family(id), []byte("value"), expires))
	}
}

func sweep(t *testing.T, store storage.Sweeper) {
	t.Helper()
	noError(t, store.Sweep(t.Context()))
}

func family(id string) storage.Key { return storage.Key{Kind: storage.KindFamily, ID: id} }

func put(t *testing.T, store storage.Store, id string, expires time.Time) {
	t.Helper()
	noError(t, store.Put(t.Context(), family(id), []byte("value"), expires))
}
