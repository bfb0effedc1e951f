package authserver

import (
	"context"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// defaultStoreTimeout is how long a request may wait for the store in all, and anything else for one operation.
const defaultStoreTimeout = 5 * time.Second

// storeTimeout returns how long to wait for a store.
func storeTimeout(store storage.Store) time.Duration {
	if slow, ok := storage.As[storage.Slow](store); ok && slow.Timeout() > 0 {
		return slow.Timeout()
	}
	return defaultStoreTimeout
}

// withinTimeout returns a context that ends after the timeout, if it does not end earlier anyway: a request has one
// deadline for all it asks of the store.
func withinTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= timeout {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, timeout)
}

// turn is a lock for what asks the store while it holds it: who waits for it waits for the store, and gives up like
// that.
type turn struct {
	taken chan struct{}
	most  time.Duration
}

func newTurn(most time.Duration) turn { return turn{make(chan struct{}, 1), most} }

// take waits for the lock, which the returned function gives back.
func (t turn) take(ctx context.Context) (release func(), err error) {
	waits, done := withinTimeout(ctx, t.most)
	defer done()
	select {
	case t.taken <- struct{}{}:
		return func() { <-t.taken }, nil
	case <-waits.Done():
		return nil, storeErr(ctx, reading, waits.Err())
	}
}
