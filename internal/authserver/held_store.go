package authserver

import (
	"context"
	"errors"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// heldStore is a store to which nothing is written while it is frozen. It can be read, and what looks at a record in order
// to change it comes as far as to know that it would.
type heldStore struct {
	storage.Store
	freezer *freezer
}

func (s *heldStore) enter(ctx context.Context) (leave func()) {
	p, _ := ctx.Value(passKey{}).(*pass)
	return p.enter(s.freezer)
}

// Put implements storage.Store.
func (s *heldStore) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	leave := s.enter(ctx)
	if leave == nil {
		return errHeld
	}
	defer leave()
	return s.Store.Put(ctx, key, value, expires)
}

// Update implements storage.Store.
func (s *heldStore) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	leave := s.enter(ctx)
	if leave == nil {
		return s.decide(ctx, key, change)
	}
	defer leave()
	return s.Store.Update(ctx, key, change)
}

// decide is Update as far as it comes without writing.
func (s *heldStore) decide(ctx context.Context, key storage.Key, change storage.Change) error {
	old, err := s.Get(ctx, key)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	switch _, _, err := change(old); {
	case errors.Is(err, storage.ErrKeep):
		return nil
	case err != nil:
		return err
	}
	return errHeld
}

// Delete implements storage.Store.
func (s *heldStore) Delete(ctx context.Context, key storage.Key) error {
	leave := s.enter(ctx)
	if leave == nil {
		return errHeld
	}
	defer leave()
	return s.Store.Delete(ctx, key)
}

// Unwrap returns the store, for storage.Power.
func (s *heldStore) Unwrap() storage.Store { return s.Store }

// countedStore is the store below one that may give up on a write that goes on: it is under way until it has ended.
type countedStore struct {
	storage.Store
	freezer *freezer
}

// Put implements storage.Store.
func (s *countedStore) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	s.freezer.state.Add(1)
	defer s.freezer.leave()
	return s.Store.Put(ctx, key, value, expires)
}

// Update implements storage.Store.
func (s *countedStore) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	s.freezer.state.Add(1)
	defer s.freezer.leave()
	return s.Store.Update(ctx, key, change)
}

// Delete implements storage.Store.
func (s *countedStore) Delete(ctx context.Context, key storage.Key) error {
	s.freezer.state.Add(1)
	defer s.freezer.leave()
	return s.Store.Delete(ctx, key)
}

// Unwrap returns the store, for storage.Power.
func (s *countedStore) Unwrap() storage.Store { return s.Store }
