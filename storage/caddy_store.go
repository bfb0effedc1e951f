package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/stripes"
)

// caddyStore decides what a record means; a backend keeps it.
type caddyStore struct {
	backend backend
	place   naming
	stripes *stripes.Stripes
	log     *zap.Logger
	now     func() time.Time
}

// backend is where records are. Every record it has is there for it, expired or not.
type backend interface {
	// read returns a value, which the caller owns, and when it expires; or ErrNotFound or ErrDamaged.
	read(ctx context.Context, key Key) (value []byte, expires time.Time, err error)

	// put writes a record without looking at what is there.
	put(ctx context.Context, key Key, value []byte, expires time.Time) error

	// update is called with the lock held. It returns the error of change as it is.
	update(ctx context.Context, key Key, change timedChange) error

	// remove is called with the lock held. It does not read the record, so that a damaged one can be deleted.
	remove(ctx context.Context, key Key) error

	// tryLock locks out all other processes. It returns nil if that may take long.
	tryLock(key Key) (unlock func(), err error)

	// waitLock does as tryLock, and may wait for long, whatever becomes of ctx.
	waitLock(ctx context.Context, key Key) (unlock func(), err error)

	// kinds yields the kinds there are.
	kinds(ctx context.Context) iter.Seq2[Kind, error]

	// keys yields the keys of a kind, but need not yield what is in a bucket that has ended.
	keys(ctx context.Context, kind Kind) iter.Seq2[Key, error]

	// sweep removes what has expired, or most of it if it is not to look everywhere. lock locks a record.
	sweep(ctx context.Context, everywhere bool, lock func(context.Context, Key) (unlock func(), err error)) error

	// everywhereEvery is how often a sweep is to look everywhere.
	everywhereEvery() time.Duration
}

// timedChange is a Change that also sees when the value expires.
type timedChange func(old []byte, oldExpires time.Time) (value []byte, expires time.Time, err error)

// newCaddyStore returns a store whose background work ends with ctx.
func newCaddyStore(ctx context.Context, storage certmagic.Storage, issuer string, shared *stripes.Stripes, log *zap.Logger) *caddyStore {
	s := &caddyStore{place: naming{"oauth/" + EscapeID(issuer)}, stripes: shared, log: log, now: time.Now}
	now := func() time.Time { return s.now() } // a test sets the clock
	if fileStorage, ok := storage.(*certmagic.FileStorage); ok {
		s.backend = newFiles(fileStorage, s.place, now, log)
	} else {
		s.backend = &objects{ctx: ctx, naming: s.place, storage: storage, now: now, log: log, stripes: shared}
	}
	return s
}

// Get takes no lock, but if it found a record damaged it looks again when nobody can be writing it.
func (s *caddyStore) Get(ctx context.Context, key Key) ([]byte, error) {
	if err := errors.Join(key.Check(), ctx.Err()); err != nil {
		return nil, err
	}
	value, err := s.live(ctx, key)
	if !errors.Is(err, ErrDamaged) {
		return value, err
	}
	unlock, err := s.lock(ctx, key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return s.live(ctx, key)
}

// Put takes no lock: by contract nobody else knows the key yet, so there is no Update to disturb.
func (s *caddyStore) Put(ctx context.Context, key Key, value []byte, expires time.Time) error {
	if err := errors.Join(key.Check(), ctx.Err()); err != nil {
		return err
	}
	return s.backend.put(ctx, key, value, expires)
}

// Update decides and writes with the lock held, and gives that back when what it wrote is on the disk: nobody decides
// on what a crash could undo.
func (s *caddyStore) Update(ctx context.Context, key Key, change Change) error {
	if err := key.Check(); err != nil {
		return err
	}
	unlock, err := s.lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()

	err = s.backend.update(ctx, key, func(old []byte, oldExpires time.Time) ([]byte, time.Time, error) {
		if Expired(oldExpires, s.now()) {
			old = nil
		}
		return change(old)
	})
	if errors.Is(err, ErrKeep) {
		return nil
	}
	return err
}

// Delete takes the lock, or an Update that has read the record would write it again.
func (s *caddyStore) Delete(ctx context.Context, key Key) error {
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
func (s *caddyStore) live(ctx context.Context, key Key) ([]byte, error) {
	value, _, err := s.look(ctx, key)
	return value, err
}

// look is live that tells when the record expires.
func (s *caddyStore) look(ctx context.Context, key Key) (value []byte, expires time.Time, err error) {
	value, expires, err = s.backend.read(ctx, key)
	if err == nil && Expired(expires, s.now()) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	return value, expires, nil
}

// List reads no record, which may be far away: one that is late may be in it until its bucket ends, or until it is swept.
func (s *caddyStore) List(ctx context.Context, kind Kind) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := errors.Join(kind.Check(), ctx.Err()); err != nil {
			yield("", err)
			return
		}
		for key, err := range s.backend.keys(ctx, kind) {
			if key.Bucket().Ended(s.now()) {
				continue
			}
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield("", err)
				return
			}
			if !yield(key.ID, nil) {
				return
			}
		}
	}
}

// naming files a record as
//
//	oauth/<issuer>/<kind>/<bucket>/<id>.record
//
// and without <bucket>/ if the ID has none. The suffix tells records from buckets, and from whatever else there is.
type naming struct {
	root string // oauth/<issuer>
}

const recordSuffix = ".record"

func (n naming) dir(kind Kind) string { return n.root + "/" + string(kind) }

func (n naming) path(key Key) string {
	if bucket := key.Bucket(); bucket != "" {
		return n.dir(key.Kind) + "/" + string(bucket) + "/" + key.ID + recordSuffix
	}
	return n.dir(key.Kind) + "/" + key.ID + recordSuffix
}

// reading, writing and deleting say of which record an error is.
func (n naming) reading(key Key, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotFound
	}
	return n.explain("reading", key, err)
}

func (n naming) writing(key Key, err error) error  { return n.explain("writing", key, err) }
func (n naming) deleting(key Key, err error) error { return n.explain("deleting", key, err) }

func (n naming) explain(what string, key Key, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("storage: %s %s: %w", what, n.path(key), err)
}

var (
	_ Sweeper = (*caddyStore)(nil)
	_ backend = (*files)(nil)
	_ backend = (*objects)(nil)
)
