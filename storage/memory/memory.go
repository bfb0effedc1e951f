// Package memory keeps records in the memory of the process. Start with [Memory], the Caddy module, or with [New] in a program
// or test without Caddy.
package memory

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
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oauth/caddy-oauth/internal/stripes"
	"github.com/caddy-oauth/caddy-oauth/storage"
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

// UnmarshalCaddyfile reads the name of the store, which has no options:
//
//	memory
func (*Memory) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() || d.NextBlock(0) {
		return d.Errf("the memory store has no options, but here is %q", d.Val())
	}
	return nil
}

// Open returns the store of the named issuer. It lives until Cleanup was called on every module
// that opened it.
func (m *Memory) Open(issuer string) (storage.Store, error) {
	records, _ := memories.LoadOrStore(issuer, newStore())
	m.opened = append(m.opened, issuer)
	return records.(*store), nil
}

// Cleanup releases what this module opened.
func (m *Memory) Cleanup() error {
	var errs []error
	for _, issuer := range m.opened {
		_, err := memories.Delete(issuer)
		errs = append(errs, err)
	}
	m.opened = nil
	return errors.Join(errs...)
}

// New returns an empty store that nobody else has.
func New() storage.Store { return newStore() }

// store has two locks per key. A stripe is locked while a Change decides, which may take long. The mutex of a shard guards its
// maps for a moment at a time, so that Get never waits for a Change. Each stripe has its shard.
type store struct {
	now     func() time.Time
	stripes *stripes.Stripes
	shards  [stripes.Count]shard
}

type shard struct {
	mu      sync.RWMutex
	buckets map[storage.Bucket]map[storage.Key]entry
}

// entry is never changed, only replaced.
type entry struct {
	value   []byte
	expires time.Time
}

func newStore() *store {
	return &store{now: time.Now, stripes: stripes.New()}
}

func stripeOf(key storage.Key) uint8 { return stripes.Of(string(key.Kind), key.ID) }

// Get implements [storage.Store].
func (s *store) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	record, err := s.Look(ctx, key)
	return record.Value, err
}

// Look implements [storage.Exporter].
func (s *store) Look(ctx context.Context, key storage.Key) (storage.Record, error) {
	if err := errors.Join(key.Check(), ctx.Err()); err != nil {
		return storage.Record{}, err
	}
	value, expires := s.shards[stripeOf(key)].get(key, s.now())
	if value == nil {
		return storage.Record{}, storage.ErrNotFound
	}
	return storage.Record{Key: key, Value: value, Expires: expires}, nil
}

// Put implements [storage.Store].
func (s *store) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	if err := errors.Join(key.Check(), ctx.Err()); err != nil {
		return err
	}
	s.shards[stripeOf(key)].put(key, value, expires)
	return nil
}

// Update implements [storage.Store].
func (s *store) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	if err := key.Check(); err != nil {
		return err
	}
	n := stripeOf(key)
	if err := s.stripes.Lock(ctx, n); err != nil {
		return fmt.Errorf("storage: waiting for %s %s: %w", key.Kind, key.ID, err)
	}
	defer s.stripes.Unlock(n)

	records := &s.shards[n]
	old, _ := records.get(key, s.now())
	value, expires, err := change(old)
	switch {
	case errors.Is(err, storage.ErrKeep):
		return nil
	case err != nil:
		return err
	case value == nil:
		records.remove(key)
	default:
		records.put(key, value, expires)
	}
	return nil
}

// Delete implements [storage.Store].
func (s *store) Delete(ctx context.Context, key storage.Key) error {
	return s.Update(ctx, key, func([]byte) ([]byte, time.Time, error) { return nil, time.Time{}, nil })
}

// List implements [storage.Store].
func (s *store) List(ctx context.Context, kind storage.Kind) iter.Seq2[string, error] {
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

// Export implements [storage.Exporter].
func (s *store) Export(ctx context.Context) iter.Seq2[storage.Record, error] {
	return func(yield func(storage.Record, error) bool) {
		for i := range s.shards {
			for _, key := range s.shards[i].keys() {
				record, err := s.Look(ctx, key)
				if errors.Is(err, storage.ErrNotFound) {
					continue
				}
				if !yield(record, err) || err != nil {
					return
				}
			}
		}
	}
}

// Sweep implements [storage.Sweeper], one shard at a time.
func (s *store) Sweep(ctx context.Context) error {
	for i := range s.shards {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.shards[i].sweep(s.now())
	}
	return nil
}

// Timeout implements [storage.Slow].
func (s *store) Timeout() time.Duration { return 0 }

// get returns a copy of a live record and when it expires, or nil.
func (s *shard) get(key storage.Key, now time.Time) (value []byte, expires time.Time) {
	s.mu.RLock()
	record, ok := s.buckets[key.Bucket()][key]
	s.mu.RUnlock()
	if !ok || storage.Expired(record.expires, now) {
		return nil, time.Time{}
	}
	return bytes.Clone(record.value), record.expires
}

func (s *shard) put(key storage.Key, value []byte, expires time.Time) {
	// An empty value is a record, so it must not become nil.
	record := entry{append([]byte{}, value...), expires}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buckets == nil {
		s.buckets = map[storage.Bucket]map[storage.Key]entry{}
	}
	records := s.buckets[key.Bucket()]
	if records == nil {
		records = map[storage.Key]entry{}
		s.buckets[key.Bucket()] = records
	}
	records[key] = record
}

func (s *shard) remove(key storage.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.buckets[key.Bucket()], key)
}

func (s *shard) ids(kind storage.Kind, now time.Time) (ids []string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, records := range s.buckets {
		for key, record := range records {
			if key.Kind == kind && !storage.Expired(record.expires, now) {
				ids = append(ids, key.ID)
			}
		}
	}
	return ids
}

func (s *shard) keys() (keys []storage.Key) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, records := range s.buckets {
		keys = slices.AppendSeq(keys, maps.Keys(records))
	}
	return keys
}

// sweep drops ended buckets as a whole, and looks at every record in the others: a code that nobody redeems expires long before
// its bucket.
func (s *shard) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for bucket, records := range s.buckets {
		if bucket.Ended(now) {
			delete(s.buckets, bucket)
			continue
		}
		for key, record := range records {
			if storage.Expired(record.expires, now) {
				delete(records, key)
			}
		}
	}
}

var (
	_ caddy.CleanerUpper    = (*Memory)(nil)
	_ caddyfile.Unmarshaler = (*Memory)(nil)
	_ storage.Opener        = (*Memory)(nil)
	_ storage.Sweeper       = (*store)(nil)
	_ storage.Slow          = (*store)(nil)
	_ storage.Exporter      = (*store)(nil)
)
