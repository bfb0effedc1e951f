package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"strings"
)

// FileStorage.List fails when a file goes away under it, which they do all the time, and asks for the status of every
// file. So folders are read as such.

// keys opens no folder of a bucket that has ended.
func (b *files) keys(ctx context.Context, kind Kind) iter.Seq2[Key, error] {
	return func(yield func(Key, error) bool) {
		for entry, err := range b.entries(string(kind)) {
			if err != nil {
				yield(Key{}, err)
				return
			}
			if !entry.IsDir() {
				if key, ok := keyOfFile(kind, "", entry); ok && !yield(key, nil) {
					return
				}
				continue
			}
			bucket := Bucket(entry.Name())
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
func (b *files) keysIn(ctx context.Context, kind Kind, bucket Bucket) iter.Seq2[Key, error] {
	return func(yield func(Key, error) bool) {
		for entry, err := range b.entries(string(kind), string(bucket)) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(Key{}, err)
				return
			}
			if key, ok := keyOfFile(kind, bucket, entry); ok && !yield(key, nil) {
				return
			}
		}
	}
}

// keyOfFile returns the key of the record that a file in the folder of a bucket is, or of a kind if there is no bucket.
// What did not get its place from us is none of ours.
func keyOfFile(kind Kind, bucket Bucket, entry fs.DirEntry) (Key, bool) {
	id, isRecord := strings.CutSuffix(entry.Name(), recordSuffix)
	key := Key{Kind: kind, ID: id}
	return key, isRecord && !entry.IsDir() && key.Check() == nil && key.Bucket() == bucket
}

// kinds yields the kinds there are.
func (b *files) kinds(context.Context) iter.Seq2[Kind, error] {
	return func(yield func(Kind, error) bool) {
		for entry, err := range b.entries() {
			if err != nil {
				yield("", err)
				return
			}
			kind := Kind(entry.Name())
			if entry.IsDir() && kind.Check() == nil && !yield(kind, nil) {
				return
			}
		}
	}
}

// entries yields what is in a folder of the store, nothing if there is none such.
func (b *files) entries(below ...string) iter.Seq2[fs.DirEntry, error] {
	return func(yield func(fs.DirEntry, error) bool) {
		dir := filepath.Join(append([]string{b.path}, below...)...)
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
