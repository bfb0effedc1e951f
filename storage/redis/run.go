package redis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
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
		if err == nil || errors.Is(err, goredis.Nil) {
			return err
		}
		again, unsure := passes(err)
		if !again || n == attempts || !wait(short, pause) {
			return l.late(ctx, short, err)
		}
		sent = sent || unsure
	}
}

// passes reports whether what went wrong may pass, and whether the command may have been carried out nevertheless.
func passes(err error) (again, unsure bool) {
	if errors.Is(err, goredis.ErrClosed) {
		return false, false
	}
	if _, answered := errors.AsType[goredis.Error](err); answered {
		return slices.ContainsFunc(passing, func(prefix string) bool { return goredis.HasErrorPrefix(err, prefix) }) ||
			strings.Contains(err.Error(), readOnly), false
	}
	op, ok := errors.AsType[*net.OpError](err)
	unsent := ok && op.Op == "dial" || errors.Is(err, goredis.ErrPoolTimeout)
	return true, !unsent
}

// passing is how Redis' answers begin while it starts, fails over or moves slots, and readOnly is part of what it says of
// a script then. None of them did anything.
var passing = []string{"LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "max number of clients reached"}

const readOnly = "READONLY You can't write"

// late returns err as the end of ctx, if that is what it is: a connection has the deadline of ctx, and then says no more
// than that it is over.
func (l *link) late(ctx, short context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	end, ok := short.Deadline()
	if !ok || time.Now().Before(end) {
		return err
	}
	if own, ok := ctx.Deadline(); ok && !end.Before(own) {
		return context.DeadlineExceeded
	}
	return fmt.Errorf("no answer within %s: %w", l.timeout, err)
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
	if err != nil && goredis.HasErrorPrefix(err, "NOSCRIPT") {
		line[0], line[1] = "eval", s.source
		cmd = goredis.NewCmd(ctx, line...)
		err = l.client.Process(ctx, once{cmd})
	}
	return cmd.Val(), err
}
