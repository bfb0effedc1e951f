package bounded

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// runDetached runs something that may ignore its context, such as a system call on a disk that hangs, in a goroutine of its
// own, and returns when it is done or ctx ends. If it never ends, the goroutine stays, but nobody waits for it. What was
// cancelled, as all is when a configuration is replaced, gets a moment to end, so that as a rule it writes nothing
// afterwards.
func runDetached(ctx context.Context, run func(ctx context.Context) error) error {
	ended := make(chan error, 1)
	go func() { ended <- safely(ctx, run) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	last := time.NewTimer(0)
	defer last.Stop()
	if errors.Is(ctx.Err(), context.Canceled) {
		last.Reset(afterCancel)
	}
	select {
	case err := <-ended:
		return err
	case <-last.C:
		return ctx.Err()
	}
}

// afterCancel is how long something that was cancelled may take to end.
const afterCancel = time.Second

// safely runs something and returns a panic as an error: in a goroutine of its own, nobody else recovers.
func safely(ctx context.Context, run func(ctx context.Context) error) (err error) {
	defer recovered(&err)
	return run(ctx)
}

// recovered makes a panic an error. It has to be deferred.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = &panicError{p, debug.Stack()}
	}
}

// panicError is a panic of a store.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.value, e.stack) }

// awaitedChange is a change that is made only as long as the caller of Update waits. A caller that has given up cannot learn
// of it, and may be using again what the change uses.
type awaitedChange struct {
	change storage.Change

	mu      sync.Mutex
	givenUp bool
	ran     bool  // at least once
	err     error // of the last run
}

func (c *awaitedChange) run(old []byte) (value []byte, expires time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.givenUp {
		return nil, time.Time{}, context.Canceled
	}
	value, expires, err = c.change(old)
	c.ran, c.err = true, err
	return value, expires, err
}

// giveUp waits for a run that is under way, and allows no other. It returns whether there was one, and the error of the last.
func (c *awaitedChange) giveUp() (ran bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.givenUp = true
	return c.ran, c.err
}
