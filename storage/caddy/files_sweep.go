package caddystore

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// temporaryAge is the age at which a temporary file is that of a killed process.
const temporaryAge = time.Hour

// sweptKey is the record of the last bucket that was deleted everywhere.
var sweptKey = storage.Key{Kind: kindSweep, ID: "swept"}

// sweepEvery: a sweep that finds nothing costs a few reads.
func (b *files) sweepEvery() time.Duration { return time.Minute }

// fullSweepEvery: what the lists lack can wait; see enlist.
func (b *files) fullSweepEvery() time.Duration { return 30 * 24 * time.Hour }

// fileSweep is one sweep. It goes by the clock and by the lists of due records, so that it reads no folder of live records unless
// it is full.
type fileSweep struct {
	*files

	lock lockFunc
	pace pace
}

func (b *files) sweep(ctx context.Context, full bool, lock lockFunc) error {
	s := &fileSweep{files: b, lock: lock}
	errs := []error{s.sweepTemporary(ctx), s.sweepBuckets(ctx, full)}
	if full {
		errs = append(errs, s.sweepUnfiled(ctx))
	}
	return errors.Join(append(errs, s.sweepLists(ctx))...)
}

// sweepTemporary removes temporary files that a killed process has left.
func (s *fileSweep) sweepTemporary(ctx context.Context) error {
	for entry, err := range s.entries(newFolder) {
		if err != nil {
			return err
		}
		if err := s.pace.wait(ctx); err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil || s.now().Sub(info.ModTime()) < temporaryAge {
			continue // it was renamed, or may still be
		}
		if err := s.drop(filepath.Join(s.folder.dir, newFolder, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// sweepBuckets drops the buckets that have ended since the last sweep, whose names follow from the clock. Only if that sweep is
// unknown or long ago, it looks which buckets exist.
func (s *fileSweep) sweepBuckets(ctx context.Context, full bool) error {
	last := s.now().Add(-clockSkew).Truncate(time.Hour)
	swept, _, err := s.read(ctx, sweptKey)
	if err != nil && !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, storage.ErrDamaged) {
		return err
	}
	from, known := storage.Bucket(swept).End()
	if known && !full && from.Equal(last) {
		return nil
	}
	byClock := known && !full && from.Before(last) && last.Sub(from) < s.fullSweepEvery()
	for kind, err := range s.kinds(ctx) {
		if err != nil {
			return err
		}
		if byClock {
			err = s.dropBucketsBetween(ctx, kind, from, last)
		} else {
			err = s.dropEndedBuckets(ctx, kind)
		}
		if err != nil {
			return err
		}
	}
	return s.put(ctx, sweptKey, []byte(storage.BucketFor(last)), time.Time{})
}

func (s *fileSweep) dropBucketsBetween(ctx context.Context, kind storage.Kind, from, last time.Time) error {
	for end := from.Add(time.Hour); !end.After(last); end = end.Add(time.Hour) {
		if err := s.dropAll(ctx, filepath.Join(s.folder.dir, string(kind), string(storage.BucketFor(end)))); err != nil {
			return err
		}
	}
	return nil
}

func (s *fileSweep) dropEndedBuckets(ctx context.Context, kind storage.Kind) error {
	for entry, err := range s.entries(string(kind)) {
		if err != nil {
			return err
		}
		if err := s.pace.wait(ctx); err != nil {
			return err
		}
		if !entry.IsDir() || !endedEverywhere(storage.Bucket(entry.Name()), s.now()) {
			continue
		}
		if err := s.dropAll(ctx, filepath.Join(s.folder.dir, string(kind), entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// dropAll deletes a folder and everything in it. It repeats as long as it finds something, because reading a folder while deleting
// from it may skip files.
func (s *fileSweep) dropAll(ctx context.Context, dir string) error {
	for {
		found := false
		for entry, err := range s.disk.list(dir) {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := s.pace.wait(ctx); err != nil {
				return err
			}
			found = true
			name := filepath.Join(dir, entry.Name())
			if entry.IsDir() {
				err = s.dropAll(ctx, name)
			} else {
				err = s.drop(name)
			}
			if err != nil {
				return err
			}
		}
		if err := s.drop(dir); err == nil || !found {
			return err
		}
	}
}

// drop deletes a file or an empty folder. It does not sync: after a power cut, the next sweep finds the file again.
func (s *fileSweep) drop(name string) error {
	return ignoreAbsent(s.disk.remove(name))
}

// sweepUnfiled visits every record that is in no bucket which ends.
func (s *fileSweep) sweepUnfiled(ctx context.Context) error {
	for kind, err := range s.kinds(ctx) {
		if err != nil {
			return err
		}
		for entry, err := range s.entries(string(kind)) {
			if err != nil {
				return err
			}
			if key, ok := keyOfFile(kind, "", entry); ok {
				if err := s.visit(ctx, key); err != nil {
					return err
				}
			}
		}
		for key, err := range s.keysIn(ctx, kind, storage.Never) {
			if err != nil {
				return err
			}
			if err := s.visit(ctx, key); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweepLists visits the records on the lists that are due.
func (s *fileSweep) sweepLists(ctx context.Context) error {
	for entry, err := range s.entries(dueFolder) {
		if err != nil {
			return err
		}
		if !dueList(entry.Name()).endedEverywhere(s.now()) {
			continue
		}
		name := filepath.Join(s.folder.dir, dueFolder, entry.Name())
		err := s.due.read(name, func(key storage.Key) error { return s.visit(ctx, key) })
		if err != nil {
			return err
		}
		if err := s.drop(name); err != nil {
			return err
		}
	}
	return nil
}

// visit removes an expired record, and makes sure that a record which expires later is on a list. It leaves damaged records for
// people to look at.
func (s *fileSweep) visit(ctx context.Context, key storage.Key) error {
	if err := s.pace.wait(ctx); err != nil {
		return err
	}
	expires, on, err := s.expiry(key)
	if err != nil {
		return s.ignoreDamaged(key, err)
	}
	if storage.Expired(expires, s.now()) {
		return s.dropExpired(ctx, key)
	}
	if on.valid() && !on.ended(s.now()) {
		return nil
	}
	if due := listFor(key, expires, s.now()); due != "" {
		return s.due.add(due, key)
	}
	return nil
}

// dropExpired removes a record if it has expired, which it checks again under the lock.
func (s *fileSweep) dropExpired(ctx context.Context, key storage.Key) error {
	unlock, err := s.lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	expires, _, err := s.expiry(key)
	if err != nil {
		return s.ignoreDamaged(key, err)
	}
	if storage.Expired(expires, s.now()) {
		return s.drop(s.file(key))
	}
	return nil
}

// expiry returns when a record expires and which list it is on.
func (s *fileSweep) expiry(key storage.Key) (expires time.Time, on dueList, err error) {
	r := newRecordFile()
	defer r.release()
	if err := r.open(s.disk, s.file(key), false); err != nil {
		return time.Time{}, "", err
	}
	return r.current.expires, r.current.due, nil
}

func (s *fileSweep) ignoreDamaged(key storage.Key, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, storage.ErrDamaged) {
		return nil
	}
	return s.reading(key, err)
}

// pace slows down background work. While a goroutine has work, Go lets others run only now and then, and requests would wait that
// long. So this goroutine rests as long as it works.
type pace struct{ since time.Time }

const paceStep = 500 * time.Microsecond

// wait is called before each piece of work.
func (p *pace) wait(ctx context.Context) error {
	if p.since.IsZero() {
		p.since = time.Now()
	}
	worked := time.Since(p.since)
	if worked < paceStep {
		return ctx.Err()
	}
	rest := time.NewTimer(min(worked, 100*paceStep))
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-ctx.Done():
	}
	p.since = time.Now()
	return ctx.Err()
}
