package storage

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"
)

// Encrypted returns a store that keeps the records of the named issuer in another store, encrypted at rest. What was
// written in plain before is read as it is.
//
// Encrypted are the values of records. Whoever sees the store still sees how many there are, how long they are, when
// they were written and when they expire, and their keys: kinds, hashes of what is secret, and the names of clients
// that were added at run time. A record that was changed, or put in the place of another one, is damaged; but whoever
// can write to the store can delete records, put back older ones of the same place, and write plain ones.
//
// The store that is returned is an [Exporter], of plain records, and a [Resealer]: if the other one is no Exporter these
// methods fail with [errors.ErrUnsupported]. What else the other one can do is found by [As].
func Encrypted(store Store, issuer string, keys *Keyring) Store {
	return &encrypted{store: store, issuer: issuer, keys: keys}
}

type encrypted struct {
	store  Store
	issuer string
	keys   *Keyring
}

// place is where a record is.
type place struct {
	key    Key
	issuer string
}

// name returns what no other record of any issuer has: neither kind nor ID can hold a slash.
func (p place) name() []byte { return []byte(string(p.key.Kind) + "/" + p.key.ID + "/" + p.issuer) }

func (s *encrypted) open(key Key, data []byte) ([]byte, error) {
	if !sealed(data) {
		return data, nil
	}
	value, err := s.keys.open(data, place{key, s.issuer})
	if err != nil {
		return nil, fmt.Errorf("storage: reading %s/%s: %w", key.Kind, key.ID, err)
	}
	return value, nil
}

func (s *encrypted) seal(key Key, value []byte) ([]byte, error) {
	data, err := s.keys.seal(value, place{key, s.issuer})
	if err != nil {
		return nil, fmt.Errorf("storage: writing %s/%s: %w", key.Kind, key.ID, err)
	}
	return data, nil
}

// Get implements [Store].
func (s *encrypted) Get(ctx context.Context, key Key) ([]byte, error) {
	data, err := s.store.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	return s.open(key, data)
}

// Put implements [Store].
func (s *encrypted) Put(ctx context.Context, key Key, value []byte, expires time.Time) error {
	data, err := s.seal(key, value)
	if err != nil {
		return err
	}
	return s.store.Put(ctx, key, data, expires)
}

// Update implements [Store].
func (s *encrypted) Update(ctx context.Context, key Key, change Change) error {
	return s.store.Update(ctx, key, func(data []byte) ([]byte, time.Time, error) {
		old, err := s.open(key, data)
		if err != nil {
			return nil, time.Time{}, err
		}
		value, expires, err := change(old)
		if err != nil || value == nil {
			return nil, expires, err
		}
		data, err = s.seal(key, value)
		return data, expires, err
	})
}

// Delete implements [Store].
func (s *encrypted) Delete(ctx context.Context, key Key) error { return s.store.Delete(ctx, key) }

// List implements [Store].
func (s *encrypted) List(ctx context.Context, kind Kind) iter.Seq2[string, error] {
	return s.store.List(ctx, kind)
}

// Unwrap returns the other store, for [As].
func (s *encrypted) Unwrap() Store { return s.store }

// exporter returns what the store can tell.
func (s *encrypted) exporter() (Exporter, error) {
	if exporter, ok := s.store.(Exporter); ok {
		return exporter, nil
	}
	return nil, fmt.Errorf("storage: this store cannot tell all it holds: %w", errors.ErrUnsupported)
}

// Export implements [Exporter].
func (s *encrypted) Export(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		exporter, err := s.exporter()
		if err != nil {
			yield(Record{}, err)
			return
		}
		for record, err := range exporter.Export(ctx) {
			if err == nil {
				record.Value, err = s.open(record.Key, record.Value)
			}
			if !yield(record, err) || err != nil && !errors.Is(err, ErrDamaged) {
				return
			}
		}
	}
}

// Look implements [Exporter].
func (s *encrypted) Look(ctx context.Context, key Key) (Record, error) {
	exporter, err := s.exporter()
	if err != nil {
		return Record{}, err
	}
	record, err := exporter.Look(ctx, key)
	if err != nil {
		return Record{}, err
	}
	record.Value, err = s.open(key, record.Value)
	return record, err
}
