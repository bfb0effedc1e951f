package caddystore

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// clockSkew is how far the clocks of nodes may differ before a sweep deletes what another node considers live.
const clockSkew = time.Hour

// endedEverywhere reports whether a bucket has ended by the clock of every node.
func endedEverywhere(b storage.Bucket, now time.Time) bool { return b.Ended(now.Add(-clockSkew)) }

// A bucket that ends is deleted with all its records. Records that expire long before their bucket, as a code does that nobody
// redeems, and those outside such buckets, most of which never expire, are found by lists of the records that expire at a time, so
// that a sweep need not look at live records. A record stores which list it is on. If its life is extended, it stays on that list
// until the sweep moves it to a later one. A list is a file of lines,
//
//	oauth/<issuer>/.due/<list>    <kind>/<id>
//
// that is not synced and may be incomplete after a power cut or a restored backup: a full sweep finds the rest. No kind can have
// the name of the folder.
const dueFolder = ".due"

// dueList names a list: the bucket of its hour, and a digit of base 36. The digit z is for the records that expire in that hour, and 0
// to b are for short-lived ones, which expire in that five minutes of the hour. Names are in the order of their ends.
type dueList string

const (
	dueLength = 4 + 1 // a bucket and a digit

	// shortLife is how long a record lives at most that is on a list for five minutes.
	shortLife     = 15 * time.Minute
	shortLists    = "0123456789ab"
	shortInterval = 5 * time.Minute
	wholeHour     = "z"

	// shortMargin is used instead of clockSkew for short-lived records, which should be deleted soon. A clock that is fast can only
	// delete codes too early, and a node with that clock would not accept them either.
	shortMargin = time.Minute
)

// valid reports whether l is the name of a list, not notDue.
func (l dueList) valid() bool {
	_, ok := l.end()
	return ok
}

// end returns the time from which no record of the list is live, unless its life was extended.
func (l dueList) end() (time.Time, bool) {
	if len(l) != dueLength {
		return time.Time{}, false
	}
	hour, digit := storage.Bucket(l[:dueLength-1]), string(l[dueLength-1])
	end, ok := hour.End()
	if short := strings.Index(shortLists, digit); short >= 0 {
		return end.Add(time.Duration(short+1)*shortInterval - time.Hour), ok
	}
	return end, ok && digit == wholeHour
}

// ended reports whether the list has ended by this clock.
func (l dueList) ended(now time.Time) bool {
	end, ok := l.end()
	return ok && storage.Expired(end, now)
}

// endedEverywhere reports whether the list has ended by the clock of every node.
func (l dueList) endedEverywhere(now time.Time) bool {
	if strings.HasSuffix(string(l), wholeHour) {
		return l.ended(now.Add(-clockSkew))
	}
	return l.ended(now.Add(-shortMargin))
}

// listFor returns the list for a record that expires at that time, and "" if it needs none.
func listFor(key storage.Key, expires, now time.Time) dueList {
	hour := storage.BucketFor(expires)
	hourEnd, ok := hour.End()
	if !ok {
		return ""
	}
	bucketEnd, ends := key.Bucket().End()
	switch {
	case !ends:
	case key.Kind != storage.KindAccess && expires.Sub(now) <= shortLife: // an opaque token is in the bucket of its own end
		short := (shortInterval - 1 + expires.Sub(hourEnd.Add(-time.Hour))) / shortInterval
		return dueList(hour) + dueList(shortLists[min(max(short-1, 0), 11)])
	case bucketEnd.Sub(hourEnd) < 2*time.Hour:
		return "" // the bucket ends soon after
	}
	return dueList(hour) + wholeHour
}

// dueLists are the lists of a folder.
type dueLists struct {
	folder *folder
	now    func() time.Time
}

// enlist makes sure that a sweep visits a record that expires at that time, and returns the list that the record is on. on is the
// list that the record was on before. A list that cannot be written is no reason to refuse the record.
func (l dueLists) enlist(key storage.Key, on dueList, expires time.Time) dueList {
	due := listFor(key, expires, l.now())
	if due == "" || on.valid() && on <= due && !on.ended(l.now()) {
		return on
	}
	if err := l.add(due, key); err != nil {
		return on
	}
	return due
}

func (l dueLists) add(due dueList, key storage.Key) error {
	name := filepath.Join(l.folder.dir, dueFolder, string(due))
	line := []byte(string(key.Kind) + "/" + key.ID + "\n")
	err := l.folder.disk.add(name, line)
	if errors.Is(err, fs.ErrNotExist) {
		if err = l.folder.makeDir(filepath.Dir(name)); err == nil {
			err = l.folder.disk.add(name, line)
		}
	}
	return err
}

// read calls visit with the keys on the list in a file.
func (l dueLists) read(name string, visit func(storage.Key) error) error {
	f, err := l.folder.disk.open(name, false)
	if err != nil {
		return err
	}
	defer f.close()
	lines := bufio.NewScanner(io.NewSectionReader(f, 0, math.MaxInt64))
	for lines.Scan() {
		kind, id, _ := strings.Cut(lines.Text(), "/")
		key := storage.Key{Kind: storage.Kind(kind), ID: id}
		if key.Check() != nil {
			continue
		}
		if err := visit(key); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("storage: reading %s: %w", name, err)
	}
	return nil
}
