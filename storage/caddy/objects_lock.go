package caddystore

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// A storage lock that could not be released, because Unlock hung or failed, would keep its record locked for as long as this
// process lives. So releasing it is retried: by the next request that needs the record, and in the background at growing
// intervals, for about an hour or until the config ends.
const (
	// unlockTimeout is how long one attempt to release a lock may take, even if the request has ended.
	unlockTimeout = 10 * time.Second

	firstUnlockPause = time.Second
	maxUnlockPause   = 30 * time.Second
	unlockAttempts   = 120

	// maxHeldLocks bounds the locks to be retried. An outage cannot leave more than were locked when it began.
	maxHeldLocks = 1024
)

// tryLock always leaves the lock to waitLock, since every lock of a storage takes long.
func (b *objects) tryLock(storage.Key, uint8) (func(), error) { return nil, nil }

func (b *objects) waitLock(ctx context.Context, key storage.Key, stripe uint8) (unlock func(), err error) {
	name := b.path(key)
	err = b.retryUnlock(ctx, name)
	if err == nil {
		err = b.on.Lock(ctx, name)
	}
	if err != nil {
		return nil, fmt.Errorf("storage: locking %s: %w", name, err)
	}
	return func() { b.unlock(ctx, stripe, name) }, nil
}

// unlock releases a lock of the storage, or makes sure that this is retried. The caller holds the stripe.
func (b *objects) unlock(ctx context.Context, stripe uint8, name string) {
	err := b.unlockOnce(context.WithoutCancel(ctx), name)
	if err == nil {
		return
	}
	b.log.Debug("releasing a storage lock failed, will retry", zap.String("lock", name), zap.Error(err))
	if b.held.add(name) {
		go b.retryUnlockLater(stripe, name) // it outlives the request and ends with the config
	}
}

func (b *objects) retryUnlockLater(stripe uint8, name string) {
	pause := firstUnlockPause
	for range unlockAttempts {
		select {
		case <-time.After(pause):
		case <-b.ctx.Done():
			return
		}
		pause = min(2*pause, maxUnlockPause)
		if err := b.stripes.Lock(b.ctx, stripe); err != nil {
			return
		}
		err := b.retryUnlock(b.ctx, name)
		b.stripes.Unlock(stripe)
		if err == nil {
			return
		}
	}
	b.held.remove(name)
	b.log.Error("a storage lock could not be released; its record may stay locked until the lock times out or this process ends",
		zap.String("lock", name))
}

// retryUnlock releases a lock that could not be released before, if there is one of that name. The caller holds the stripe, so that
// it does not release a lock which another request has taken meanwhile.
func (b *objects) retryUnlock(ctx context.Context, name string) error {
	if !b.held.has(name) {
		return nil
	}
	err := b.unlockOnce(ctx, name)
	if err == nil {
		b.held.remove(name)
	}
	return err
}

func (b *objects) unlockOnce(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, unlockTimeout)
	defer cancel()
	return b.on.Unlock(ctx, name)
}

// heldLocks are the names of locks that could not be released yet. The holder of a lock's stripe decides about it.
type heldLocks struct {
	mu    sync.Mutex
	names map[string]bool
}

// add reports whether the lock was added: it was not there, and there are not too many.
func (h *heldLocks) add(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.names[name] || len(h.names) >= maxHeldLocks {
		return false
	}
	if h.names == nil {
		h.names = make(map[string]bool)
	}
	h.names[name] = true
	return true
}

func (h *heldLocks) has(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.names[name]
}

func (h *heldLocks) remove(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.names, name)
}
