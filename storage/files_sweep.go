package storage

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"time"
)

// leftoverAge is how old a file without a name is that nobody will give one any more.
const leftoverAge = time.Hour

// sweptKey is the record of the last bucket of which nothing is left.
var sweptKey = Key{kindSweep, "swept"}

// everywhereEvery: what the lists of what is due do not have can wait; see listByEnd.
func (b *files) everywhereEvery() time.Duration { return 30 * 24 * time.Hour }

// fileSweep is one sweep. It goes by the clock and by the lists of what is due, so that it reads no folder of what lives,
// unless it is to look everywhere.
type fileSweep struct {
	*files

	lock func(context.Context, Key) (unlock func(), err error)
	pace pace
}

func (b *files) sweep(ctx context.Context, everywhere bool, lock func(context.Context, Key) (func(), error)) error {
	s := &fileSweep{files: b, lock: lock}
	errs := []error{s.leftovers(ctx), s.buckets(ctx, everywhere)}
	if everywhere {
		errs = append(errs, s.endless(ctx))
	}
	return errors.Join(append(errs, s.dueLists(ctx))...)
}

// leftovers removes the files that a killed process was about to give a name.
func (s *fileSweep) leftovers(ctx context.Context) error {
	for entry, err := range s.entries(newFolder) {
		if err != nil {
			return err
		}
		if err := s.pace.wait(ctx); err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil || s.now().Sub(info.ModTime()) < leftoverAge {
			continue // it has got its name, or may get it
		}
		if err := s.drop(filepath.Join(s.path, newFolder, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// buckets drops the buckets that have ended since the last sweep, whose names follow from the clock. Only if that sweep is
// not known, or long ago, it looks which there are.
func (s *fileSweep) buckets(ctx context.Context, everywhere bool) error {
	last := s.now().Add(-sweepMargin).Truncate(time.Hour)
	swept, _, err := s.read(ctx, sweptKey)
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrDamaged) {
		return err
	}
	from, known := Bucket(swept).End()
	if known && !everywhere && from.Equal(last) {
		return nil
	}
	byClock := known && !everywhere && from.Before(last) && last.Sub(from) < s.everywhereEvery()
	for kind, err := range s.kinds(ctx) {
		if err != nil {
			return err
		}
		if byClock {
			err = s.bucketsBetween(ctx, kind, from, last)
		} else {
			err = s.bucketsOf(ctx, kind)
		}
		if err != nil {
			return err
		}
	}
	return s.put(ctx, sweptKey, []byte(BucketFor(last)), time.Time{})
}

func (s *fileSweep) bucketsBetween(ctx context.Context, kind Kind, from, last time.Time) error {
	for end := from.Add(time.Hour); !end.After(last); end = end.Add(time.Hour) {
		if err := s.dropAll(ctx, filepath.Join(s.path, string(kind), string(BucketFor(end)))); err != nil {
			return err
		}
	}
	return nil
}

func (s *fileSweep) bucketsOf(ctx context.Context, kind Kind) error {
	for entry, err := range s.entries(string(kind)) {
		if err != nil {
			return err
		}
		if err := s.pace.wait(ctx); err != nil {
			return err
		}
		if !entry.IsDir() || !swept(Bucket(entry.Name()), s.now()) {
			continue
		}
		if err := s.dropAll(ctx, filepath.Join(s.path, string(kind), entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// dropAll deletes a folder and what is in it. It goes on as long as it finds something, since deleting while reading may
// pass over files.
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

// drop deletes a file or an empty folder. It need not survive a power cut: the next sweep would find it again.
func (s *fileSweep) drop(name string) error {
	return ifThere(s.disk.remove(name))
}

// endless looks at every record that is in no bucket which ends.
func (s *fileSweep) endless(ctx context.Context) error {
	for kind, err := range s.kinds(ctx) {
		if err != nil {
			return err
		}
		for entry, err := range s.entries(string(kind)) {
			if err != nil {
				return err
			}
			if key, ok := keyOfFile(kind, "", entry); ok {
				if err := s.look(ctx, key); err != nil {
					return err
				}
			}
		}
		for key, err := range s.keysIn(ctx, kind, Never) {
			if err != nil {
				return err
			}
			if err := s.look(ctx, key); err != nil {
				return err
			}
		}
	}
	return nil
}
