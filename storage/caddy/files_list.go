package caddystore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// FileStorage.List fails if another process deletes a file meanwhile, which happens all the time, and asks for the status of every
// file. So this backend reads the folders itself.

// keys does not open the folders of ended buckets.
func (b *files) keys(ctx context.Context, kind storage.Kind) iter.Seq2[storage.Key, error] {
	return func(yield func(storage.Key, error) bool) {
		for entry, err := range b.entries(string(kind)) {
			if err != nil {
				yield(storage.Key{}, err)
				return
			}
			if !entry.IsDir() {
				if key, ok := keyOfFile(kind, "", entry); ok && !yield(key, nil) {
					return
				}
				continue
			}
			bucket := storage.Bucket(entry.Name())
			if !bucket.Valid() || bucket.Ended(b.now()) {
				continue
			}
			for key, err := range b.keysIn(ctx, kind, bucket) {
				if !yield(key, err) || err != nil {
					return
				}
			}
		}
	}
}

// keysIn yields the keys in a bucket.
func (b *files) keysIn(ctx context.Context, kind storage.Kind, bucket storage.Bucket) iter.Seq2[storage.Key, error] {
	return func(yield func(storage.Key, error) bool) {
		for entry, err := range b.entries(string(kind), string(bucket)) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(storage.Key{}, err)
				return
			}
			if key, ok := keyOfFile(kind, bucket, entry); ok && !yield(key, nil) {
				return
			}
		}
	}
}

// keyOfFile returns the key of a file in the folder of a bucket, or of a kind if bucket is empty, and false if this store would
// not put a record there.
func keyOfFile(kind storage.Kind, bucket storage.Bucket, entry fs.DirEntry) (storage.Key, bool) {
	id, isRecord := strings.CutSuffix(entry.Name(), recordSuffix)
	key := storage.Key{Kind: kind, ID: id}
	return key, isRecord && !entry.IsDir() && key.Check() == nil && key.Bucket() == bucket
}

func (b *files) kinds(context.Context) iter.Seq2[storage.Kind, error] {
	return func(yield func(storage.Kind, error) bool) {
		for entry, err := range b.entries() {
			if err != nil {
				yield("", err)
				return
			}
			kind := storage.Kind(entry.Name())
			if entry.IsDir() && kind.Check() == nil && !yield(kind, nil) {
				return
			}
		}
	}
}

// entries yields the content of a folder of the store, and nothing if the folder does not exist.
func (b *files) entries(below ...string) iter.Seq2[fs.DirEntry, error] {
	return func(yield func(fs.DirEntry, error) bool) {
		dir := filepath.Join(append([]string{b.dir}, below...)...)
		for entry, err := range b.disk.list(dir) {
			if errors.Is(err, fs.ErrNotExist) {
				return
			}
			if err != nil {
				yield(nil, fmt.Errorf("storage: listing %s: %w", dir, err))
				return
			}
			if !yield(entry, nil) {
				return
			}
		}
	}
}

// A bucket that ends is deleted with all its records. Records that expire long before their bucket, as a code does that nobody
// redeems, and those outside such buckets, most of which never expire, are found by lists: one for each hour, of the records that
// expire in it, so that a sweep need not look at live records. A record stores which
// list it is on. If its life is extended, it stays on that list until the sweep moves it to a later one. A list is a file of lines,
//
//	oauth/<issuer>/.due/<bucket>    <kind>/<id>
//
// that is not synced and may be incomplete after a power cut or a restored backup: a full sweep finds the rest. No kind can have
// the name of the folder.
const dueFolder = ".due"

// enlist makes sure that a sweep visits a record that expires at that time, and returns the list that the record is on. on is the
// list that the record was on before. A list that cannot be written is no reason to refuse the record.
func (b *files) enlist(key storage.Key, on storage.Bucket, expires time.Time) storage.Bucket {
	due := listFor(key, expires)
	if due == storage.Never {
		return on
	}
	if _, listed := on.End(); listed && on <= due && !on.Ended(b.now()) {
		return on
	}
	if err := b.addToList(due, key); err != nil {
		return on
	}
	return due
}

// listFor returns the list for a record that expires at that time, and Never if it needs none.
func listFor(key storage.Key, expires time.Time) storage.Bucket {
	due := storage.BucketFor(expires)
	dueEnd, _ := due.End()
	if end, ends := key.Bucket().End(); ends && end.Sub(dueEnd) < 2*time.Hour {
		return storage.Never // the bucket ends soon after
	}
	return due
}

func (b *files) addToList(due storage.Bucket, key storage.Key) error {
	name := filepath.Join(b.dir, dueFolder, string(due))
	line := []byte(string(key.Kind) + "/" + key.ID + "\n")
	err := b.disk.add(name, line)
	if errors.Is(err, fs.ErrNotExist) {
		if err = b.makeDir(filepath.Dir(name)); err == nil {
			err = b.disk.add(name, line)
		}
	}
	return err
}

// readList calls visit with the keys on a list.
func (b *files) readList(name string, visit func(storage.Key) error) error {
	f, err := b.disk.open(name, false)
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
	return lines.Err()
}
