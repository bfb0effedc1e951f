package storage

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"time"
)

// Resealer is implemented by a Store that encrypts.
type Resealer interface {
	// Reseal writes every record anew that is not as it would be written now: plain, or encrypted with another key than
	// the first. It yields for each record whether it did. Other nodes may use the store meanwhile, and it may be stopped
	// and begun again at any time. An error ends it, but for one of a single record, which wraps ErrDamaged or
	// ErrUnknownKey.
	Reseal(ctx context.Context) iter.Seq2[bool, error]
}

// Reseal implements [Resealer].
func (s *encrypted) Reseal(ctx context.Context) iter.Seq2[bool, error] {
	return func(yield func(bool, error) bool) {
		exporter, err := s.exporter()
		if err != nil {
			yield(false, err)
			return
		}
		for record, err := range exporter.Export(ctx) {
			changed := false
			if err == nil {
				changed, err = s.reseal(ctx, exporter, record)
			}
			if !yield(changed, err) || err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrUnknownKey) {
				return
			}
		}
	}
}

// reseal writes a record anew, if need be, and reports whether it did.
func (s *encrypted) reseal(ctx context.Context, exporter Exporter, record Record) (changed bool, err error) {
	for !s.keys.current(record.Value) {
		value, err := s.open(record.Key, bytes.Clone(record.Value))
		if err != nil {
			return false, err
		}
		data, err := s.seal(record.Key, value)
		if err != nil {
			return false, err
		}
		err = s.store.Update(ctx, record.Key, func(old []byte) ([]byte, time.Time, error) {
			// An Update does not see when the record expires. What was found still holds while the value is the same.
			if changed = old != nil && bytes.Equal(old, record.Value); !changed {
				return nil, time.Time{}, ErrKeep
			}
			return data, record.Expires, nil
		})
		if err != nil || changed {
			return err == nil, err
		}
		// Somebody else has written it, or it is gone.
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
