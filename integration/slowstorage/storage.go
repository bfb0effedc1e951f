package slowstorage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

// Storage keeps values as files in a directory. Safe for concurrent use, across processes.
type Storage struct {
	values, drafts, locks, controls string // directories
	latency, lease                  time.Duration

	mu   sync.Mutex
	held map[string]*lockFile // by the name of the lock
}

// Store implements certmagic.Storage. It replaces a value whole.
func (s *Storage) Store(ctx context.Context, key string, value []byte) error {
	if err := s.enter(ctx, "Store"); err != nil {
		return err
	}
	draft, err := s.draft(value)
	if err != nil {
		return err
	}
	for {
		err := os.Rename(draft, s.path(key))
		if !errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil {
			return err
		}
		// The directory does not exist yet, or another call has just deleted it.
		if err := os.MkdirAll(filepath.Dir(s.path(key)), 0o700); err != nil {
			return err
		}
	}
}

// draft writes a value to a temporary file.
func (s *Storage) draft(value []byte) (name string, err error) {
	if err := os.MkdirAll(s.drafts, 0o700); err != nil {
		return "", err
	}
	file, err := os.CreateTemp(s.drafts, "")
	if err != nil {
		return "", err
	}
	_, err = file.Write(value)
	return file.Name(), errors.Join(err, file.Close())
}

// Load implements certmagic.Storage.
func (s *Storage) Load(ctx context.Context, key string) ([]byte, error) {
	if err := s.enter(ctx, "Load"); err != nil {
		return nil, err
	}
	return os.ReadFile(s.path(key))
}

// Delete implements certmagic.Storage.
func (s *Storage) Delete(ctx context.Context, key string) error {
	if err := s.enter(ctx, "Delete"); err != nil {
		return err
	}
	return os.RemoveAll(s.path(key))
}

// Exists implements certmagic.Storage.
func (s *Storage) Exists(ctx context.Context, key string) bool {
	_, err := s.Stat(ctx, key)
	return err == nil
}

// Stat implements certmagic.Storage.
func (s *Storage) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	if err := s.enter(ctx, "Stat"); err != nil {
		return certmagic.KeyInfo{}, err
	}
	found, err := os.Stat(s.path(key))
	if err != nil {
		return certmagic.KeyInfo{}, err
	}
	return certmagic.KeyInfo{
		Key: key, Modified: found.ModTime(), Size: found.Size(), IsTerminal: !found.IsDir(),
	}, nil
}

// List implements certmagic.Storage. It leaves out keys that are deleted meanwhile.
func (s *Storage) List(ctx context.Context, dir string, recursive bool) (keys []string, err error) {
	if err := s.enter(ctx, "List"); err != nil {
		return nil, err
	}
	base := s.path(dir)
	err = filepath.WalkDir(base, func(file string, entry fs.DirEntry, err error) error {
		switch {
		case file == base:
			return err
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		}
		below, err := filepath.Rel(base, file)
		if err != nil {
			return err
		}
		keys = append(keys, path.Join(dir, filepath.ToSlash(below)))
		if entry.IsDir() && !recursive {
			return filepath.SkipDir
		}
		return ctx.Err()
	})
	return keys, err
}

func (s *Storage) path(key string) string { return filepath.Join(s.values, filepath.FromSlash(key)) }

var _ certmagic.Storage = (*Storage)(nil)
