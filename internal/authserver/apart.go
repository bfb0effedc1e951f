package authserver

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// apart does something that may not listen to its context, such as a system call on a disk that hangs, and returns when
// it is done or ctx ends. What has no end then goes on without anybody who waits for it; but what was cancelled, as all is
// when a configuration is replaced, may come to its end first, so that as a rule nothing is written afterwards. A panic is
// an error: there is nobody above to recover from it.
func apart(ctx context.Context, do func(ctx context.Context) error) error {
	ended := make(chan error, 1)
	go func() { ended <- recovered(ctx, do) }()
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

func recovered(ctx context.Context, do func(ctx context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{p, debug.Stack()}
		}
	}()
	return do(ctx)
}

// panicError is a panic of a store.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.value, e.stack) }

// onlyWhileAwaited is a change that is made only as long as somebody waits for it: who has given up can neither be told
// of it, nor have it use what they use.
type onlyWhileAwaited struct {
	change storage.Change

	mu    sync.Mutex
	given bool  // up
	ran   bool  // and err is what came of it
	err   error // of the last run
}

func (c *onlyWhileAwaited) run(old []byte) (value []byte, expires time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.given {
		return nil, time.Time{}, context.Canceled
	}
	value, expires, err = c.change(old)
	c.ran, c.err = true, err
	return value, expires, err
}

// giveUp waits for a run that is under way, and allows no other. It returns what the last one came to.
func (c *onlyWhileAwaited) giveUp() (ran bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.given = true
	return c.ran, c.err
}
