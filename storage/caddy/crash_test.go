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

// life is what happens to a record: the values it has one after the other, "" for none.
var life = []string{
	"put", "updated", "updated again", "and again", strings.Repeat("long ", 200), "short",
	strings.Repeat("outgrown ", 300), "in the new file", "and again there", "",
	"made by an update", "updated there", "",
}

// live leads a record through its life until something goes wrong, and returns which of its values it was told it has,
// and which it was about to get.
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

// subsets yields which of n changes are lucky: all there are of the last six, each with all and none of those before.
func subsets(n int) iter.Seq[func(i int) bool] {
	return func(yield func(func(i int) bool) bool) {
		last := min(n, 6)
		for subset := range 1 << last {
			for _, early := range []bool{false, true} {
				lucky := func(i int) bool {
					if i < n-last {
						return early
					}
					return subset>>(i-n+last)&1 == 1
				}
				if !yield(lucky) || n == last && !early {
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

func held(t *testing.T, b *files) (string, error) {
	t.Helper()
	value, _, err := b.read(t.Context(), crashKey)
	if errors.Is(err, storage.ErrNotFound) {
		return "", nil
	}
	return string(value), err
}

// newLife returns a disk with an empty folder for a storage, and the backend on it.
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

// The power goes in the middle of every call to the disk, and of what was not synced then each part survives or does
// not: a record is what it was last said to be, or what it was about to become.
func TestPowerCuts(t *testing.T) {
	for _, replaces := range []bool{false, true} {
		cuts, states := 0, 0
		for last := false; !last; cuts++ {
			d, b := newLife(t, cuts+1, 0, replaces)
			has, next, err := live(t, b)
			if last = d.calls < d.cutAt; last != (err == nil) || !last && !errors.Is(err, errPowerCut) {
				t.Fatalf("cut at call %d of %d: %v", d.cutAt, d.calls, err)
			}
			for lucky := range subsets(len(d.pending)) {
				d, b := newLife(t, cuts+1, 0, replaces)
				_, _, _ = live(t, b)
				got, err := held(t, simFiles(d.restart(lucky), replaces))
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

// Each call to the disk fails once, having done its work: the record is what it was, now and after a power cut.
func TestDiskErrors(t *testing.T) {
	errs := 0
	for fail := 1; ; fail++ {
		d, b := newLife(t, 0, fail, false)
		has, next, err := live(t, b)
		if d.calls < fail {
			break
		}
		if err == nil {
			continue // it was of no importance
		}
		errs++
		check := func(when string, b *files) {
			t.Helper()
			got, err := held(t, b)
			deleted := valueAt(next) == "" && got == "" // which may have come to pass
			if err != nil || got != valueAt(has) && !deleted {
				t.Errorf("call %d fails: %s it is %.20q, error %v; want %.20q", fail, when, got, err, valueAt(has))
			}
		}
		check("then", b)
		for lucky := range subsets(len(d.pending)) {
			d, b := newLife(t, 0, fail, false)
			_, _, _ = live(t, b)
			check("after a power cut", simFiles(d.restart(lucky), false))
		}
	}
	if errs < len(life) {
		t.Errorf("only %d calls made a difference", errs)
	}
}

// Another process has made the folders and not come to sync their names: who files a record there does.
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
	if got, err := held(t, simFiles(after, false)); got != "value" || err != nil {
		t.Errorf("after a power cut: got %q, error %v", got, err)
	}
}
