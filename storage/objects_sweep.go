package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
	"time"
)

// everywhereEvery: once a day, the records are read that are in no bucket which ends.
func (b *objects) everywhereEvery() time.Duration { return 24 * time.Hour }

// sweep deletes ended buckets, a directory each. Storages differ in what they list, and the names may be few calls away
// or many: it is all there is to go by.
func (b *objects) sweep(ctx context.Context, everywhere bool, lock func(context.Context, Key) (func(), error)) error {
	var errs []error
	for kind, err := range b.kinds(ctx) {
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		errs = append(errs, b.sweepBuckets(ctx, b.dir(kind)))
		if everywhere {
			errs = append(errs, b.sweepRecords(ctx, kind, lock))
		}
	}
	return errors.Join(errs...)
}

// kinds yields the kinds there are.
func (b *objects) kinds(ctx context.Context) iter.Seq2[Kind, error] {
	return func(yield func(Kind, error) bool) {
		names, err := b.subdirs(ctx, b.root)
		if err != nil {
			yield("", err)
			return
		}
		for _, name := range names {
			if kind := Kind(name); kind.Check() == nil && !yield(kind, nil) {
				return
			}
		}
	}
}

func (b *objects) sweepBuckets(ctx context.Context, dir string) error {
	buckets, err := b.subdirs(ctx, dir)
	if err != nil {
		return err
	}
	for _, bucket := range buckets {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !swept(Bucket(bucket), b.now()) {
			continue
		}
		if err := b.dropBucket(ctx, dir+"/"+bucket); err != nil {
			return err
		}
	}
	return nil
}

func (b *objects) dropBucket(ctx context.Context, dir string) error {
	if err := b.delete(ctx, dir); err != nil {
		return err
	}
	// A storage should delete what is in a directory with it, but not every one does.
	names, err := b.list(ctx, dir, true)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := b.delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// sweepRecords passes over damaged records: they are for people to look at.
func (b *objects) sweepRecords(ctx context.Context, kind Kind, lock func(context.Context, Key) (func(), error)) error {
	for key, err := range b.keys(ctx, kind) {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, ends := key.Bucket().End(); ends {
			continue
		}
		if _, expires, err := b.read(ctx, key); err != nil || !Expired(expires, b.now()) {
			continue
		}
		if err := b.dropLate(ctx, key, lock); err != nil {
			return err
		}
	}
	return nil
}

// dropLate looks again, now under the lock, whether the record is late.
func (b *objects) dropLate(ctx context.Context, key Key, lock func(context.Context, Key) (func(), error)) error {
	unlock, err := lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	if _, expires, err := b.read(ctx, key); err != nil || !Expired(expires, b.now()) {
		return nil // it is gone, or for others to look at
	}
	return b.remove(ctx, key)
}

// keys yields the keys of all records of a kind, live or late.
func (b *objects) keys(ctx context.Context, kind Kind) iter.Seq2[Key, error] {
	return func(yield func(Key, error) bool) {
		names, err := b.list(ctx, b.dir(kind), true)
		if err != nil {
			yield(Key{}, err)
			return
		}
		for _, name := range names {
			id, isRecord := strings.CutSuffix(path.Base(name), recordSuffix)
			key := Key{Kind: kind, ID: id}
			// What did not get its place from us is none of ours.
			if !isRecord || key.Check() != nil || b.path(key) != name {
				continue
			}
			if !yield(key, nil) {
				return
			}
		}
	}
}

// subdirs returns the names of the directories in a directory.
func (b *objects) subdirs(ctx context.Context, dir string) ([]string, error) {
	names, err := b.list(ctx, dir, false)
	if err != nil {
		return nil, err
	}
	if found := cutSubdirs(dir, names); len(found) > 0 {
		return found, nil
	}
	// There are none, or this storage lists only what has a value.
	names, err = b.list(ctx, dir, true)
	return cutSubdirs(dir, names), err
}

func cutSubdirs(dir string, names []string) (found []string) {
	for _, name := range names {
		below, ok := strings.CutPrefix(name, dir+"/")
		below, _, _ = strings.Cut(below, "/")
		if ok && below != "" && !strings.HasSuffix(below, recordSuffix) {
			found = append(found, below)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func (b *objects) list(ctx context.Context, dir string, recursive bool) ([]string, error) {
	names, err := b.storage.List(ctx, dir, recursive)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("storage: listing %s: %w", dir, err)
	}
	return names, nil
}
