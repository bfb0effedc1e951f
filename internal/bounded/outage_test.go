package bounded

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
	fullDisk = cause{Writing, "no space left"}
	deadDisk = cause{Reading, "input/output error"}
)

// Each row is a sequence of events: how long after the previous event, what fails or works, and what the log has then.
func TestOutages(t *testing.T) {
	type event struct {
		after time.Duration
		fails cause    // or
		works []string // the operations that work
		first bool     // the failure is the first of an outage
		ended int      // how many ends of outages the log has by now
	}
	for name, story := range map[string][]event{
		"one outage, many failures": {
			{fails: fullDisk, first: true},
			{fails: fullDisk},
			{after: time.Second, fails: fullDisk},
			{after: 14 * time.Minute, fails: fullDisk},
			{after: 10 * time.Second, works: []string{Writing}, ended: 1},
			{works: []string{Writing}, ended: 1},
		},
		"another one after the first": {
			{fails: fullDisk, first: true},
			{after: time.Minute, works: []string{Reading, Writing}, ended: 1},
			{fails: fullDisk, first: true, ended: 1},
			{after: time.Minute, works: []string{Writing}, ended: 2},
		},
		"a full disk can be read": {
			{fails: fullDisk, first: true}, {after: time.Minute, works: []string{Reading}}, {fails: fullDisk},
		},
		"each cause is an outage": {
			{fails: fullDisk, first: true},
			{fails: deadDisk, first: true},
			{fails: cause{Writing, noAnswer}, first: true},
			{fails: deadDisk},
			{after: time.Minute, works: []string{Reading}, ended: 1},
			{works: []string{Reading, Writing}, ended: 3},
		},
		"now it works and now it does not": {
			{fails: fullDisk, first: true},
			{after: 9 * time.Second, works: []string{Writing}},
			{fails: fullDisk},
			{after: 9 * time.Second, works: []string{Writing}},
			{fails: fullDisk},
			{after: 10 * time.Second, works: []string{Writing}, ended: 1},
		},
		"an end that nobody has seen": {
			{fails: fullDisk, first: true}, {after: 15 * time.Minute, fails: fullDisk, first: true},
		},
		"nothing has failed": {{works: []string{Reading, Writing}}},
	} {
		t.Run(name, func(t *testing.T) {
			core, logs := observer.New(zap.DebugLevel)
			clock := testclock.New()
			o := NewOutages(zap.New(core), clock.Now)
			for i, e := range story {
				clock.Advance(e.after)
				o.Worked(e.works...)
				if e.fails != (cause{}) && o.failed(e.fails) != e.first {
					t.Errorf("event %d: the first of an outage: %v", i, !e.first)
				}
				if n := logs.FilterMessage("store recovered").Len(); n != e.ended {
					t.Errorf("event %d: %d ends in the log, want %d", i, n, e.ended)
				}
			}
		})
	}
}

// The message about the end of an outage names the outage.
func TestEndOfAnOutage(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	clock := testclock.New()
	o := NewOutages(zap.New(core), clock.Now)
	for range 3 {
		o.failed(fullDisk)
		clock.Advance(time.Minute)
	}
	o.Worked(Writing)
	want := map[string]any{"what": Writing, "trouble": "no space left", "lasted": 2 * time.Minute, "failed": int64(3)}
	if lines := logs.All(); len(lines) != 1 || fmt.Sprint(lines[0].ContextMap()) != fmt.Sprint(want) {
		t.Errorf("the log has %v", lines)
	}
	if len(o.known) != 0 || o.Open() != 0 {
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
		"the file system is read-only": {&fs.PathError{Op: "open", Path: "x", Err: syscall.EROFS}},
		"no permission":                {&fs.PathError{Op: "open", Path: "x", Err: syscall.EACCES}, fs.ErrPermission},
		"too many open files":          {syscall.EMFILE},
		"input/output error":           {syscall.EIO, syscall.ESTALE},
		"the record is damaged":        {fmt.Errorf("reading: %w", storage.ErrDamaged)},
		noAnswer: {
			context.DeadlineExceeded, os.ErrDeadlineExceeded, fmt.Errorf("x: %w", context.DeadlineExceeded),
			&net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}, &net.DNSError{IsTimeout: true},
		},
		noConnection: {
			refused, fmt.Errorf("x: %w", refused), io.EOF, net.ErrClosed, syscall.EPIPE, &net.DNSError{IsNotFound: true},
		},
		"a directory in the place of a file, or the reverse": {&fs.PathError{Op: "read", Path: "x", Err: syscall.EISDIR}, syscall.ENOTDIR},
		"the store panics": {&panicError{value: "x"}},
		otherwise:          {&fs.PathError{Op: "open", Path: "x", Err: syscall.ENAMETOOLONG}, errors.New("LOADING"), context.Canceled, storage.ErrNotFound},
	} {
		for _, err := range errs {
			if got := troubleOf(err); got != want {
				t.Errorf("%v is %q, want %q", err, got, want)
			}
		}
	}
}

// Each damaged record is reported once, whatever else works or fails.
func TestEachDamagedRecordIsReportedOnce(t *testing.T) {
	now := time.Now()
	o := NewOutages(zap.NewNop(), func() time.Time { return now })
	damage := func(id string) error {
		return failureAt(t.Context(), Reading, storage.Key{Kind: "family", ID: id}, fmt.Errorf("x: %w", storage.ErrDamaged))
	}
	for n, want := range []bool{true, true, false, false} {
		id := []string{"a", "b", "a", "b"}[n]
		first, fields := o.Failed(Reading, damage(id))
		if first != want || !slices.ContainsFunc(fields, func(f zap.Field) bool { return f.Key == "record" && f.String == "family/"+id }) {
			t.Errorf("report %d: first %v, want %v; fields %v", n, first, want, fields)
		}
		now = now.Add(time.Hour)
		o.Worked(Reading)
	}
}
