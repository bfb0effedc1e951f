package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"go.uber.org/zap"
)

// unlockTimeout is how long giving back a lock of the storage may take, whatever became of the request.
const unlockTimeout = 10 * time.Second

// lock excludes everybody else from the record: first the goroutines of this process, by a stripe,
// then the other processes, by a lock of the operating system if the records are files, else by one
// of the storage. It waits no longer than ctx lives.
func (s *caddyStore) lock(ctx context.Context, key Key) (unlock func(), err error) {
	n := key.stripe()
	if err := s.stripes.lock(ctx, n); err != nil {
		return nil, fmt.Errorf("storage: waiting for %s: %w", s.path(key), err)
	}
	release, err := s.lockAcross(ctx, key, n)
	if err != nil {
		return nil, err
	}
	return func() {
		release()
		s.stripes.unlock(n)
	}, nil
}

// lockAcross excludes other processes. It is called with stripe n held, and sees to it that
// the stripe is given back if it fails.
func (s *caddyStore) lockAcross(ctx context.Context, key Key, n uint8) (release func(), err error) {
	wait := func() (func(), error) { return s.lockStorage(ctx, s.path(key)) }
	if s.files != nil {
		file := s.lockFile(n)
		locked, err := tryFile(file)
		if err != nil {
			s.stripes.unlock(n)
			return nil, explainFileLock(file.Path(), err)
		}
		if locked {
			return func() { s.unlockFile(file) }, nil
		}
		wait = func() (func(), error) { return s.waitForFile(file) }
	}

	// Not every lock gives up with ctx, so wait for it at arm's length. A wait that nobody waits
	// for any more keeps the stripe until it is over: the next in line queue up at the stripe,
	// instead of each blocking one more thread on a lock whose holder has stopped.
	type result struct {
		release func()
		err     error
	}
	results := make(chan result)
	go func() {
		release, err := wait()
		select {
		case results <- result{release, err}:
			return
		case <-ctx.Done():
		}
		if err == nil {
			release()
		}
		s.stripes.unlock(n)
	}()
	select {
	case r := <-results:
		if r.err != nil {
			s.stripes.unlock(n)
		}
		return r.release, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("storage: waiting for %s: %w", s.path(key), ctx.Err())
	}
}

// lockFile returns a fresh handle, since one flock.Flock locks nobody out who shares it.
func (s *caddyStore) lockFile(n uint8) *flock.Flock {
	return flock.New(s.files.Filename(fmt.Sprintf("%s/locks/%02x", s.root, n)))
}

// tryFile makes the directory with the first lock, since opening a store must leave no trace.
func tryFile(file *flock.Flock) (locked bool, err error) {
	locked, err = file.TryLock()
	if !errors.Is(err, fs.ErrNotExist) {
		return locked, err
	}
	if err := os.MkdirAll(filepath.Dir(file.Path()), 0o700); err != nil {
		return false, err
	}
	return file.TryLock()
}

// waitForFile blocks until the holder unlocks the file or dies.
func (s *caddyStore) waitForFile(file *flock.Flock) (release func(), err error) {
	for {
		err = file.Lock()
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return nil, explainFileLock(file.Path(), err)
		}
		return func() { s.unlockFile(file) }, nil
	}
}

func (s *caddyStore) unlockFile(file *flock.Flock) {
	if err := file.Unlock(); err != nil {
		s.log.Error("releasing a file lock", zap.String("file", file.Path()), zap.Error(err))
	}
}

func explainFileLock(path string, err error) error {
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.ENOLCK) {
		return fmt.Errorf("storage: the file system of %s does not support file locks, "+
			"without which records are not safe; use another file system or another Caddy storage: %w", path, err)
	}
	return fmt.Errorf("storage: locking %s: %w", path, err)
}

func (s *caddyStore) lockStorage(ctx context.Context, name string) (release func(), err error) {
	if err := s.storage.Lock(ctx, name); err != nil {
		return nil, fmt.Errorf("storage: locking %s: %w", name, err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockTimeout)
		defer cancel()
		if err := s.storage.Unlock(ctx, name); err != nil {
			s.log.Error("releasing a lock of the storage", zap.String("lock", name), zap.Error(err))
		}
	}, nil
}
