package caddystore

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/stripes"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// store decides what a record means and when it has expired; a backend keeps it.
type store struct {
	backend backend
	paths   paths
	stripes *stripes.Stripes
	log     *zap.Logger
	now     func() time.Time
}

// backend keeps records, expired ones too.
type backend interface {
	// read returns a value, which the caller owns, and when it expires; or ErrNotFound or ErrDamaged.
	read(ctx context.Context, key storage.Key) (value []byte, expires time.Time, err error)

	// put writes a record without reading the old one.
	put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error

	// update needs the record's lock. It returns the error of change unchanged.
	update(ctx context.Context, key storage.Key, change expiryChange) error

	// remove needs the record's lock. It does not read the record, so that a damaged one can be deleted.
	remove(ctx context.Context, key storage.Key) error

	// tryLock excludes all other processes from a record, whose stripe the caller holds. It returns nil if that may take long.
	tryLock(key storage.Key, stripe uint8) (unlock func(), err error)

	// waitLock is tryLock that waits. It may ignore ctx.
	waitLock(ctx context.Context, key storage.Key, stripe uint8) (unlock func(), err error)

	// kinds yields the kinds that may have records.
	kinds(ctx context.Context) iter.Seq2[storage.Kind, error]

	// keys yields the keys of a kind. It may leave out those in ended buckets.
	keys(ctx context.Context, kind storage.Kind) iter.Seq2[storage.Key, error]

	// sweep removes expired records: all of them in a full sweep, otherwise those that are cheap to find.
	sweep(ctx context.Context, full bool, lock lockFunc) error

	// sweepEvery is how often to sweep.
	sweepEvery() time.Duration

	// fullSweepEvery is how often a sweep should be full.
	fullSweepEvery() time.Duration
}

// expiryChange is a Change that also sees when the old value expires.
type expiryChange func(old []byte, oldExpires time.Time) (value []byte, expires time.Time, err error)

// lockFunc locks a record.
type lockFunc func(ctx context.Context, key storage.Key) (unlock func(), err error)

// newStore returns a store whose background work ends with ctx.
func newStore(ctx context.Context, on certmagic.Storage, issuer string, shared *stripes.Stripes, log *zap.Logger) *store {
	s := &store{paths: paths{"oauth/" + storage.EscapeID(issuer)}, stripes: shared, log: log, now: time.Now}
	now := func() time.Time { return s.now() } // a test sets the clock later
	if fileStorage, ok := on.(*certmagic.FileStorage); ok {
		s.backend = newFiles(fileStorage, s.paths, now, log)
	} else {
		s.backend = &objects{paths: s.paths, ctx: ctx, on: on, now: now, log: log, stripes: shared}
	}
	return s
}

// Get takes no lock. If a record seems damaged, it reads again with the lock, so that nobody can be writing the record.
func (s *store) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	if err := errors.Join(key.Check(), ctx.Err()); err != nil {
		return nil, err
	}
	value, _, err := s.live(ctx, key)
	if !errors.Is(err, storage.ErrDamaged) {
		return value, err
	}
	unlock, err := s.lock(ctx, key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	value, _, err = s.live(ctx, key)
	return value, err
}

// Put takes no lock: by contract nobody else knows the key, so no Update can run.
func (s *store) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	if err := errors.Join(key.Check(), ctx.Err()); err != nil {
		return err
	}
	return s.backend.put(ctx, key, value, expires)
}

// Update holds the lock until the new value is on the disk: nobody decides on a value that a crash could undo.
func (s *store) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	if err := key.Check(); err != nil {
		return err
	}
	unlock, err := s.lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()

	err = s.backend.update(ctx, key, func(old []byte, oldExpires time.Time) ([]byte, time.Time, error) {
		if storage.Expired(oldExpires, s.now()) {
			old = nil
		}
		return change(old)
	})
	if errors.Is(err, storage.ErrKeep) {
		return nil
	}
	return err
}

// Delete takes the lock. Otherwise an Update that has read the record would write it again.
func (s *store) Delete(ctx context.Context, key storage.Key) error {
	if err := key.Check(); err != nil {
		return err
	}
	unlock, err := s.lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	return s.backend.remove(ctx, key)
}

