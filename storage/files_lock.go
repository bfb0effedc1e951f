package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/gofrs/flock"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/stripes"
)

// tryLock takes a lock of the operating system, which the kernel gives back when a process dies.
func (b *files) tryLock(key Key) (unlock func(), err error) { return b.lock(key, false) }

// waitLock blocks until the holder unlocks the file or dies.
func (b *files) waitLock(_ context.Context, key Key) (unlock func(), err error) {
	return b.lock(key, true)
}

// lock locks one of a fixed number of files.
func (b *files) lock(key Key, wait bool) (func(), error) {
	const separator = string(filepath.Separator)
	name := b.path + separator + "locks" + separator + string(appendDigits(nil, uint64(stripes.Of(string(key.Kind), key.ID)), 16, 2))
	unlock, err := lockFile(name, wait)
	if errors.Is(err, fs.ErrNotExist) {
		// The directory is made with the first lock, since opening a store must leave no trace.
		if err = b.makeDir(filepath.Dir(name)); err == nil {
			unlock, err = lockFile(name, wait)
		}
	}
	if err != nil {
		return nil, explainFileLock(name, err)
	}
	if unlock == nil {
		return nil, nil
	}
	return func() {
		if err := unlock(); err != nil {
			b.log.Error("releasing a file lock", zap.String("file", name), zap.Error(err))
		}
	}, nil
}

func explainFileLock(path string, err error) error {
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.ENOLCK) {
		return fmt.Errorf("storage: the file system of %s does not support file locks, "+
			"without which records are not safe; use another file system or another Caddy storage: %w", path, err)
	}
	return fmt.Errorf("storage: locking %s: %w", path, err)
}

// lockFile locks a file, which it creates if need be, and returns nil if it must not wait and the file is already locked.
//
// It opens the file every time. A flock.Flock that two goroutines share does not exclude either of them; and an open file
// would have to be compared with the one of that name, which takes as long as opening it, or two processes would lock two
// files after somebody has deleted the folder.
func lockFile(name string, wait bool) (unlock func() error, err error) {
	// For writing, as NFS needs for an exclusive lock.
	lock := flock.New(name, flock.SetFlag(os.O_CREATE|os.O_RDWR))
	take := lock.TryLock
	if wait {
		take = func() (bool, error) { return true, lock.Lock() }
	}
	for {
		locked, err := take()
		switch {
		case errors.Is(err, syscall.EINTR): // a signal, on a file system over a network
		case err != nil || !locked:
			return nil, err
		default:
			return lock.Unlock, nil
		}
	}
}
