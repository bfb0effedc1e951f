package authserver

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// defaultPatience is how long the store may keep a request waiting, in all, and anything else with one operation. With
// defaultRetryAfter it is shorter than the default retry of refresh tokens: a client whose answer was lost here can have
// it from another node.
const defaultPatience = 5 * time.Second

// patienceWith returns how long to wait for a store.
func patienceWith(store storage.Store) time.Duration {
	if slow, ok := storage.Power[storage.Slow](store); ok && slow.Patience() > 0 {
		return slow.Patience()
	}
	return defaultPatience
}

// patience is what is left of the time that a request may wait for the store. What else it waits for, such as the site
// when it is asked about a password, does not count.
type patience struct{ left atomic.Int64 }

// patiently returns a context whose waits for the store are bounded in all, unless they are already.
func patiently(ctx context.Context, most time.Duration) context.Context {
	if ctx.Value(patienceKey{}) != nil {
		return ctx
	}
	p := new(patience)
	p.left.Store(int64(most))
	return context.WithValue(ctx, patienceKey{}, p)
}

// waiting begins a wait for the store, which the returned function ends. Where nothing bounds all waits, this one is no
// longer than most.
func waiting(ctx context.Context, most time.Duration) (context.Context, func()) {
	p, ok := ctx.Value(patienceKey{}).(*patience)
	if !ok {
		return context.WithTimeout(ctx, most)
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(p.left.Load()))
	return ctx, func() {
		cancel()
		p.left.Add(-int64(time.Since(began)))
	}
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
	waits, done := waiting(ctx, t.most)
	defer done()
	select {
	case t.taken <- struct{}{}:
		return func() { <-t.taken }, nil
	case <-waits.Done():
		return nil, storeErr(ctx, reading, waits.Err())
	}
}
