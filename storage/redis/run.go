package redis

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

const (
	attempts   = 3
	firstPause = 20 * time.Millisecond
)

// attempt does something that is harmless to do twice, and again if it failed for a reason that may pass. sent tells it
// whether it may have been done before, though nobody heard.
func (l *link) attempt(ctx context.Context, do func(ctx context.Context, sent bool) error) error {
	short, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	sent := false
	for pause, n := firstPause, 1; ; pause, n = 4*pause, n+1 {
		err := do(short, sent)
		again, unsure := passes(err)
		if !again || n == attempts || !wait(short, pause) {
			return ended(ctx, err)
		}
		sent = sent || unsure
	}
}

// passes reports whether what went wrong may pass, and whether the command may have been carried out nevertheless.
func passes(err error) (again, unsure bool) {
	if err == nil || errors.Is(err, goredis.Nil) || errors.Is(err, goredis.ErrClosed) {
		return false, false
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return true, false
	}
	if _, answered := errors.AsType[goredis.Error](err); answered {
		return slices.ContainsFunc(passing, func(prefix string) bool { return goredis.HasErrorPrefix(err, prefix) }), false
	}
	return true, true
}

// passing is how Redis' answers begin while it starts, fails over or moves slots. None of them did anything.
var passing = []string{
	"LOADING", "READONLY", "-READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "max number of clients reached",
}

// ended returns err as the end of ctx, if that is what it is: a connection has the deadline of ctx, and then says
// no more than that it is over.
func ended(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, goredis.Nil) {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && ctx.Err() == nil && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// wait waits about that long, or reports that ctx has ended before.
func wait(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause/2 + rand.N(pause)) //nolint:gosec // G404: so that not all come back at once
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// run runs a script once.
func (l *link) run(ctx context.Context, s script, keys []string, args ...any) (any, error) {
	line := make([]any, 0, 3+2+4)
	line = append(line, "evalsha", s.hash, strconv.Itoa(len(keys)))
	for _, key := range keys {
		line = append(line, key)
	}
	line = append(line, args...)
	cmd := goredis.NewCmd(ctx, line...)
	err := l.client.Process(ctx, once{cmd})
	if goredis.HasErrorPrefix(err, "NOSCRIPT") {
		line[0], line[1] = "eval", s.source
		cmd = goredis.NewCmd(ctx, line...)
		err = l.client.Process(ctx, once{cmd})
	}
	return cmd.Val(), err
}
