package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/stripes"
)

func init() {
	caddy.RegisterModule(Memory{})
}

// Memory keeps records in the memory of the Caddy process.
//
// Records survive a reload of the config. They do not survive the end of the process: after a
// restart, a crash or an upgrade every refresh token, code and consent is gone, users have to log
// in again, and what was revoked shortly before is forgotten. Nor are they shared with other
// Caddy instances. Use it to try things out, in tests, and where all of that is what you want;
// otherwise leave the store at its default, which keeps records in Caddy's storage.
type Memory struct {
	opened []string
}

// memories holds the records of every issuer by name, so that a new config finds those of the old.
var memories = caddy.NewUsagePool()

// CaddyModule returns the Caddy module information.
func (Memory) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "oauth.stores.memory",
		New: func() caddy.Module { return new(Memory) },
	}
}

// Open returns the store of the named issuer. It lives until Cleanup was called on every module
// that opened it.
func (m *Memory) Open(issuer string) (Store, error) {
	store, _ := memories.LoadOrStore(issuer, newMemoryStore())
	m.opened = append(m.opened, issuer)
	return store.(*memoryStore), nil
}

// Cleanup gives back what this module opened.
func (m *Memory) Cleanup() error {
	var errs []error
	for _, issuer := range m.opened {
		_, err := memories.Delete(issuer)
		errs = append(errs, err)
	}
	m.opened = nil
	return errors.Join(errs...)
}

// OpenMemory returns a store of its own in memory, for programs and tests without Caddy.
func OpenMemory() Store { return newMemoryStore() }

// memoryStore has two locks per key. A stripe is held while a Change decides, and may be held for
// long; the mutex of a shard guards its maps, for moments, so that a Get waits for no Change.
type memoryStore struct {
	now     func() time.Time
	stripes *stripes.Stripes
	shards  [stripes.Count]memoryShard
}

type memoryShard struct {
	mu      sync.RWMutex
	buckets map[Bucket]map[Key]memoryRecord
}

// memoryRecord is never changed, only replaced.
type memoryRecord struct {
	value   []byte
	expires time.Time
}

func newMemoryStore() *memoryStore {
	return &memoryStore{now: time.Now, stripes: stripes.New()}
}

func (s *memoryStore) Get(ctx context.Context, key Key) ([]byte, error) {
	if err := errors.Join(key.Check(), ctx.Err()); err != nil {
		return nil, err
	}
	value, _ := s.look(key)
	if value == nil {
		return nil, ErrNotFound
	}
	return value, nil
}

func (s *memoryStore) Put(ctx context.Context, key Key, value []byte, expires time.Time) error {
	if err := errors.Join(key.Check(), ctx.Err()); err != nil {
		return err
	}
	s.shard(key).store(key, value, expires)
	return nil
}

func (s *memoryStore) Update(ctx context.Context, key Key, change Change) error {
	if err := key.Check(); err != nil {
		return err
	}
	n := stripes.Of(string(key.Kind), key.ID)
	if err := s.stripes.Lock(ctx, n); err != nil {
		return fmt.Errorf("storage: waiting for %s %s: %w", key.Kind, key.ID, err)
	}
	defer s.stripes.Unlock(n)

	shard := &s.shards[n]
	old, _ := shard.look(key, s.now())
	value, expires, err := change(old)
	switch {
	case errors.Is(err, ErrKeep):
		return nil
	case err != nil:
		return err
	case value == nil:
		shard.remove(key)
	default:
		shard.store(key, value, expires)
	}
	return nil
}

func (s *memoryStore) Delete(ctx context.Context, key Key) error {
	return s.Update(ctx, key, func([]byte) ([]byte, time.Time, error) { return nil, time.Time{}, nil })
}

func (s *memoryStore) List(ctx context.Context, kind Kind) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := errors.Join(kind.Check(), ctx.Err()); err != nil {
			yield("", err)
			return
		}
		for i := range s.shards {
			for _, id := range s.shards[i].ids(kind, s.now()) {
				if err := ctx.Err(); err != nil {
					yield("", err)
					return
				}
				if !yield(id, nil) {
					return
				}
			}
		}
	}
}

// Sweep drops ended buckets whole, and walks the records that are in none, one shard at a time.
func (s *memoryStore) Sweep(ctx context.Context) error {
	for i := range s.shards {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.shards[i].sweep(s.now())
	}
	return nil
}

// Timeout implements Slow.
func (s *memoryStore) Timeout() time.Duration { return 0 }

func (s *memoryStore) shard(key Key) *memoryShard {
	return &s.shards[stripes.Of(string(key.Kind), key.ID)]
}

// look returns a copy of the live record, nil if there is none, and when it expires.
func (s *memoryStore) look(key Key) (value []byte, expires time.Time) {
	return s.shard(key).look(key, s.now())
}

func (s *memoryShard) look(key Key, now time.Time) (value []byte, expires time.Time) {
	s.mu.RLock()
	record, ok := s.buckets[key.Bucket()][key]
	s.mu.RUnlock()
	if !ok || Expired(record.expires, now) {
		return nil, time.Time{}
	}
	return bytes.Clone(record.value), record.expires
}

func (s *memoryShard) store(key Key, value []byte, expires time.Time) {
	// An empty value is a record, so it must not become nil.
	record := memoryRecord{append([]byte{}, value...), expires}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buckets == nil {
		s.buckets = map[Bucket]map[Key]memoryRecord{}
	}
	records := s.buckets[key.Bucket()]
	if records == nil {
		records = map[Key]memoryRecord{}
		s.buckets[key.Bucket()] = records
	}
	records[key] = record
}

func (s *memoryShard) remove(key Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.buckets[key.Bucket()], key)
}

func (s *memoryShard) ids(kind Kind, now time.Time) (ids []string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, records := range s.buckets {
		for key, record := range records {
			if key.Kind == kind && !Expired(record.expires, now) {
				ids = append(ids, key.ID)
			}
		}
	}
	return ids
}

func (s *memoryShard) keys() (keys []Key) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, records := range s.buckets {
		keys = slices.AppendSeq(keys, maps.Keys(records))
	}
	return keys
}

func (s *memoryShard) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for bucket, records := range s.buckets {
		if _, ends := bucket.End(); ends {
			if bucket.Ended(now) {
				delete(s.buckets, bucket)
			}
			continue
		}
		for key, record := range records {
			if Expired(record.expires, now) {
				delete(records, key)
			}
		}
	}
}

var (
	_ caddy.CleanerUpper = (*Memory)(nil)
	_ Opener             = (*Memory)(nil)
	_ Sweeper            = (*memoryStore)(nil)
	_ Slow               = (*memoryStore)(nil)
	_ Exporter           = (*memoryStore)(nil)
)
