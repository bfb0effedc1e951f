package caddystore

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// onFiles returns a store on files, and the file of a record.
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
	if err := store.Update(t.Context(), key, change); err != nil {
		t.Fatal(err)
	}
}

func stat(t *testing.T, name string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// What fits is written where it stands, and what does not into a new file, in which there is room again.
func TestFilesGrow(t *testing.T) {
	key := family("abcd.id")
	store, name := onFiles(t, key)
	if err := store.Put(t.Context(), key, []byte("first"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	file := stat(t, name)
	for _, step := range []struct {
		length int
		size   int64
		same   bool
	}{{10, 4096, true}, {1900, 4096, true}, {0, 4096, true}, {2000, 5120 + 1024, false}, {2400, 5120 + 1024, true}, {10, 5120 + 1024, true}, {100_000, 250_880, false}} {
		value := strings.Repeat("x", step.length)
		update(t, store, key, setTo(value))
		want(t, store, key, value)
		now := stat(t, name)
		if now.Size() != step.size || os.SameFile(file, now) != step.same {
			t.Errorf("with %d bytes the file has %d, the same file: %v; want %d, %v",
				step.length, now.Size(), os.SameFile(file, now), step.size, step.same)
		}
		file = now
	}
}

// A write that a crash cut off does not count, and its slot is used again.
func TestFilesTorn(t *testing.T) {
	key := family("abcd.id")
	store, name := onFiles(t, key)
	update(t, store, key, setTo("first"))
	update(t, store, key, setTo("second"))
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte("oauth2 torn"), smallestSlot); err != nil {
		t.Fatal(err)
	}
	want(t, store, key, "first")
	update(t, store, key, setTo("again"))
	want(t, store, key, "again")
	update(t, store, key, setTo("and again"))
	want(t, store, key, "and again")
}

// What a record has given up is not in its file: nothing of it if the record shrinks, and else no more than is in the state
// before.
func TestFilesKeepNoMore(t *testing.T) {
	key := family("abcd.id")
	store, name := onFiles(t, key)
	has := func(text string) bool {
		t.Helper()
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Contains(content, []byte(text))
	}
	for range 3 {
		update(t, store, key, setTo(strings.Repeat("secret of a family ", 50)))
	}
	update(t, store, key, setTo("a tombstone"))
	want(t, store, key, "a tombstone")
	if has("secret") {
		t.Error("a record that is a tombstone holds what it was")
	}
	update(t, store, key, setTo("0123456789 the first and a secret of it"))
	update(t, store, key, setTo("0123456789 the second"))
	update(t, store, key, setTo("0123456789 the third"))
	if has("secret") {
		t.Error("a record holds a part of the state before the one before")
	}
	want(t, store, key, "0123456789 the third")
}
