package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/stripes"
)

// objects keeps records in any storage, of which it knows only the interface: a record is a value in an envelope, which the storage
// replaces whole, guarded by a lock of the storage.
type objects struct {
	naming

	ctx     context.Context // of the work in the background
	storage certmagic.Storage
	now     func() time.Time
	log     *zap.Logger

	stripes *stripes.Stripes // of the store
	kept    keptLocks
}

// unlockTimeout is how long giving back a lock of the storage may take, whatever became of the request, before that is
// tried again.
const unlockTimeout = 10 * time.Second

// tryLock leaves it to waitLock: what these locks cost is not to be saved by trying.
func (b *objects) tryLock(Key) (func(), error) { return nil, nil }

func (b *objects) waitLock(ctx context.Context, key Key) (unlock func(), err error) {
	name := b.path(key)
	err = b.giveBackKept(ctx, name)
	if err == nil {
		err = b.storage.Lock(ctx, name)
	}
	if err != nil {
		return nil, fmt.Errorf("storage: locking %s: %w", name, err)
	}
	return func() { b.giveBack(ctx, stripes.Of(string(key.Kind), key.ID), name) }, nil
}

func (b *objects) read(ctx context.Context, key Key) ([]byte, time.Time, error) {
	data, err := b.storage.Load(ctx, b.path(key))
	if err != nil {
		return nil, time.Time{}, b.reading(key, err)
	}
	value, expires, err := unwrap(data)
	if err != nil {
		return nil, time.Time{}, b.reading(key, err)
	}
	// The caller owns the bytes; a storage in memory may have given us its own.
	return bytes.Clone(value), expires, nil
}

func (b *objects) put(ctx context.Context, key Key, value []byte, expires time.Time) error {
	return b.writing(key, b.storage.Store(ctx, b.path(key), wrap(value, expires)))
}

func (b *objects) update(ctx context.Context, key Key, change timedChange) error {
	old, expires, err := b.read(ctx, key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	value, expires, err := change(old, expires)
	if err != nil {
		return err
	}
	if value == nil {
		return b.remove(ctx, key)
	}
	return b.put(ctx, key, value, expires)
}

func (b *objects) remove(ctx context.Context, key Key) error {
	return b.delete(ctx, b.path(key))
}

// delete deletes a record or a directory.
func (b *objects) delete(ctx context.Context, path string) error {
	err := b.storage.Delete(ctx, path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("storage: deleting %s: %w", path, err)
	}
	return nil
}
