package cimd

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

const (
	// maxStored is how many clients can be in use at an issuer.
	maxStored = 1000

	// evicted is how many records make room at once, and fullTime how long nobody looks for room after there was none.
	evicted  = maxStored / 20
	fullTime = time.Minute

	// maxDamaged is how many damaged records are logged.
	maxDamaged = 100
)

// records are the documents of clients in use, in the store.
type records struct {
	store storage.Store
	log   *zap.Logger
	now   func() time.Time

	mu      sync.Mutex
	full    time.Time       // until when there is no room
	damaged map[string]bool // records that were logged
}

// load returns the record of a client, nil if there is none.
func (r *records) load(ctx context.Context, id string) (*storage.Document, error) {
	value, err := r.store.Get(ctx, storage.DocumentKey(id))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err == nil {
		var d *storage.Document
		if d, err = r.decode(id, value); err == nil {
			return d, nil
		}
	}
	if errors.Is(err, storage.ErrDamaged) {
		r.logDamaged(id, err)
		return nil, nil
	}
	return nil, err
}

// decode reads the record of a client, and returns nil if it is of another client, whose ID has the same hash.
func (*records) decode(id string, value []byte) (*storage.Document, error) {
	d, err := storage.DecodeDocument(value)
	if err != nil || d.ID != id {
		return nil, err
	}
	return d, nil
}

// logDamaged logs a damaged record once. The client can be used without it, after another fetch.
func (r *records) logDamaged(id string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.damaged[id] || len(r.damaged) >= maxDamaged {
		return
	}
	r.damaged[strings.Clone(id)] = true
	r.log.Error("unreadable client metadata document in the store", zap.String("cimd", id),
		zap.String("record", storage.DocumentKey(id).ID), zap.Error(err))
}

// update writes what decide makes of a record, which is nil if there is none. It returns the record as it is then. If decide returns nil,
// it stays as it is.
func (r *records) update(ctx context.Context, id string, decide func(*storage.Document) *storage.Document) (*storage.Document, error) {
	var result *storage.Document
	change := func(old []byte) ([]byte, time.Time, error) {
		var current *storage.Document
		if old != nil {
			var err error
			if current, err = r.decode(id, old); err != nil && !errors.Is(err, storage.ErrDamaged) {
				return nil, time.Time{}, err
			}
		}
		next := decide(current)
		if next == nil {
			result = current
			return nil, time.Time{}, storage.ErrKeep
		}
		result = next
		value, err := next.Encode()
		return value, expiry(next), err
	}
	key := storage.DocumentKey(id)
	err := r.store.Update(ctx, key, change)
	if errors.Is(err, storage.ErrDamaged) {
		var value []byte
		var expires time.Time
		if value, expires, err = change(nil); errors.Is(err, storage.ErrKeep) {
			return result, nil
		}
		if err == nil {
			err = r.store.Put(ctx, key, value, expires)
		}
	}
	return result, err
}

// all yields the documents of clients in use, see [clients.Records].
func (r *records) all(ctx context.Context) iter.Seq2[*storage.Document, error] {
	return clients.Records(ctx, r.store, storage.KindDocument, storage.DecodeDocument)
}

// makeRoom reports whether one more client can be in use. If need be, it forgets clients that have no family any more, the least recently
// used ones.
func (r *records) makeRoom(ctx context.Context) (bool, error) {
	if r.isFull() {
		return false, nil
	}
	var keys []storage.Key
	for id, err := range r.store.List(ctx, storage.KindDocument) {
		if err != nil {
			return false, err
		}
		keys = append(keys, storage.Key{Kind: storage.KindDocument, ID: id})
	}
	if len(keys) < maxStored {
		return true, nil
	}
	live, unused, err := r.unused(ctx, keys)
	if err != nil || live < maxStored {
		return err == nil, err
	}
	for _, d := range unused[:min(len(unused), evicted)] {
		if err := r.forget(ctx, d.ID); err != nil {
			return false, err
		}
	}
	if len(unused) == 0 {
		r.setFull()
	}
	return len(unused) > 0, nil
}

// unused returns how many of the records are live, and those of clients without a family, the least recently used first.
func (r *records) unused(ctx context.Context, keys []storage.Key) (live int, unused []*storage.Document, err error) {
	for _, key := range keys {
		value, err := r.store.Get(ctx, key)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil && !errors.Is(err, storage.ErrDamaged) {
			return 0, nil, err
		}
		live++
		if d, err := storage.DecodeDocument(value); err == nil && r.evictable(d) {
			unused = append(unused, d)
		}
	}
	slices.SortFunc(unused, func(a, b *storage.Document) int { return a.Used.Compare(b.Used) })
	return live, unused, nil
}

// evictable reports whether a client has no family, and no code that one could begin with.
func (r *records) evictable(d *storage.Document) bool { return !d.Endless && d.Live.Before(r.now()) }

// forget deletes a record, unless the client has come into use meanwhile.
func (r *records) forget(ctx context.Context, id string) error {
	return r.store.Update(ctx, storage.DocumentKey(id), func(old []byte) ([]byte, time.Time, error) {
		if d, err := storage.DecodeDocument(old); old == nil || err != nil || !r.evictable(d) {
			return nil, time.Time{}, storage.ErrKeep
		}
		return nil, time.Time{}, nil
	})
}

func (r *records) isFull() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now().Before(r.full)
}

func (r *records) setFull() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.full = r.now().Add(fullTime)
	r.log.Error("too many clients with a metadata document are in use, new ones are refused", zap.Int("clients", maxStored))
}
