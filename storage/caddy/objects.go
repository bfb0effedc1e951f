package caddystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/stripes"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// objects is the backend on any storage, of which it knows only the interface. A record is a value in an envelope, which the storage
// replaces as a whole, and a lock of the storage guards it.
type objects struct {
	paths

	ctx context.Context // of background work
	on  certmagic.Storage
	now func() time.Time
	log *zap.Logger

	stripes *stripes.Stripes // of the store
	held    heldLocks
}

func (b *objects) read(ctx context.Context, key storage.Key) ([]byte, time.Time, error) {
	data, err := b.on.Load(ctx, b.path(key))
	if err != nil {
		return nil, time.Time{}, b.reading(key, err)
	}
	value, expires, err := unwrap(data)
	if err != nil {
		return nil, time.Time{}, b.reading(key, err)
	}
	// The caller owns the bytes, and a storage in memory may have returned its own.
	return bytes.Clone(value), expires, nil
}

func (b *objects) put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	return b.writing(key, b.on.Store(ctx, b.path(key), wrap(value, expires)))
}

func (b *objects) update(ctx context.Context, key storage.Key, change expiryChange) error {
	old, expires, err := b.read(ctx, key)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
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

func (b *objects) remove(ctx context.Context, key storage.Key) error {
	return b.delete(ctx, b.path(key))
}

// delete deletes a record or a directory.
func (b *objects) delete(ctx context.Context, path string) error {
	err := b.on.Delete(ctx, path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("storage: deleting %s: %w", path, err)
	}
	return nil
}

// An envelope is a line of text, of fixed length, before the value:
//
//	oauth1 <expiry, 15 digits: milliseconds since 1970, 0 for never> <CRC-32C of all the rest, 8 hex digits>
//
// The checksum detects a truncated or zero-filled record, which some storages leave behind after a power failure.
const (
	envelopeMagic  = "oauth1 "
	envelopeFormat = envelopeMagic + "%015d %08x\n"
	envelopeLength = len(envelopeMagic) + 15 + 1 + 8 + 1
	envelopeExpiry = len(envelopeMagic)
	envelopeSum    = envelopeExpiry + 15 + 1
)

// wrap returns a copy of the value in an envelope. A zero expires means never.
func wrap(value []byte, expires time.Time) []byte {
	data := make([]byte, 0, envelopeLength+len(value))
	data = fmt.Appendf(data, envelopeFormat, storage.ExpiryMillis(expires), 0)
	data = append(data, value...)
	copy(data[envelopeSum:], fmt.Sprintf("%08x", envelopeChecksum(data)))
	return data
}

// unwrap returns the value and when it expires, or ErrDamaged. The value shares memory with data and is never nil.
func unwrap(data []byte) (value []byte, expires time.Time, err error) {
	if len(data) < envelopeLength {
		return nil, time.Time{}, storage.ErrDamaged
	}
	millis, err := strconv.ParseUint(string(data[envelopeExpiry:envelopeExpiry+15]), 10, 63)
	if err != nil {
		return nil, time.Time{}, storage.ErrDamaged
	}
	// Compare with the only valid line for this expiry and value, instead of checking each part.
	if string(data[:envelopeLength]) != fmt.Sprintf(envelopeFormat, millis, envelopeChecksum(data)) {
		return nil, time.Time{}, storage.ErrDamaged
	}
	return data[envelopeLength:], storage.ExpiryFromMillis(int64(millis)), nil
}

func envelopeChecksum(data []byte) uint32 {
	sum := crc32.Checksum(data[:envelopeSum], castagnoli)
	return crc32.Update(sum, castagnoli, data[envelopeLength:])
}

// sweepEvery: a sweep lists all buckets.
func (b *objects) sweepEvery() time.Duration { return 10 * time.Minute }

// fullSweepEvery: a full sweep reads the records that are in no bucket which ends, once a day.
func (b *objects) fullSweepEvery() time.Duration { return 24 * time.Hour }

// sweep deletes ended buckets, a directory each. Listing is all that a storage offers to find them, however many calls it takes.
func (b *objects) sweep(ctx context.Context, full bool, lock lockFunc) error {
	var errs []error
	for kind, err := range b.kinds(ctx) {
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		errs = append(errs, b.sweepBuckets(ctx, b.dir(kind)))
		if full {
			errs = append(errs, b.sweepRecords(ctx, kind, lock))
		}
	}
	return errors.Join(errs...)
}

func (b *objects) sweepBuckets(ctx context.Context, dir string) error {
	buckets, err := b.subdirs(ctx, dir)
	if err != nil {
		return err
	}
	for _, bucket := range buckets {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !endedEverywhere(storage.Bucket(bucket), b.now()) {
			continue
		}
		if err := b.dropBucket(ctx, dir+"/"+bucket); err != nil {
			return err
		}
	}
	return nil
}

func (b *objects) dropBucket(ctx context.Context, dir string) error {
	if err := b.delete(ctx, dir); err != nil {
		return err
	}
	// A storage should delete the content of a directory with it, but not every storage does.
	names, err := b.list(ctx, dir, true)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := b.delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// sweepRecords leaves damaged records for people to look at.
func (b *objects) sweepRecords(ctx context.Context, kind storage.Kind, lock lockFunc) error {
	for key, err := range b.keys(ctx, kind) {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, ends := key.Bucket().End(); ends {
			continue
		}
		if !b.expired(ctx, key) {
			continue
		}
		if err := b.dropExpired(ctx, key, lock); err != nil {
			return err
		}
	}
	return nil
}

// dropExpired removes a record if it has expired, which it checks again under the lock.
func (b *objects) dropExpired(ctx context.Context, key storage.Key, lock lockFunc) error {
	unlock, err := lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	if !b.expired(ctx, key) {
		return nil
	}
	return b.remove(ctx, key)
}

func (b *objects) expired(ctx context.Context, key storage.Key) bool {
	_, expires, err := b.read(ctx, key)
	return err == nil && storage.Expired(expires, b.now())
}

func (b *objects) kinds(ctx context.Context) iter.Seq2[storage.Kind, error] {
	return func(yield func(storage.Kind, error) bool) {
		names, err := b.subdirs(ctx, b.root)
		if err != nil {
			yield("", err)
			return
		}
		for _, name := range names {
			if kind := storage.Kind(name); kind.Check() == nil && !yield(kind, nil) {
				return
			}
		}
	}
}

func (b *objects) keys(ctx context.Context, kind storage.Kind) iter.Seq2[storage.Key, error] {
	return func(yield func(storage.Key, error) bool) {
		names, err := b.list(ctx, b.dir(kind), true)
		if err != nil {
			yield(storage.Key{}, err)
			return
		}
		for _, name := range names {
			if key, ok := b.keyOf(kind, name); ok && !yield(key, nil) {
				return
			}
		}
	}
}

// subdirs returns the names of the directories in a directory.
func (b *objects) subdirs(ctx context.Context, dir string) ([]string, error) {
	names, err := b.list(ctx, dir, false)
	if err != nil {
		return nil, err
	}
	if found := cutSubdirs(dir, names); len(found) > 0 {
		return found, nil
	}
	// There are none, or this storage lists only values.
	names, err = b.list(ctx, dir, true)
	return cutSubdirs(dir, names), err
}

func cutSubdirs(dir string, names []string) (found []string) {
	for _, name := range names {
		below, ok := strings.CutPrefix(name, dir+"/")
		below, _, _ = strings.Cut(below, "/")
		if ok && below != "" && !strings.HasSuffix(below, recordSuffix) {
			found = append(found, below)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func (b *objects) list(ctx context.Context, dir string, recursive bool) ([]string, error) {
	names, err := b.on.List(ctx, dir, recursive)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("storage: listing %s: %w", dir, err)
	}
	return names, nil
}
