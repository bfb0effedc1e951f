package authserver

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
)

// ErrFrozen says that nothing may be written now, because the store is being moved.
var ErrFrozen = errors.New("writes are held up while the store is moved")

var errHeld = &grants.Error{
	Code: grants.TemporarilyUnavailable, Description: "the server cannot answer now, try again later",
	Status: http.StatusServiceUnavailable, Cause: ErrFrozen,
}

// freezer holds up writes to a store for a while, in which all that is in it can be copied elsewhere. A request
// that has begun to write may go on to its end: half of what it does would be worse than all or nothing.
type freezer struct {
	state atomic.Int64  // how many are writing, and frozen, if it is
	quiet chan struct{} // has an element when nobody writes any more

	mu      sync.Mutex
	until   time.Time // zero: not frozen
	timer   *time.Timer
	freezes int // so far
}

const frozen = 1 << 40

func newFreezer() *freezer { return &freezer{quiet: make(chan struct{}, 1)} }

// enter begins a write, which leave ends. It is false if there may be none now.
func (f *freezer) enter() bool {
	for {
		state := f.state.Load()
		if state >= frozen {
			return false
		}
		if f.state.CompareAndSwap(state, state+1) {
			return true
		}
	}
}

func (f *freezer) leave() {
	if f.state.Add(-1) != frozen {
		return
	}
	select {
	case f.quiet <- struct{}{}:
	default: // it has one
	}
}

// freeze holds up writes for that long from when those that are under way have ended, which it waits for. If they are held
// up already, the time begins anew. over is asked when the time has run out: if it says no, it stays as it is.
func (f *freezer) freeze(ctx context.Context, long time.Duration, over func() bool) (until time.Time, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.timer == nil {
		f.state.Add(frozen)
	} else {
		f.timer.Stop()
	}
	for f.state.Load() != frozen {
		select {
		case <-f.quiet:
		case <-ctx.Done():
			f.thawLocked()
			return time.Time{}, ctx.Err()
		}
	}
	f.freezes++
	this := f.freezes
	f.until = time.Now().Add(long)
	f.timer = time.AfterFunc(long, func() {
		if !over() {
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if this == f.freezes && f.timer != nil {
			f.thawLocked()
		}
	})
	return f.until, nil
}

// thaw ends freeze, and reports whether there was anything to end.
func (f *freezer) thaw() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.timer == nil {
		return false
	}
	f.thawLocked()
	return true
}

func (f *freezer) thawLocked() {
	if f.timer != nil {
		f.timer.Stop()
	}
	f.timer, f.until = nil, time.Time{}
	f.state.Add(-frozen)
}

// stay leaves writes held up for good if they are, and reports whether they are.
func (f *freezer) stay() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.timer == nil {
		return false
	}
	f.timer.Stop()
	return true
}

// frozenUntil returns until when writes are held up, zero if they are not.
func (f *freezer) frozenUntil() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.until
}

// pass is the right of a request to write, from its first write to its end.
type pass struct {
	mu   sync.Mutex
	from *freezer // nil: it has none
	over bool
}

// enter begins a write under the pass, if there is one that lasts, and returns what ends it; nil if there may be none
// now.
func (p *pass) enter(f *freezer) (leave func()) {
	if p == nil {
		return f.enterOnce()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.over:
		return f.enterOnce()
	case p.from == nil && !f.enter():
		return nil
	}
	p.from = f
	return func() {}
}

func (f *freezer) enterOnce() (leave func()) {
	if !f.enter() {
		return nil
	}
	return f.leave
}

// end gives the pass back. What is written later on behalf of the request is on its own.
func (p *pass) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.from != nil {
		p.from.leave()
	}
	p.from, p.over = nil, true
}
