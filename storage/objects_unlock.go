package storage

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
)

// A storage lock that could not be released, because Unlock hung or failed, would keep its record locked for as long as this
// process lives. So releasing it is retried: by the next request that needs the record, and in the background at growing
// intervals, for about an hour or until the config ends.
const (
	unlockPause  = time.Second
	unlockPauses = 30 * time.Second // at most
	unlockTries  = 120

	// maxKept is how many locks are kept in mind. No more can be lost in one outage than were held when it began.
	maxKept = 1024
)

// keptLocks are locks that could not be given back yet, by name. What becomes of one is decided with its stripe held.
type keptLocks struct {
	mu    sync.Mutex
	names map[string]bool
}

// keep reports whether the lock is new among those that are kept; with too many it is not.
func (k *keptLocks) keep(name string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.names[name] || len(k.names) >= maxKept {
		return false
	}
	if k.names == nil {
		k.names = make(map[string]bool)
	}
	k.names[name] = true
	return true
}

func (k *keptLocks) has(name string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.names[name]
}

func (k *keptLocks) forget(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.names, name)
}

// giveBack gives back a lock of the storage, if need be later. It is called with stripe n held.
func (b *objects) giveBack(ctx context.Context, n uint8, name string) {
	err := b.unlockStorage(context.WithoutCancel(ctx), name)
	if err == nil {
		return
	}
	b.log.Debug("a lock of the storage is not given back yet", zap.String("lock", name), zap.Error(err))
	if b.kept.keep(name) {
		go b.giveBackLater(n, name) //nolint:gosec // G118: it outlives the request and ends with the config
	}
}

func (b *objects) giveBackLater(n uint8, name string) {
	pause := unlockPause
	for range unlockTries {
		select {
		case <-time.After(pause):
		case <-b.ctx.Done():
			return
		}
		pause = min(2*pause, unlockPauses)
		if err := b.stripes.Lock(b.ctx, n); err != nil {
			return
		}
		err := b.giveBackKept(b.ctx, name)
		b.stripes.Unlock(n)
		if err == nil {
			return
		}
	}
	b.kept.forget(name)
	b.log.Error("a lock of the storage could not be given back; its record may be locked until the storage ends that, or this process",
		zap.String("lock", name))
}

// giveBackKept gives back a lock that could not be given back before, if there is one of that name. It is called with the
// stripe held, or it might give back what another request has locked meanwhile.
func (b *objects) giveBackKept(ctx context.Context, name string) error {
	if !b.kept.has(name) {
		return nil
	}
	err := b.unlockStorage(ctx, name)
	if err == nil {
		b.kept.forget(name)
	}
	return err
}

func (b *objects) unlockStorage(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, unlockTimeout)
	defer cancel()
	return b.storage.Unlock(ctx, name)
}
