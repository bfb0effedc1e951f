package caddystore

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// paths names the place of a record
//
//	oauth/<issuer>/<kind>/<bucket>/<id>.record
//
// without <bucket>/ if the ID has none. The suffix distinguishes records from buckets, and from files of others.
type paths struct {
	root string // oauth/<issuer>
}

const recordSuffix = ".record"

func (p paths) dir(kind storage.Kind) string { return p.root + "/" + string(kind) }

func (p paths) path(key storage.Key) string {
	if bucket := key.Bucket(); bucket != "" {
		return p.dir(key.Kind) + "/" + string(bucket) + "/" + key.ID + recordSuffix
	}
	return p.dir(key.Kind) + "/" + key.ID + recordSuffix
}

// reading, writing and deleting name the record in an error.
func (p paths) reading(key storage.Key, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return storage.ErrNotFound
	}
	return p.explain("reading", key, err)
}

func (p paths) writing(key storage.Key, err error) error  { return p.explain("writing", key, err) }
func (p paths) deleting(key storage.Key, err error) error { return p.explain("deleting", key, err) }

func (p paths) explain(what string, key storage.Key, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("storage: %s %s: %w", what, p.path(key), err)
}

// keyOf returns the key of a kind that has this path, and false if this store would not put a record there.
func (p paths) keyOf(kind storage.Kind, name string) (storage.Key, bool) {
	id, isRecord := strings.CutSuffix(path.Base(name), recordSuffix)
	key := storage.Key{Kind: kind, ID: id}
	return key, isRecord && key.Check() == nil && p.path(key) == name
}

// keyOfFile returns the key of a file in the folder of a bucket, or of a kind if bucket is empty, and false if this store would
// not put a record there.
func keyOfFile(kind storage.Kind, bucket storage.Bucket, entry fs.DirEntry) (storage.Key, bool) {
	id, isRecord := strings.CutSuffix(entry.Name(), recordSuffix)
	key := storage.Key{Kind: kind, ID: id}
	return key, isRecord && !entry.IsDir() && key.Check() == nil && key.Bucket() == bucket
}
