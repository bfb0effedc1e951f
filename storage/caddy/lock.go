package caddystore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/stripes"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// lock excludes everybody else from a record: the other goroutines of this process by a stripe, then the other processes by a
// lock of the backend. It returns when ctx ends, at the latest.
func (s *store) lock(ctx context.Context, key storage.Key) (unlock func(), err error) {
	stripe := stripes.Of(string(key.Kind), key.ID)
	if err := s.stripes.Lock(ctx, stripe); err != nil {
		return nil, fmt.Errorf("storage: waiting for %s: %w", s.paths.path(key), err)
	}
	release, err := s.backend.tryLock(key, stripe)
	if err != nil {
		s.stripes.Unlock(stripe)
		return nil, err
	}
	if release == nil {
		if release, err = s.waitLock(ctx, key, stripe); err != nil {
			return nil, err
		}
	}
	return func() {
		release()
		s.stripes.Unlock(stripe)
	}, nil
}

// waitLock waits for the backend's lock in a goroutine, because the backend may ignore ctx. The caller holds the stripe, and
// waitLock unlocks it if it fails. If ctx ends first, the goroutine keeps the stripe until the backend answers: the next
// requests then wait for the stripe, instead of each blocking one more thread on a lock whose holder has stopped.
func (s *store) waitLock(ctx context.Context, key storage.Key, stripe uint8) (release func(), err error) {
	type result struct {
		release func()
		err     error
	}
	results := make(chan result)
	go func() {
		release, err := s.backend.waitLock(ctx, key, stripe)
		select {
		case results <- result{release, err}:
			return
		case <-ctx.Done():
		}
		if err == nil {
			release()
		}
		s.stripes.Unlock(stripe)
	}()
	select {
	case r := <-results:
		if r.err != nil {
			s.stripes.Unlock(stripe)
		}
		return r.release, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("storage: waiting for %s: %w", s.paths.path(key), ctx.Err())
	}
}

// tryLock takes a lock of the operating system, which the kernel releases when a process dies.
func (b *files) tryLock(_ storage.Key, stripe uint8) (unlock func(), err error) {
	return b.lockStripe(stripe, false)
}

// waitLock blocks until the holder unlocks the file or dies.
func (b *files) waitLock(_ context.Context, _ storage.Key, stripe uint8) (unlock func(), err error) {
	return b.lockStripe(stripe, true)
}

// lockStripe locks the file of a stripe.
//
// It opens the file every time. A lock that two goroutines share does not exclude either of them; and an open file would have
// to be compared with the one of that name, which takes as long as opening it, or two processes would lock two files after
// somebody has deleted the folder.
func (b *files) lockStripe(stripe uint8, wait bool) (func(), error) {
	const separator = string(filepath.Separator)
	name := b.folder.dir + separator + "locks" + separator + hex.EncodeToString([]byte{stripe})
	unlock, err := lockFile(name, wait)
	if errors.Is(err, fs.ErrNotExist) {
		// The first lock creates the folder, because opening a store must leave no trace.
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
