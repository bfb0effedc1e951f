package authserver

import (
	"context"
	"sync"
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

// patience is what is left of the time that a request may wait for the store. Waits at the same time count once, and what
// else it waits for, such as the site when it is asked about a password, does not count.
type patience struct {
	mu    sync.Mutex
	left  time.Duration // when nothing is waited for
	waits int           // that are under way
	since time.Time     // when the first of them began
}

// begin begins a wait, and returns how long it may be.
func (p *patience) begin() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.waits == 0 {
		p.since = now
	}
	p.waits++
	return p.left - now.Sub(p.since)
}

func (p *patience) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waits--; p.waits == 0 {
		p.left -= time.Since(p.since)
	}
}

// patiently returns a context whose waits for the store are bounded in all, unless they are already.
func patiently(ctx context.Context, most time.Duration) context.Context {
	if ctx.Value(patienceKey{}) != nil {
		return ctx
	}
	return context.WithValue(ctx, patienceKey{}, &patience{left: most})
}

// waiting begins a wait for the store, which the returned function ends. Where nothing bounds all waits, this one is no
// longer than most.
func waiting(ctx context.Context, most time.Duration) (context.Context, func()) {
	p, ok := ctx.Value(patienceKey{}).(*patience)
	if !ok {
		return context.WithTimeout(ctx, most)
	}
	ctx, cancel := context.WithTimeout(ctx, p.begin())
	return ctx, func() {
		cancel()
		p.end()
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
