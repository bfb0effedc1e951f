package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

func init() {
	caddy.RegisterModule(Caddy{})
}

// Caddy keeps records in Caddy's storage, beside its certificates. It is the default.
//
// Records survive reloads, restarts, upgrades and crashes; back them up with the rest of Caddy's
// storage. Every Caddy instance that uses the same storage shares them, and each refresh token and
// code is used once across all of them.
//
// With the file system storage, Caddy's default, every instance must see file locks of the others:
// this holds on one machine, and on network file systems that support flock, such as NFSv4. On
// any other storage module records are guarded by the locks of that module: use one whose locks work
// across all your instances. Those locks cost several round trips each; a site with many instances
// and many tokens is better served by a store made for that.
//
// Stored are hashes of tokens and codes, never the tokens themselves. Deleting the folder `oauth` of
// the storage logs everybody out.
type Caddy struct {
	storage certmagic.Storage
	log     *zap.Logger
	opened  []string
}

// stripePool shares the in-process locks of an issuer between config generations, by its name, so
// that the requests of an old and a new config queue up together.
var stripePool = caddy.NewUsagePool()

// CaddyModule returns the Caddy module information.
func (Caddy) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "oauth.stores.caddy",
		New: func() caddy.Module { return new(Caddy) },
	}
}

// Provision takes the storage of the config.
func (m *Caddy) Provision(ctx caddy.Context) error {
	m.storage = ctx.Storage()
	m.log = ctx.Logger()
	return nil
}

// Open returns the store of the named issuer.
func (m *Caddy) Open(issuer string) (Store, error) {
	pooled, _ := stripePool.LoadOrStore(issuer, newStripes())
	m.opened = append(m.opened, issuer)
	return newCaddyStore(m.storage, issuer, pooled.(*stripes), m.log), nil
}

// Cleanup gives back what this module opened.
func (m *Caddy) Cleanup() error {
	var errs []error
	for _, issuer := range m.opened {
		_, err := stripePool.Delete(issuer)
		errs = append(errs, err)
	}
	m.opened = nil
	return errors.Join(errs...)
}

// OpenCaddy returns the store of the named issuer on any storage, for programs and tests without a
// Caddy config.
func OpenCaddy(storage certmagic.Storage, issuer string) Store {
	return newCaddyStore(storage, issuer, newStripes(), caddy.Log().Named("oauth.stores.caddy"))
}

// caddyStore files a record as
//
//	oauth/<issuer>/<kind>/<bucket>/<id>.record
//
// and without <bucket>/ if the ID has none. The suffix tells records from buckets, and from the
// temporary files of digits that FileStorage leaves behind when it is killed in a Store.
type caddyStore struct {
	storage certmagic.Storage
	files   *certmagic.FileStorage // storage, if it is one
	root    string                 // oauth/<issuer>
	stripes *stripes
	log     *zap.Logger
	now     func() time.Time
}

const recordSuffix = ".record"

func newCaddyStore(storage certmagic.Storage, issuer string, shared *stripes, log *zap.Logger) *caddyStore {
	files, _ := storage.(*certmagic.FileStorage)
	return &caddyStore{
		storage: storage,
		files:   files,
		root:    "oauth/" + EscapeID(issuer),
		stripes: shared,
		log:     log,
		now:     time.Now,
	}
}

// Get takes no lock: the storage replaces records whole.
func (s *caddyStore) Get(ctx context.Context, key Key) ([]byte, error) {
	if err := errors.Join(key.Check(), ctx.Err()); err != nil {
		return nil, err
	}
	return s.load(ctx, key)
}

// Put takes no lock: by contract nobody else knows the key yet, so there is no Update to disturb.
func (s *caddyStore) Put(ctx context.Context, key Key, value []byte, expires time.Time) error {
	if err := errors.Join(key.Check(), ctx.Err()); err != nil {
		return err
	}
	return s.store(ctx, key, value, expires)
}

func (s *caddyStore) Update(ctx context.Context, key Key, change Change) error {
	if err := key.Check(); err != nil {
		return err
	}
	unlock, err := s.lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()

	old, err := s.load(ctx, key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	value, expires, err := change(old)
	switch {
	case errors.Is(err, ErrKeep):
		return nil
	case err != nil:
		return err
	case value == nil:
		return s.remove(ctx, s.path(key))
	}
	return s.store(ctx, key, value, expires)
}

// Delete takes the lock, or an Update that has read the record would write it again. It does not read
// the record, so that a damaged one can be deleted.
func (s *caddyStore) Delete(ctx context.Context, key Key) error {
	if err := key.Check(); err != nil {
		return err
	}
	unlock, err := s.lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	return s.remove(ctx, s.path(key))
}

func (s *caddyStore) dir(kind Kind) string { return s.root + "/" + string(kind) }

func (s *caddyStore) path(key Key) string {
	if bucket := key.Bucket(); bucket != "" {
		return s.dir(key.Kind) + "/" + string(bucket) + "/" + key.ID + recordSuffix
	}
	return s.dir(key.Kind) + "/" + key.ID + recordSuffix
}

func (s *caddyStore) load(ctx context.Context, key Key) ([]byte, error) {
	value, _, err := s.look(ctx, key)
	return value, err
}

// look returns a live record and when it expires.
func (s *caddyStore) look(ctx context.Context, key Key) (value []byte, expires time.Time, err error) {
	data, err := s.storage.Load(ctx, s.path(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, time.Time{}, ErrNotFound
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("storage: reading %s: %w", s.path(key), err)
	}
	value, expires, err = unwrap(data)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("storage: reading %s: %w", s.path(key), err)
	}
	if late(expires, s.now()) {
		return nil, time.Time{}, ErrNotFound
	}
	// The caller owns the bytes; a storage in memory may have given us its own.
	return bytes.Clone(value), expires, nil
}

func (s *caddyStore) store(ctx context.Context, key Key, value []byte, expires time.Time) error {
	if err := s.storage.Store(ctx, s.path(key), wrap(value, expires)); err != nil {
		return fmt.Errorf("storage: writing %s: %w", s.path(key), err)
	}
	return nil
}

// remove deletes a record or a directory.
func (s *caddyStore) remove(ctx context.Context, path string) error {
	err := s.storage.Delete(ctx, path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("storage: deleting %s: %w", path, err)
	}
	return nil
}

var (
	_ caddy.Provisioner  = (*Caddy)(nil)
	_ caddy.CleanerUpper = (*Caddy)(nil)
	_ Opener             = (*Caddy)(nil)
	_ Sweeper            = (*caddyStore)(nil)
	_ Exporter           = (*caddyStore)(nil)
)
