package storage

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"strings"
	"time"
)

// Records in a bucket that ends go with it. For the others, of which most never expire, there are lists: one for each
// hour, of what expires in it, so that a sweep need not look at what lives. A record says on which list it is, and stays
// there when it comes to live longer, until the sweep moves it to a later one. A list is a file of lines,
//
//	oauth/<issuer>/.due/<bucket>    <kind>/<id>
//
// that is not synced, and may lack what a power cut or an older version has left: a sweep that looks everywhere finds
// that. No kind can have the name of the folder.
const dueFolder = ".due"

// listByEnd sees to it that a record which is to expire at that time is on a list if it needs one, and returns which: the one
// it is on, if that comes up in time, or one more. What cannot be listed is no reason to refuse a record.
func (b *files) listByEnd(key Key, on Bucket, expires time.Time) Bucket {
	if _, ends := key.Bucket().End(); ends || expires.IsZero() {
		return on
	}
	due := BucketFor(expires)
	if due == Never {
		return on
	}
	if end, listed := on.End(); listed && on <= due && !Expired(end, b.now()) {
		return on
	}
	if err := b.addToList(due, key); err != nil {
		return on
	}
	return due
}

func (b *files) addToList(due Bucket, key Key) error {
	name := filepath.Join(b.path, dueFolder, string(due))
	line := []byte(string(key.Kind) + "/" + key.ID + "\n")
	err := b.disk.add(name, line)
	if errors.Is(err, fs.ErrNotExist) {
		if err = b.makeDir(filepath.Dir(name)); err == nil {
			err = b.disk.add(name, line)
		}
	}
	return err
}

// dueLists looks at what is on the lists that are due.
func (s *fileSweep) dueLists(ctx context.Context) error {
	for entry, err := range s.entries(dueFolder) {
		if err != nil {
			return err
		}
		due := Bucket(entry.Name())
		if !swept(due, s.now()) {
			continue
		}
		if err := s.dueList(ctx, due); err != nil {
			return err
		}
	}
	return nil
}

func (s *fileSweep) dueList(ctx context.Context, due Bucket) error {
	name := filepath.Join(s.path, dueFolder, string(due))
	f, err := s.disk.open(name, false)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(io.NewSectionReader(f, 0, math.MaxInt64))
	for err == nil && lines.Scan() {
		kind, id, _ := strings.Cut(lines.Text(), "/")
		if key := (Key{Kind(kind), id}); key.Check() == nil {
			err = s.look(ctx, key)
		}
	}
	f.close()
	if err = errors.Join(err, lines.Err()); err != nil {
		return err
	}
	return s.drop(name)
}

// look removes a record that is late, and puts one that will be late, and is on no list that comes up, on one. It passes over
// damaged records: they are for people to look at.
func (s *fileSweep) look(ctx context.Context, key Key) error {
	if err := s.pace.wait(ctx); err != nil {
		return err
	}
	r := newRecordFile()
	defer r.release()
	if err := r.open(s.disk, s.file(key), false); err != nil {
		return s.passOver(key, err)
	}
	expires, on := r.held.expires, r.held.due
	r.close()
	if Expired(expires, s.now()) {
		return s.dropLate(ctx, key)
	}
	if end, listed := on.End(); listed && !Expired(end, s.now()) {
		return nil
	}
	if due := BucketFor(expires); due != Never {
		return s.addToList(due, key)
	}
	return nil
}

// dropLate looks again, now under the lock.
func (s *fileSweep) dropLate(ctx context.Context, key Key) error {
	unlock, err := s.lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	r := newRecordFile()
	defer r.release()
	if err := r.open(s.disk, s.file(key), false); err != nil {
		return s.passOver(key, err)
	}
	expires := r.held.expires
	r.close()
	if Expired(expires, s.now()) {
		return s.drop(s.file(key))
	}
	return nil
}

func (s *fileSweep) passOver(key Key, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDamaged) {
		return nil
	}
	return s.reading(key, err)
}
