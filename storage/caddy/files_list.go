package caddystore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"

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
func (d *folder) entries(below ...string) iter.Seq2[fs.DirEntry, error] {
	return func(yield func(fs.DirEntry, error) bool) {
		dir := filepath.Join(append([]string{d.dir}, below...)...)
		for entry, err := range d.disk.list(dir) {
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
