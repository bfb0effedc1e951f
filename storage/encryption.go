package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"
)

// Encrypted returns a store that keeps the records of the named issuer encrypted in another store. It reads records that are
// not encrypted as they are.
//
// Only the values are encrypted. Whoever sees the other store still sees how many records there are, how long they are, when
// they were written and expire, and their keys: kinds, hashes of secrets, and the IDs of clients that were added at run time.
// A record that was changed, or moved to another key, is damaged. But whoever can write to the store can delete records, put
// back older versions of a record, and write unencrypted ones.
//
// The returned store is an [Exporter] of decrypted records and a [Reencrypter]. If the other store is no Exporter, their methods
// fail with [errors.ErrUnsupported]. [As] finds what else the other store can do.
func Encrypted(store Store, issuer string, keys *EncryptionKeys) Store {
	return &encrypted{store: store, issuer: issuer, keys: keys}
}

// Reencrypter is implemented by a Store that encrypts.
type Reencrypter interface {
	// Reencrypt rewrites every record that is not encrypted as a new record would be, and yields for each record whether it
	// was rewritten. Other nodes may use the store meanwhile, and a caller may stop and start again at any time. An error ends
	// the iteration, unless it wraps ErrDamaged or ErrUnknownKey: then it is about a single record.
	Reencrypt(ctx context.Context) iter.Seq2[bool, error]
}

type encrypted struct {
	store  Store
	issuer string
	keys   *EncryptionKeys
}

// authenticated returns the name of a record, which its encryption authenticates. No other record of any issuer has it, since
// neither kind nor ID can contain a slash.
func (s *encrypted) authenticated(key Key) []byte {
	return []byte(string(key.Kind) + "/" + key.ID + "/" + s.issuer)
}

func (s *encrypted) decrypt(key Key, data []byte) ([]byte, error) {
	if !isEncrypted(data) {
		return data, nil
	}
	value, err := s.keys.decrypt(data, s.authenticated(key))
	if err != nil {
		return nil, fmt.Errorf("storage: reading %s/%s: %w", key.Kind, key.ID, err)
	}
	return value, nil
}

func (s *encrypted) encrypt(key Key, value []byte) ([]byte, error) {
	data, err := s.keys.encrypt(value, s.authenticated(key))
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
	return s.decrypt(key, data)
}

// Put implements [Store].
func (s *encrypted) Put(ctx context.Context, key Key, value []byte, expires time.Time) error {
	data, err := s.encrypt(key, value)
	if err != nil {
		return err
	}
	return s.store.Put(ctx, key, data, expires)
}

// Update implements [Store].
func (s *encrypted) Update(ctx context.Context, key Key, change Change) error {
	return s.store.Update(ctx, key, func(data []byte) ([]byte, time.Time, error) {
		old, err := s.decrypt(key, data)
		if err != nil {
			return nil, time.Time{}, err
		}
		value, expires, err := change(old)
		if err != nil || value == nil {
			return nil, expires, err
		}
		data, err = s.encrypt(key, value)
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

func (s *encrypted) exporter() (Exporter, error) {
	if exporter, ok := s.store.(Exporter); ok {
		return exporter, nil
	}
	return nil, fmt.Errorf("storage: this store cannot list all its records: %w", errors.ErrUnsupported)
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
				record.Value, err = s.decrypt(record.Key, record.Value)
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
	record.Value, err = s.decrypt(key, record.Value)
	return record, err
}

// Reencrypt implements [Reencrypter].
func (s *encrypted) Reencrypt(ctx context.Context) iter.Seq2[bool, error] {
	return func(yield func(bool, error) bool) {
		exporter, err := s.exporter()
		if err != nil {
			yield(false, err)
			return
		}
		for record, err := range exporter.Export(ctx) {
			changed := false
			if err == nil {
				changed, err = s.reencrypt(ctx, exporter, record)
			}
			if !yield(changed, err) || err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrUnknownKey) {
				return
			}
		}
	}
}

// reencrypt rewrites a record if it is not up to date, and reports whether it did.
func (s *encrypted) reencrypt(ctx context.Context, exporter Exporter, record Record) (changed bool, err error) {
	for !s.keys.upToDate(record.Value) {
		value, err := s.decrypt(record.Key, bytes.Clone(record.Value))
		if err != nil {
			return false, err
		}
		data, err := s.encrypt(record.Key, value)
		if err != nil {
			return false, err
		}
		err = s.store.Update(ctx, record.Key, func(old []byte) ([]byte, time.Time, error) {
			// An Update does not see when the record expires. While the value is the same, the expiry is too.
			if changed = old != nil && bytes.Equal(old, record.Value); !changed {
				return nil, time.Time{}, ErrKeep
			}
			return data, record.Expires, nil
		})
		if err != nil || changed {
			return err == nil, err
		}
		// Another node has changed or deleted the record meanwhile.
		record, err = exporter.Look(ctx, record.Key)
		if errors.Is(err, ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}
