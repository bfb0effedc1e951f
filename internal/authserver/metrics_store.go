package authserver

import (
	"context"
	"iter"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// storeOp is an operation of a store, as a label.
type storeOp string

const (
	opGet    storeOp = "get"
	opPut    storeOp = "put"
	opUpdate storeOp = "update"
	opDelete storeOp = "delete"
	opList   storeOp = "list"
)

var storeOps = []storeOp{opGet, opPut, opUpdate, opDelete, opList}

// watchedStore is a store whose operations are measured, and traced where the request is.
type watchedStore struct {
	storage.Store
	metrics *metrics
}

// begin begins an operation, which the returned function ends.
func (s *watchedStore) begin(ctx context.Context, op storeOp, kind storage.Kind) (context.Context, operation) {
	ctx, span := startSpan(ctx, "oauth.store."+string(op))
	return ctx, operation{s.metrics, op, kind, time.Now(), span}
}

// operation is one that is under way.
type operation struct {
	metrics *metrics
	op      storeOp
	kind    storage.Kind
	began   time.Time
	span    span
}

func (o operation) end() {
	o.metrics.stored(o.op, o.began)
	o.span.end("kind", string(o.kind))
}

// Get implements storage.Store.
func (s *watchedStore) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	ctx, o := s.begin(ctx, opGet, key.Kind)
	defer o.end()
	return s.Store.Get(ctx, key)
}

// Put implements storage.Store.
func (s *watchedStore) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	ctx, o := s.begin(ctx, opPut, key.Kind)
	defer o.end()
	return s.Store.Put(ctx, key, value, expires)
}

// Update implements storage.Store.
func (s *watchedStore) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	ctx, o := s.begin(ctx, opUpdate, key.Kind)
	defer o.end()
	return s.Store.Update(ctx, key, change)
}

// Delete implements storage.Store.
func (s *watchedStore) Delete(ctx context.Context, key storage.Key) error {
	ctx, o := s.begin(ctx, opDelete, key.Kind)
	defer o.end()
	return s.Store.Delete(ctx, key)
}

// List implements storage.Store. What is done with each record is part of the time.
func (s *watchedStore) List(ctx context.Context, kind storage.Kind) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		ctx, o := s.begin(ctx, opList, kind)
		defer o.end()
		s.Store.List(ctx, kind)(yield)
	}
}