// live reads a record that has not expired.
func (s *store) live(ctx context.Context, key storage.Key) (value []byte, expires time.Time, err error) {
	value, expires, err = s.backend.read(ctx, key)
	if err == nil && storage.Expired(expires, s.now()) {
		err = storage.ErrNotFound
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	return value, expires, nil
}

// List does not read the records, since the storage may be far away. So it yields expired ones too, until they are swept or their
// bucket ends.
func (s *store) List(ctx context.Context, kind storage.Kind) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := errors.Join(kind.Check(), ctx.Err()); err != nil {
			yield("", err)
			return
		}
		for key, err := range s.backend.keys(ctx, kind) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield("", err)
				return
			}
			if key.Bucket().Ended(s.now()) {
				continue
			}
			if !yield(key.ID, nil) {
				return
			}
		}
	}
}

// Look implements [storage.Exporter].
func (s *store) Look(ctx context.Context, key storage.Key) (storage.Record, error) {
	if err := errors.Join(key.Check(), ctx.Err()); err != nil {
		return storage.Record{}, err
	}
	value, expires, err := s.live(ctx, key)
	if err != nil {
		return storage.Record{}, err
	}
	return storage.Record{Key: key, Value: value, Expires: expires}, nil
}

// Export implements [storage.Exporter].
func (s *store) Export(ctx context.Context) iter.Seq2[storage.Record, error] {
	return func(yield func(storage.Record, error) bool) {
		for kind, err := range s.backend.kinds(ctx) {
			if err != nil {
				yield(storage.Record{}, err)
				return
			}
			if kind != kindSweep && !s.exportKind(ctx, kind, yield) {
				return
			}
		}
	}
}

// exportKind yields the live records of a kind, and reports whether to continue.
func (s *store) exportKind(ctx context.Context, kind storage.Kind, yield func(storage.Record, error) bool) bool {
	for key, err := range s.backend.keys(ctx, kind) {
		if err != nil {
			yield(storage.Record{}, err)
			return false
		}
		record, err := s.Look(ctx, key)
		switch {
		case errors.Is(err, storage.ErrNotFound):
			continue
		case errors.Is(err, storage.ErrDamaged):
			record.Key = key
		case err != nil:
			yield(storage.Record{}, err)
			return false
		}
		if !yield(record, err) {
			return false
		}
	}
	return true
}

// kindSweep is the kind of the sweep's own records.
const kindSweep storage.Kind = "sweep"

// Sweep removes expired records, and from time to time looks at all records for that. One node sweeps for all of them, the first
// that calls it.
func (s *store) Sweep(ctx context.Context) error {
	first, err := s.claim(ctx, "buckets", s.backend.sweepEvery())
	if err != nil || !first {
		return err
	}
	s.log.Debug("sweeping", zap.String("root", s.paths.root)) // for all nodes
	full, err := s.claim(ctx, "records", s.backend.fullSweepEvery())
	if err != nil {
		return err
	}
	return s.backend.sweep(ctx, full, s.lock)
}

// claim reports whether this node may do a job. No other node may for as long as every: a record that expires after that
// time says so.
func (s *store) claim(ctx context.Context, job string, every time.Duration) (claimed bool, err error) {
	key := storage.Key{Kind: kindSweep, ID: job}
	if _, err := s.Get(ctx, key); err == nil {
		return false, nil // without a lock, which some storages have to ask another machine for
	}
	err = s.Update(ctx, key, func(old []byte) ([]byte, time.Time, error) {
		claimed = old == nil
		if !claimed {
			return nil, time.Time{}, storage.ErrKeep
		}
		return []byte{}, s.now().Add(every), nil
	})
	return claimed && err == nil, err
}

// Timeout implements [storage.Slow]. On a storage that is no file system, an Update is four round trips, each of which may go to
// another continent, and its locks are polled.
func (s *store) Timeout() time.Duration {
	if _, onDisk := s.backend.(*files); onDisk {
		return 5 * time.Second
	}
	return 15 * time.Second
}

var (
	_ storage.Exporter = (*store)(nil)
	_ storage.Slow     = (*store)(nil)
	_ storage.Sweeper  = (*store)(nil)
	_ backend          = (*files)(nil)
	_ backend          = (*objects)(nil)
)
