//go:build !linux

package storage

import (
	"errors"
	"syscall"

	"github.com/gofrs/flock"
)

// lockFile is explained in filelock_linux.go.
func lockFile(name string, wait bool) (unlock func() error, err error) {
	// A fresh handle, since one flock.Flock locks nobody out who shares it.
	lock := flock.New(name)
	if !wait {
		locked, err := lock.TryLock()
		if err != nil || !locked {
			return nil, err
		}
		return lock.Unlock, nil
	}
	for {
		err = lock.Lock()
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		return lock.Unlock, err
	}
}
