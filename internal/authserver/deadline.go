package authserver

import (
	"context"
	"sync"
	"time"
)

// setDeadline limits how long the call may wait for the store from now on, in all. An endpoint sets it when it has done
// what can take long for other reasons, such as reading the body and comparing a slow hash of a secret. Until then, each
// operation of the store has the limit.
func (c *call) setDeadline(timeout time.Duration) {
	c.deadline = &deadline{Context: c.ctx, at: time.Now().Add(timeout)}
	c.ctx = c.deadline
}

// end stops the timer of the deadline, if there is one.
func (c *call) end() {
	if c.deadline != nil {
		c.deadline.stop()
	}
}

// deadline is the context of a request from when it may wait for the store: it ends at a time, like one of
// context.WithDeadline, but makes its timer when somebody begins to wait for its end. A request that finds all it needs in
// memory, such as the introspection of a JWT, never waits, and neither does one whose store is in memory. Without a wait there is nothing
// to cancel either: the parent ends with the request.
type deadline struct {
	context.Context // the parent

	at time.Time

	mu     sync.Mutex
	timed  context.Context // nil until somebody waits
	cancel context.CancelFunc
}

// wait returns the context that has the timer.
func (d *deadline) wait() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timed == nil {
		d.timed, d.cancel = context.WithDeadline(d.Context, d.at)
	}
	return d.timed
}

// stop releases the timer, if there is one.
func (d *deadline) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cancel != nil {
		d.cancel()
	}
}

// Deadline implements context.Context.
func (d *deadline) Deadline() (time.Time, bool) {
	if earlier, ok := d.Context.Deadline(); ok && earlier.Before(d.at) {
		return earlier, true
	}
	return d.at, true
}

// Done implements context.Context.
func (d *deadline) Done() <-chan struct{} { return d.wait().Done() }

// Err implements context.Context.
func (d *deadline) Err() error {
	d.mu.Lock()
	timed := d.timed
	d.mu.Unlock()
	switch {
	case timed != nil:
		return timed.Err()
	case time.Now().Before(d.at):
		return d.Context.Err()
	}
	return d.wait().Err() // which ends at once
}

// Value implements context.Context. The context with the timer has its own value for contexts below this one: they end with it
// without a goroutine of their own.
func (d *deadline) Value(key any) any {
	d.mu.Lock()
	timed := d.timed
	d.mu.Unlock()
	if timed != nil {
		return timed.Value(key)
	}
	return d.Context.Value(key)
}
