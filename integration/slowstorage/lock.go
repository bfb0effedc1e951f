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

// pollInterval is how often a call checks whether a lock is free or a fault has ended.
const pollInterval = 5 * time.Millisecond

// lockFile is a lock of the operating system on a file, so that only one process can hold it, whichever processes die. While the
// lock is held, the file exists and contains a byte. A process that locks a file with that byte knows that the last holder died.
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
	// Remove the file before unlocking it: afterwards, it may be locked by another process. A process that waits for the old file
	// notices that it was removed.
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
		if locked && f.current() {
			return nil
		}
		if locked { // the last holder has removed the file
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

// current reports whether the locked file still has its name, so that other processes find it.
func (f *lockFile) current() bool {
	locked, err := f.Stat()
	if err != nil {
		return false
	}
	found, err := os.Stat(f.Path())
	return err == nil && os.SameFile(locked, found)
}

// inherit waits for the end of the lease if the last holder died, and marks the lock as held.
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
