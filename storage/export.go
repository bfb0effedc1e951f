package storage

import (
	"context"
	"errors"
	"iter"
)

// Export implements [Exporter].
func (s *caddyStore) Export(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for kind, err := range s.backend.kinds(ctx) {
			if err != nil {
				yield(Record{}, err)
				return
			}
			if kind != kindSweep && !s.exportKind(ctx, kind, yield) {
				return
			}
		}
	}
}

// exportKind yields the live records of a kind, and reports whether to go on.
func (s *caddyStore) exportKind(ctx context.Context, kind Kind, yield func(Record, error) bool) bool {
	for key, err := range s.backend.keys(ctx, kind) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			yield(Record{}, err)
			return false
		}
		value, expires, err := s.look(ctx, key)
		switch {
		case errors.Is(err, ErrNotFound):
			continue
		case errors.Is(err, ErrDamaged):
			if !yield(Record{Key: key}, err) {
				return false
			}
			continue
		case err != nil:
			yield(Record{}, err)
			return false
		}
		if !yield(Record{key, value, expires}, nil) {
			return false
		}
	}
	return true
}

// Look implements [Exporter].
func (s *caddyStore) Look(ctx context.Context, key Key) (Record, error) {
	if err := errors.Join(key.Check(), ctx.Err()); err != nil {
		return Record{}, err
	}
	value, expires, err := s.look(ctx, key)
	if err != nil {
		return Record{}, err
	}
	return Record{key, value, expires}, nil
}
