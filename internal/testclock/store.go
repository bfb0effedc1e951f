package testclock

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

// Store is a store in memory whose records expire by the clock of a test. It can fail, and counts what it does. Safe for concurrent use
// while the fields stay as they are.
type Store struct {
	storage.Store // has records that have expired, too

	Now      func() time.Time
	Err      error // of every operation from now on
	WriteErr error // of every change from now on

	Reads, Writes atomic.Int64 // those that worked

	mu      sync.Mutex
	expires map[storage.Key]time.Time
}

// NewStore returns an empty store.
func NewStore(now func() time.Time) *Store {
	return &Store{Store: memory.New(), Now: now, expires: make(map[storage.Key]time.Time)}
}

// Expiry returns when a record expires, zero for never and for a record that is not there.
func (s *Store) Expiry(key storage.Key) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expires[key]
}

// Get implements storage.Store.
func (s *Store) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	if s.Err != nil {
		return nil, s.Err
	}
	s.Reads.Add(1)
	if storage.Expired(s.Expiry(key), s.Now()) {
		return nil, storage.ErrNotFound
	}
	return s.Store.Get(ctx, key)
}

// Put implements storage.Store.
func (s *Store) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	return s.Update(ctx, key, func([]byte) ([]byte, time.Time, error) { return value, expires, nil })
}

// Update implements storage.Store.
func (s *Store) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	for _, err := range []error{s.Err, s.WriteErr} {
		if err != nil {
			return err
		}
	}
	return s.Store.Update(ctx, key, func(old []byte) ([]byte, time.Time, error) {
		if storage.Expired(s.Expiry(key), s.Now()) {
			old = nil
		}
		value, expires, err := change(old)
		if err == nil {
			s.Writes.Add(1)
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.expires[key] = expires; value == nil {
				delete(s.expires, key)
			}
		}
		return value, time.Time{}, err
	})
}

// List implements storage.Store.
func (s *Store) List(ctx context.Context, kind storage.Kind) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for id, err := range s.Store.List(ctx, kind) {
			late := storage.Expired(s.Expiry(storage.Key{Kind: kind, ID: id}), s.Now())
			if (err != nil || !late) && !yield(id, err) {
				return
			}
		}
	}
}

// IDs returns the IDs of the records of a kind.
func (s *Store) IDs(t *testing.T, kind storage.Kind) (ids []string) {
	t.Helper()
	for id, err := range s.List(t.Context(), kind) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// Count returns how many records of a kind there are.
func (s *Store) Count(t *testing.T, kind storage.Kind) int {
	t.Helper()
	return len(s.IDs(t, kind))
}
