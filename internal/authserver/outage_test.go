package authserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

var (
	fullDisk = cause{writing, "no space left"}
	deadDisk = cause{reading, "input/output error"}
)

// TestOutages is a story for each row: what happens, how long after the one before, and what the log then has.
func TestOutages(t *testing.T) {
	type event struct {
		after time.Duration
		fails cause    // or
		works []string // what works
		first bool     // the failure is told of
		told  int      // how often the log says by now that something works again
	}
	for name, story := range map[string][]event{
		"one outage, many failures": {
			{fails: fullDisk, first: true},
			{fails: fullDisk},
			{after: time.Second, fails: fullDisk},
			{after: 14 * time.Minute, fails: fullDisk},
			{after: 10 * time.Second, works: []string{writing}, told: 1},
			{works: []string{writing}, told: 1},
		},
		"another one after the first": {
			{fails: fullDisk, first: true},
			{after: time.Minute, works: []string{reading, writing}, told: 1},
			{fails: fullDisk, first: true, told: 1},
			{after: time.Minute, works: []string{writing}, told: 2},
		},
		"a full disk can be read": {
			{fails: fullDisk, first: true}, {after: time.Minute, works: []string{reading}}, {fails: fullDisk},
		},
		"each cause is told of": {
			{fails: fullDisk, first: true},
			{fails: deadDisk, first: true},
			{fails: cause{writing, timeout}, first: true},
			{fails: deadDisk},
			{after: time.Minute, works: []string{reading}, told: 1},
			{works: []string{reading, writing}, told: 3},
		},
		"now it works and now it does not": {
			{fails: fullDisk, first: true},
			{after: 9 * time.Second, works: []string{writing}},
			{fails: fullDisk},
			{after: 9 * time.Second, works: []string{writing}},
			{fails: fullDisk},
			{after: 10 * time.Second, works: []string{writing}, told: 1},
		},
		"an end that nobody has seen": {
			{fails: fullDisk, first: true}, {after: 15 * time.Minute, fails: fullDisk, first: true},
		},
		"nothing has failed": {{works: []string{reading, writing}}},
	} {
		t.Run(name, func(t *testing.T) {
			core, logs := observer.New(zap.DebugLevel)
			clock := testclock.New()
			o := newOutages(zap.New(core), clock.Now)
			for i, e := range story {
				clock.Advance(e.after)
				o.worked(e.works...)
				if e.fails != (cause{}) && o.failed(e.fails) != e.first {
					t.Errorf("event %d: told of %v", i, !e.first)
				}
				if n := logs.FilterMessage("what failed works again").Len(); n != e.told {
					t.Errorf("event %d: %d ends in the log, want %d", i, n, e.told)
				}
			}
		})
	}
}

// The end of an outage says what it was.
func TestEndOfAnOutage(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	clock := testclock.New()
	o := newOutages(zap.New(core), clock.Now)
	for range 3 {
		o.failed(fullDisk)
		clock.Advance(time.Minute)
	}
	o.worked(writing)
	want := map[string]any{"what": writing, "trouble": "no space left", "lasted": 2 * time.Minute, "failed": int64(3)}
	if lines := logs.All(); len(lines) != 1 || fmt.Sprint(lines[0].ContextMap()) != fmt.Sprint(want) {
		t.Errorf("the log has %v", lines)
	}
	if len(o.known) != 0 || o.open.Load() != 0 {
		t.Errorf("left are %v", o.known)
	}
}

func TestTroubleOf(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for want, errs := range map[string][]error{
		"no space left": {
			syscall.ENOSPC, syscall.EDQUOT, &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC},
			fmt.Errorf("writing: %w", errors.Join(errors.New("x"), syscall.ENOSPC)),
		},
		"it is read-only":       {&fs.PathError{Op: "open", Path: "x", Err: syscall.EROFS}},
		"no permission":         {&fs.PathError{Op: "open", Path: "x", Err: syscall.EACCES}, fs.ErrPermission},
		"too many open files":   {syscall.EMFILE},
		"input/output error":    {syscall.EIO, syscall.ESTALE},
		"the record is damaged": {fmt.Errorf("reading: %w", storage.ErrDamaged)},
		timeout: {
			context.DeadlineExceeded, os.ErrDeadlineExceeded, fmt.Errorf("x: %w", context.DeadlineExceeded),
			&net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}, &net.DNSError{IsTimeout: true},
		},
		unreachable: {
			refused, fmt.Errorf("x: %w", refused), io.EOF, net.ErrClosed, syscall.EPIPE, &net.DNSError{IsNotFound: true},
		},
		"it panics": {&panicError{value: "x"}},
		otherwise:   {errors.New("LOADING"), context.Canceled, storage.ErrNotFound},
	} {
		for _, err := range errs {
			if got := troubleOf(err); got != want {
				t.Errorf("%v is %q, want %q", err, got, want)
			}
		}
	}
}

// What runs by itself tells of a failure once, and when it is over; what a request has told of is not told of again.
func TestAttemptsAreToldOfOnce(t *testing.T) {
	s, store := newFaultyServer(t, testTimeout)
	h := newHoard(t, s)
	tick := func(err error) {
		s.attempt(t.Context(), "polling", s.poll)
		s.attempt(t.Context(), "sweeping", func(context.Context) error { return err })
		s.clock.Advance(5 * time.Second)
	}
	failures := func() (told []string) {
		for _, line := range s.logs.FilterLevelExact(zap.ErrorLevel).All() {
			told = append(told, line.Message)
		}
		return told
	}
	tick(nil)
	store.fail(full)
	for range 5 {
		tick(syscall.EACCES)
	}
	toldInJSON(t, s.token(t, refreshes(h.refresh)))
	toldInJSON(t, s.token(t, refreshes(h.refresh)))
	want := []string{"polling failed; will try again", "sweeping failed; will try again", "request failed"}
	if got := failures(); !slices.Equal(got, want) {
		t.Errorf("the log says %q, want %q", got, want)
	}
	store.mend()
	s.clock.Advance(quiet)
	tick(nil)
	s.token(t, refreshes(h.refresh)).check(t, 200, "")
	if got := failures(); len(got) != len(want) {
		t.Errorf("the log says %q, when all is over", got)
	}
	if ends := s.logs.FilterMessage("what failed works again").Len(); ends != 3 {
		t.Errorf("%d ends in the log, want one for each", ends)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	store.fail(hangs)
	s.attempt(stopped, "polling", s.poll)
	if got := failures(); len(got) != len(want) {
		t.Errorf("the log says %q, when all was stopped", got)
	}
}
