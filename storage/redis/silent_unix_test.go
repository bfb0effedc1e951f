//go:build unix

package redis

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"
)

// If Redis does not answer, for example because it is stopped, an operation ends with its timeout or its context.
func TestSilent(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	s := openStore(t, "i", server.address)
	s.timeout = 300 * time.Millisecond
	allWork(t, s)
	noError(t, server.cmd.Process.Signal(syscall.SIGSTOP))
	allFail(t, s)

	s.timeout = time.Minute
	for name, do := range operations(s) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		began := time.Now()
		if err := do(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got error %v, want DeadlineExceeded", name, err)
		}
		cancel()
		if took := time.Since(began); took > soon {
			t.Errorf("%s: gave up after %s, though its context ended after 50 ms", name, took)
		}
	}
	noError(t, server.cmd.Process.Signal(syscall.SIGCONT))
	s.timeout = defaultTimeout
	eventually(t, "it works again", func() bool { _, err := s.Get(t.Context(), aFamily); return isRecordError(err) })
	allWork(t, s)
}
