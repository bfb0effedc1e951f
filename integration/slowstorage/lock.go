package slowstorage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// pollInterval is how often to look whether a lock is free, or a fault over.
const pollInterval = 5 * time.Millisecond

// lockFile is a lock of the operating system on a file, so that it is given to one alone, whatever dies when. The file is
// there while the lock is held and has a byte in it: who finds that byte holds the lock of somebody who died.
type lockFile struct{ *flock.Flock }

// Lock implements certmagic.Locker.
func (s *Storage) Lock(ctx context.Context, name string) error {
	if err := s.enter(ctx, "Lock"); err != nil {
		return err
	}
	file := &lockFile{flock.New(s.lockPath(name))}
	if err := file.take(ctx); err != nil {
		return err
	}
	if err := file.inherit(ctx, s.lease); err != nil {
		return errors.Join(err, file.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[name] = file
	return nil
}

// Unlock implements certmagic.Locker.
func (s *Storage) Unlock(ctx context.Context, name string) error {
	if err := s.enter(ctx, "Unlock"); err != nil {
		return err
	}
	s.mu.Lock()
	file := s.held[name]
	delete(s.held, name)
	s.mu.Unlock()
	if file == nil {
		return fmt.Errorf("%s is not locked", name)
	}
	// While it is locked, or it would be somebody else's. Whoever waits for it finds that it has gone.
	return errors.Join(os.Remove(file.Path()), file.Close())
}

func (s *Storage) lockPath(name string) string {
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(s.locks, hex.EncodeToString(sum[:16]))
}

// take waits for the lock.
func (f *lockFile) take(ctx context.Context) error {
	for {
		locked, err := f.TryLock()
		if errors.Is(err, fs.ErrNotExist) {
			if err := os.MkdirAll(filepath.Dir(f.Path()), 0o700); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if locked && f.there() {
			return nil
		}
		if locked { // a file that its last holder has removed
			if err := f.Close(); err != nil {
				return err
			}
			continue
		}
		if err := wait(ctx, pollInterval); err != nil {
			return errors.Join(err, f.Close())
		}
	}
}

// there reports whether the locked file is the one that others find.
func (f *lockFile) there() bool {
	locked, err := f.Stat()
	if err != nil {
		return false
	}
	found, err := os.Stat(f.Path())
	return err == nil && os.SameFile(locked, found)
}

// inherit takes over from somebody who died with the lock, once the lease is over, and marks the lock as held.
func (f *lockFile) inherit(ctx context.Context, lease time.Duration) error {
	found, err := f.Stat()
	if err != nil {
		return err
	}
	if found.Size() > 0 {
		if err := wait(ctx, time.Until(found.ModTime().Add(lease))); err != nil {
			return err
		}
	}
	return os.WriteFile(f.Path(), []byte{1}, 0o600)
}
