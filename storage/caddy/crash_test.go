package caddystore

import (
	"errors"
	"iter"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

func simFiles(d *simDisk, replaces bool) *files {
	b := newFiles(&certmagic.FileStorage{Path: "/data"}, paths{"oauth/issuer"}, time.Now, zap.NewNop())
	b.disk = d
	b.replaces = func() bool { return replaces }
	return b
}

var crashKey = family("abcd.id")

// life has the values of a record one after the other, "" for none.
var life = []string{
	"put", "updated", "updated again", "and again", strings.Repeat("long ", 200), "short",
	strings.Repeat("outgrown ", 300), "in the new file", "and again there", "",
	"made by an update", "updated there", "",
}

// live gives a record the values of its life until an error, and returns the indexes of the last value that was confirmed and of the
// one being written.
func live(t *testing.T, b *files) (has, next int, err error) {
	t.Helper()
	for i, value := range life {
		switch {
		case i == 0:
			err = b.put(t.Context(), crashKey, []byte(value), time.Time{})
		case value == "" && i == len(life)-1:
			err = b.remove(t.Context(), crashKey)
		default:
			err = b.update(t.Context(), crashKey, func(old []byte, _ time.Time) ([]byte, time.Time, error) {
				if string(old) != life[i-1] {
					t.Fatalf("update %d sees %.20q, want %.20q", i, old, life[i-1])
				}
				if value == "" {
					return nil, time.Time{}, nil
				}
				return []byte(value), time.Time{}, nil
			})
		}
		if err != nil {
			return i - 1, i, err
		}
	}
	return len(life) - 1, len(life) - 1, nil
}

// subsets yields subsets of n changes that survive: all subsets of the last six, each with all and with none of those before.
func subsets(n int) iter.Seq[func(i int) bool] {
	return func(yield func(func(i int) bool) bool) {
		last := min(n, 6)
		for subset := range 1 << last {
			for _, early := range []bool{false, true} {
				survives := func(i int) bool {
					if i < n-last {
						return early
					}
					return subset>>(i-n+last)&1 == 1
				}
				if !yield(survives) || n == last && !early {
					break
				}
			}
		}
	}
}

func valueAt(i int) string {
	if i < 0 {
		return ""
	}
	return life[i]
}

func stored(t *testing.T, b *files) (string, error) {
	t.Helper()
	value, _, err := b.read(t.Context(), crashKey)
	if errors.Is(err, storage.ErrNotFound) {
		return "", nil
	}
	return string(value), err
}

// newLife returns a disk with an empty folder for a storage, and a backend on it.
func newLife(t *testing.T, cutAt, failAt int, replaces bool) (*simDisk, *files) {
	t.Helper()
	d := newSimDisk()
	if err := d.mkdir("/data"); err != nil {
		t.Fatal(err)
	}
	d.syncNode(d.root)
	d.calls, d.cutAt, d.failAt = 0, cutAt, failAt
	return d, simFiles(d, replaces)
}

// The power is cut in the middle of each call to the disk, and every subset of the unsynced changes survives. Afterwards the record has
// the last confirmed value, or the one being written.
func TestPowerCuts(t *testing.T) {
	for _, replaces := range []bool{false, true} {
		cuts, states := 0, 0
		for last := false; !last; cuts++ {
			d, b := newLife(t, cuts+1, 0, replaces)
			has, next, err := live(t, b)
			if last = d.calls < d.cutAt; last != (err == nil) || !last && !errors.Is(err, errPowerCut) {
				t.Fatalf("cut at call %d of %d: %v", d.cutAt, d.calls, err)
			}
			for survives := range subsets(len(d.pending)) {
				d, b := newLife(t, cuts+1, 0, replaces)
				_, _, _ = live(t, b)
				got, err := stored(t, simFiles(d.restart(survives), replaces))
				if err != nil || got != valueAt(has) && got != valueAt(next) {
					t.Fatalf("cut at call %d, state %d: got %.20q, error %v; want %.20q or %.20q",
						d.cutAt, states, got, err, valueAt(has), valueAt(next))
				}
				states++
			}
		}
		t.Logf("%d power cuts, %d states of the disk", cuts, states)
	}
}

// Each call to the disk fails once, after it has done its work. The record keeps its value, immediately and after a power cut.
func TestDiskErrors(t *testing.T) {
	errs := 0
	for fail := 1; ; fail++ {
		d, b := newLife(t, 0, fail, false)
		has, next, err := live(t, b)
		if d.calls < fail {
			break
		}
		if err == nil {
			continue // the error does not matter
		}
		errs++
		check := func(when string, b *files) {
			t.Helper()
			got, err := stored(t, b)
			deleted := valueAt(next) == "" && got == "" // a failed deletion may have worked
			if err != nil || got != valueAt(has) && !deleted {
				t.Errorf("call %d fails: %s it is %.20q, error %v; want %.20q", fail, when, got, err, valueAt(has))
			}
		}
		check("then", b)
		for survives := range subsets(len(d.pending)) {
			d, b := newLife(t, 0, fail, false)
			_, _, _ = live(t, b)
			check("after a power cut", simFiles(d.restart(survives), false))
		}
	}
	if errs < len(life) {
		t.Errorf("only %d calls made a difference", errs)
	}
}

// Another process has created the folders but not synced their names. Whoever writes a record there does that.
func TestFoldersOfOthers(t *testing.T) {
	d := newSimDisk()
	for _, dir := range []string{
		"/data", "/data/oauth", "/data/oauth/issuer", "/data/oauth/issuer/.new",
		"/data/oauth/issuer/family", "/data/oauth/issuer/family/abcd",
	} {
		if err := d.mkdir(filepath.FromSlash(dir)); err != nil {
			t.Fatal(err)
		}
		if dir == "/data" {
			d.syncNode(d.root)
		}
	}
	if err := simFiles(d, false).put(t.Context(), crashKey, []byte("value"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	after := d.restart(func(int) bool { return false })
	if got, err := stored(t, simFiles(after, false)); got != "value" || err != nil {
		t.Errorf("after a power cut: got %q, error %v", got, err)
	}
}
