package caddystore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

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

	clock.t = clock.t.Add(time.Hour / 6)
	sweep(t, one)
	expect("after the turn", "plain zzzz.never")
	if _, err := os.Stat(filepath.Join(dir, "oauth", "issuer", "family", bucket)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory of an ended bucket is left: %v", err)
	}
}

// A sweep skips damaged records and continues, and does not touch files of others.
func TestCaddySweepPassesOver(t *testing.T) {
	dir, clock := t.TempDir(), newSweepClock()
	store := fileNode(t, dir, clock)
	putAll(t, store, clock.t)
	family := filepath.Join(dir, "oauth", "issuer", "family")
	write := func(name string, data string) {
		t.Helper()
		noError(t, os.MkdirAll(filepath.Dir(filepath.Join(family, name)), 0o700))
		noError(t, os.WriteFile(filepath.Join(family, name), []byte(data), 0o600))
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

// countingDisk counts the calls of a sweep.
type countingDisk struct {
	osDisk

	opened, seen, removed int
}

func (d *countingDisk) open(name string, write bool) (file, error) {
	d.opened++
	return d.osDisk.open(name, write)
}

func (d *countingDisk) remove(name string) error {
	d.removed++
	return d.osDisk.remove(name)
}

func (d *countingDisk) list(dir string) iter.Seq2[fs.DirEntry, error] {
	return func(yield func(fs.DirEntry, error) bool) {
		for entry, err := range d.osDisk.list(dir) {
			d.seen++
			if !yield(entry, err) {
				return
			}
		}
	}
}

// countedNode returns a store on files with a clock, and its disk.
func countedNode(t *testing.T, dir string, clock *sweepClock) (*store, *countingDisk) {
	t.Helper()
	store := fileNode(t, dir, clock)
	d := new(countingDisk)
	store.backend.(*files).disk = d
	return store, d
}

// fillLive puts n records of each shape that live long: in buckets, in the bucket Never and in none, with an expiry and without.
func fillLive(t *testing.T, store storage.Store, now time.Time, n int) {
	t.Helper()
	for i := range n {
		ends := now.Add(time.Duration(100+i%50) * time.Hour)
		put(t, store, fmt.Sprintf("%s.live%d", storage.BucketFor(ends), i), ends)
		put(t, store, fmt.Sprintf("zzzz.never%d", i), time.Time{})
		put(t, store, fmt.Sprintf("zzzz.idle%d", i), ends)
		put(t, store, fmt.Sprintf("plain%d", i), time.Time{})
	}
}

// The cost of a sweep depends on the number of expired records, not of live ones.
func TestFilesSweepCost(t *testing.T) {
	const late = 20
	costs := map[int]countingDisk{}
	for _, live := range []int{1, 100} {
		clock := newSweepClock()
		store, d := countedNode(t, t.TempDir(), clock)
		sweep(t, store) // the first sweep is a full one
		fillLive(t, store, clock.t, live)
		soon := clock.t.Add(time.Hour)
		for i := range late {
			put(t, store, fmt.Sprintf("%s.late%d", storage.BucketFor(soon), i), soon)
			put(t, store, fmt.Sprintf("zzzz.late%d", i), soon)
		}
		clock.t = clock.t.Add(3 * time.Hour)
		*d = countingDisk{}
		sweep(t, store)
		costs[live] = *d
		if got := strings.Count(filesBelow(t, store.backend.(*files).top), "late"); got > 0 {
			t.Errorf("%d of %d expired records are left", got, 2*late)
		}
	}
	// The sweep sees the lists of the next 50 hours but does not open them, except perhaps one that is not due yet.
	const hours = 50
	few, many := costs[1], costs[100]
	if many.opened != few.opened || many.removed != few.removed || many.seen > few.seen+hours {
		t.Errorf("with 1 of each that lives it touches %+v, with 100 %+v", few, many)
	}
	if few.opened > 3*late+10 || few.removed > 2*late+10 {
		t.Errorf("a sweep of %d expired records touches %+v", 2*late, few)
	}
}

// A sweep with nothing to do does not read the folders.
func TestFilesSweepIdle(t *testing.T) {
	clock := newSweepClock()
	store, d := countedNode(t, t.TempDir(), clock)
	sweep(t, store)
	fillLive(t, store, clock.t, 20)
	for range 3 {
		clock.t = clock.t.Add(time.Hour / 6)
		*d = countingDisk{}
		sweep(t, store)
		if d.removed > 0 || d.opened > 10 || d.seen > 40 {
			t.Errorf("with nothing to do it touches %+v", *d)
		}
	}
}

// If the life of a record is extended, the sweep visits it at its first expiry and moves it to a later list. A record that no longer
// expires is left alone, and one whose life is shortened is removed in time.
func TestFilesDueLists(t *testing.T) {
	clock := newSweepClock()
	dir := t.TempDir()
	store, d := countedNode(t, dir, clock)
	sweep(t, store)
	start := clock.t
	ends := func(id string, after time.Duration) {
		t.Helper()
		var expires time.Time
		if after > 0 {
			expires = start.Add(after)
		}
		update(t, store, family(id), func([]byte) ([]byte, time.Time, error) { return []byte("value"), expires, nil })
	}
	for _, id := range []string{"zzzz.longer", "zzzz.forever", "zzzz.sooner", "zzzz.gone", "plain"} {
		ends(id, 10*time.Hour)
	}
	for range 5 {
		ends("zzzz.longer", 20*time.Hour)
	}
	ends("zzzz.forever", 0)
	ends("zzzz.sooner", 2*time.Hour)
	noError(t, store.Delete(t.Context(), family("zzzz.gone")))
	for hours, lines := range map[int]int{10: 5, 20: 0, 2: 1} {
		due := storage.BucketFor(start.Add(time.Duration(hours) * time.Hour))
		list, _ := os.ReadFile(filepath.Join(dir, "oauth", "issuer", dueFolder, string(due)+wholeHour))
		if got := strings.Count(string(list), "\n"); got != lines {
			t.Errorf("%d records are listed for hour %d, want %d", got, hours, lines)
		}
	}
	for _, step := range []struct {
		hour int
		left string
	}{
		{1, "plain zzzz.forever zzzz.longer zzzz.sooner"},
		{5, "plain zzzz.forever zzzz.longer"},
		{13, "zzzz.forever zzzz.longer"},
		{19, "zzzz.forever zzzz.longer"},
		{23, "zzzz.forever"},
		{50, "zzzz.forever"},
	} {
		clock.t = start.Add(time.Duration(step.hour) * time.Hour)
		sweep(t, store)
		if got := filesBelow(t, dir); got != step.left {
			t.Errorf("after %d hours there are %q, want %q", step.hour, got, step.left)
		}
	}
	*d = countingDisk{}
	clock.t = clock.t.Add(48 * time.Hour)
	sweep(t, store)
	if d.opened > 10 {
		t.Errorf("nothing is due, and %d files were opened", d.opened)
	}
}

// A record that expires long before its bucket does not wait for the bucket: a code that nobody redeems, also one of a process
// that was killed, and a family whose tokens nobody uses any more.
func TestFilesSweepRecordsThatEndEarly(t *testing.T) {
	clock := newSweepClock()
	dir := t.TempDir()
	store := fileNode(t, dir, clock)
	sweep(t, store)
	start, day := clock.t, 24*time.Hour
	bucket := string(storage.BucketFor(start.Add(30 * day)))
	for _, id := range []string{".code", ".idle", ".used", ".whole"} {
		put(t, store, bucket+id, start.Add(time.Minute))
	}
	extend := func(id string, expires time.Time) {
		t.Helper()
		update(t, store, family(bucket+id), func([]byte) ([]byte, time.Time, error) { return []byte("value"), expires, nil })
	}
	extend(".idle", start.Add(14*day))
	extend(".used", start.Add(14*day))
	extend(".whole", start.Add(30*day))
	for _, step := range []struct {
		after time.Duration
		left  string
	}{
		{time.Minute, ".code .idle .used .whole"},
		{8 * time.Minute, ".idle .used .whole"},
		{3 * time.Hour, ".idle .used .whole"},
		{10 * day, ".idle .used .whole"},
		{14*day + 3*time.Hour, ".used .whole"},
		{24*day + 3*time.Hour, ".whole"},
		{30*day - time.Hour, ".whole"},
		{30*day + 3*time.Hour, ""},
	} {
		clock.t = start.Add(step.after)
		sweep(t, store)
		if got := strings.ReplaceAll(filesBelow(t, dir), bucket, ""); got != step.left {
			t.Errorf("after %s there are %q, want %q", step.after, got, step.left)
		}
		if step.after == 10*day {
			extend(".used", start.Add(24*day))
		}
	}
}

// A code that nobody redeems goes within minutes, whatever the refresh tokens are that could come of it, and whoever issued it. It
// goes not before its list has ended by the clocks of other nodes. A live record is not looked at again and again.
func TestFilesSweepCodes(t *testing.T) {
	for _, family := range []time.Duration{10 * time.Minute, time.Hour, 90 * time.Minute, 30 * 24 * time.Hour} {
		clock := newSweepClock()
		dir := t.TempDir()
		sweep(t, fileNode(t, dir, clock))
		for step := range 70 {
			killed := fileNode(t, dir, clock)
			put(t, killed, fmt.Sprintf("%s.code%02d", storage.BucketFor(clock.t.Add(family)), step), clock.t.Add(10*time.Minute))
			clock.t = clock.t.Add(time.Minute)
			next, d := countedNode(t, dir, clock)
			sweep(t, next)
			left := len(strings.Fields(filesBelow(t, dir)))
			if most := 10 + 1 + 5; left > most || left < min(step+1, 10) {
				t.Errorf("in minute %d, %d codes are left, want 10 to %d", step+1, left, most)
			}
			if d.opened > 30 {
				t.Errorf("in minute %d, a sweep opened %d files", step+1, d.opened)
			}
		}
	}
}

// A full sweep finds what the lists lack: restored records, and lines that a power cut lost.
func TestFilesSweepEverywhere(t *testing.T) {
	clock := newSweepClock()
	dir := t.TempDir()
	store := fileNode(t, dir, clock)
	sweep(t, store)
	family := filepath.Join(dir, "oauth", "issuer", "family")
	soon, later := clock.t.Add(time.Hour), clock.t.Add(31*24*time.Hour)
	write := func(name string, expires time.Time) {
		t.Helper()
		var r recordFile
		content := r.fresh(slot{sequence: 1, expires: expires, value: []byte("value")})
		err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(family, name)), 0o700),
			os.WriteFile(filepath.Join(family, name), content, 0o600))
		if err != nil {
			t.Fatal(err)
		}
	}
	write("zzzz/zzzz.old.record", soon)
	write("old.record", soon)
	write("zzzz/zzzz.old-and-live.record", later)
	write("zzzz/zzzz.old-for-ever.record", time.Time{})
	put(t, store, "zzzz.new", soon)
	put(t, store, "zzzz.new-for-ever", time.Time{})
	noError(t, os.RemoveAll(filepath.Join(dir, "oauth", "issuer", dueFolder)))
	clock.t = clock.t.Add(5 * time.Hour)
	sweep(t, store)
	past := clock.t.Add(-3 * time.Hour)
	put(t, store, string(storage.BucketFor(past))+".after-its-end", past) // which is on a list
	clock.t = clock.t.Add(5 * time.Hour)
	sweep(t, store)
	if got, want := len(strings.Fields(filesBelow(t, dir))), 6; got != want {
		t.Errorf("a sweep that goes by lists leaves %d records, want %d", got, want)
	}
	clock.t = clock.t.Add(30 * 24 * time.Hour)
	sweep(t, store)
	if got, want := filesBelow(t, dir), "zzzz.new-for-ever zzzz.old-and-live zzzz.old-for-ever"; got != want {
		t.Errorf("there are %q, want %q", got, want)
	}
	clock.t = later.Add(3 * time.Hour) // no month later: by its list
	sweep(t, store)
	if got, want := filesBelow(t, dir), "zzzz.new-for-ever zzzz.old-for-ever"; got != want {
		t.Errorf("there are %q, want %q", got, want)
	}
}

