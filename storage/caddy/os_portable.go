//go:build !linux

package caddystore

import (
	"errors"
	"os"
	"runtime"
	"syscall"

	"github.com/gofrs/flock"
)

func (osDisk) open(name string, write bool) (file, error) {
	if write {
		return openFile(name, os.O_RDWR)
	}
	return openFile(name, os.O_RDONLY)
}

func (osDisk) create(name string) (file, error) {
	return openFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func openFile(name string, flags int) (file, error) {
	f, err := os.OpenFile(name, flags, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

type osFile struct{ *os.File }

// writeSynced syncs after the write. On macOS, a file opened with O_DSYNC would leave data in the cache of the disk.
func (f osFile) writeSynced(data []byte, at int64) error {
	if _, err := f.WriteAt(data, at); err != nil {
		return err
	}
	return f.Sync()
}

func (f osFile) size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) close() { _ = f.Close() } // all writes are synced already

func (osDisk) sync(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // Windows cannot sync a directory, see the documentation of Caddy
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil // this file system cannot sync directories
	}
	return err
}

// lockFile locks a file, which it creates if need be, and returns nil if it must not wait and the file is already locked.
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
