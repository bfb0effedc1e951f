package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// FileStorage.List fails when a file goes away under it, which temporary files do all the time, and
// asks for the status of every file. So directories of files are read as such.

func (s *caddyStore) List(ctx context.Context, kind Kind) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := errors.Join(kind.check(), ctx.Err()); err != nil {
			yield("", err)
			return
		}
		for key, err := range s.keys(ctx, kind) {
			if err != nil {
				yield("", err)
				return
			}
			live, err := s.listed(ctx, key)
			if err != nil {
				yield("", err)
				return
			}
			if live && !yield(key.ID, nil) {
				return
			}
		}
	}
}

// listed reports whether a key that was found is live. A damaged record is: it ends no listing, but
// is an error to whoever reads it.
func (s *caddyStore) listed(ctx context.Context, key Key) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if end, ends := key.Bucket().End(); ends && late(end, s.now()) {
		return false, nil
	}
	_, err := s.load(ctx, key)
	switch {
	case errors.Is(err, ErrNotFound):
		return false, nil
	case errors.Is(err, ErrDamaged):
		return true, nil
	}
	return err == nil, err
}

// keys yields the keys of all records of a kind, live or late.
func (s *caddyStore) keys(ctx context.Context, kind Kind) iter.Seq2[Key, error] {
	return func(yield func(Key, error) bool) {
		for name, err := range s.walk(ctx, s.dir(kind)) {
			if err != nil {
				yield(Key{}, fmt.Errorf("storage: listing %s: %w", s.dir(kind), err))
				return
			}
			id, isRecord := strings.CutSuffix(path.Base(name), recordSuffix)
			key := Key{Kind: kind, ID: id}
			// What did not get its place from us is none of ours.
			if !isRecord || key.Check() != nil || s.path(key) != name {
				continue
			}
			if !yield(key, nil) {
				return
			}
		}
	}
}

// walk yields the names of everything below a directory.
func (s *caddyStore) walk(ctx context.Context, dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if s.files != nil {
			s.walkFiles(dir, yield)
			return
		}
		names, err := s.list(ctx, dir, true)
		if err != nil {
			yield("", err)
			return
		}
		for _, name := range names {
			if !yield(name, nil) {
				return
			}
		}
	}
}

func (s *caddyStore) walkFiles(dir string, yield func(string, error) bool) {
	base := s.files.Filename(dir)
	err := filepath.WalkDir(base, func(file string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(base, file)
		if err != nil {
			return err
		}
		if !yield(path.Join(dir, filepath.ToSlash(name)), nil) {
			return filepath.SkipAll
		}
		return nil
	})
	if err != nil {
		yield("", err)
	}
}

// subdirs returns the names of the directories in a directory.
func (s *caddyStore) subdirs(ctx context.Context, dir string) ([]string, error) {
	if s.files != nil {
		return s.subdirsOfFiles(dir)
	}
	names, err := s.list(ctx, dir, false)
	if err != nil {
		return nil, err
	}
	if found := cutSubdirs(dir, names); len(found) > 0 {
		return found, nil
	}
	// There are none, or this storage lists only what has a value.
	names, err = s.list(ctx, dir, true)
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

func (s *caddyStore) subdirsOfFiles(dir string) (found []string, err error) {
	entries, err := os.ReadDir(s.files.Filename(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("storage: listing %s: %w", dir, err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			found = append(found, entry.Name())
		}
	}
	return found, nil
}

func (s *caddyStore) list(ctx context.Context, dir string, recursive bool) ([]string, error) {
	names, err := s.storage.List(ctx, dir, recursive)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("storage: listing %s: %w", dir, err)
	}
	return names, nil
}