// A sweep removes temporary files of killed processes, but not those that a process may still be writing.
func TestFilesLeftovers(t *testing.T) {
	clock := newSweepClock()
	dir := t.TempDir()
	store := fileNode(t, dir, clock)
	put(t, store, "zzzz.id", time.Time{})
	folder := filepath.Join(dir, "oauth", "issuer", newFolder)
	for name, age := range map[string]time.Duration{"OLD": 2 * time.Hour, "NEW": time.Minute} {
		file := filepath.Join(folder, name)
		err := errors.Join(os.WriteFile(file, []byte("half a rec"), 0o600), os.Chtimes(file, time.Time{}, clock.t.Add(-age)))
		if err != nil {
			t.Fatal(err)
		}
	}
	sweep(t, store)
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 1 || entries[0].Name() != "NEW" {
		t.Errorf("left are %v, error %v; want NEW", entries, err)
	}
}

// A sweep stops when its context ends, and the next one does the rest.
func TestFilesSweepStops(t *testing.T) {
	clock := newSweepClock()
	dir := t.TempDir()
	store := fileNode(t, dir, clock)
	sweep(t, store)
	putAll(t, store, clock.t)
	clock.t = clock.t.Add(24 * time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := store.backend.sweep(ctx, false, store.lock)
	if got := filesBelow(t, dir); !errors.Is(err, context.Canceled) || len(strings.Fields(got)) != 5 {
		t.Errorf("a sweep without time leaves %q, error %v", got, err)
	}
	sweep(t, store)
	if got, want := filesBelow(t, dir), "plain zzzz.never"; got != want {
		t.Errorf("the next leaves %q, want %q", got, want)
	}
}
