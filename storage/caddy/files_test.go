package caddystore

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"
)

// A value that fits is written in place. One that does not gets a new file, in which it can grow again.
func TestFilesGrow(t *testing.T) {
	key := family("abcd.id")
	store, name := onFiles(t, key)
	noError(t, store.Put(t.Context(), key, []byte("first"), time.Time{}))
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

// A torn write does not count, and the next update reuses its slot.
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

// Old values do not stay in a file: none if the record shrinks, and otherwise only the one before.
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
		t.Error("the file of a tombstone still contains the record")
	}
	update(t, store, key, setTo("0123456789 the first and a secret of it"))
	update(t, store, key, setTo("0123456789 the second"))
	update(t, store, key, setTo("0123456789 the third"))
	if has("secret") {
		t.Error("the file contains a part of the state before the previous one")
	}
	want(t, store, key, "0123456789 the third")
}
