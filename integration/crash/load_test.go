package crash_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// load runs all sessions at the same time.
type load struct {
	sessions []*session
	figures  figures

	forgotten atomic.Int64 // how often the store has lost all records
	troubled  atomic.Bool  // the store has a fault, or had one just before

	over    atomic.Bool
	running sync.WaitGroup
	failed  chan struct{} // closed when a session fails
	fail    sync.Once
}

// newLoad starts the load, which runs until the test ends.
func newLoad(t *testing.T, s *integration.Server, replays bool) *load {
	t.Helper()
	l := &load{failed: make(chan struct{})}
	for i := range customers {
		l.sessions = append(l.sessions, &session{
			client: &client{
				site: s, http: s.Client(t), person: customer(i), figures: &l.figures, refusals: new(atomic.Int64),
			},
			replays: replays, forgotten: &l.forgotten, troubled: &l.troubled,
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	for i, session := range l.sessions {
		l.running.Go(func() {
			for !l.over.Load() {
				if err := session.step(ctx); err != nil {
					if !errors.Is(err, context.Canceled) {
						t.Errorf("%s: %v", customer(i), err)
					}
					l.fail.Do(func() { close(l.failed) })
					return
				}
			}
		})
	}
	t.Cleanup(func() { // also if the test ends early
		l.over.Store(true)
		cancel()
		l.running.Wait()
	})
	return l
}

// progress waits until every session has made a number of steps, and returns how long that took.
func (l *load) progress(t *testing.T, steps int64) time.Duration {
	t.Helper()
	began := time.Now()
	goals := make([]int64, len(l.sessions))
	for i, session := range l.sessions {
		goals[i] = session.steps.Load() + steps
	}
	l.until(t, "all apps make progress", func() bool {
		for i, session := range l.sessions {
			if session.steps.Load() < goals[i] {
				return false
			}
		}
		return true
	})
	return time.Since(began)
}

// until waits for a condition, or ends the test if a session fails.
func (l *load) until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * integration.Patience); !condition(); time.Sleep(5 * time.Millisecond) {
		select {
		case <-l.failed:
			t.FailNow() // the session has reported why
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting until %s: %s", what, &l.figures)
		}
	}
}

// finish ends the load, and checks all tokens of the sessions.
func (l *load) finish(t *testing.T) {
	t.Helper()
	l.over.Store(true)
	l.running.Wait()
	var finishing sync.WaitGroup
	for i, session := range l.sessions {
		finishing.Go(func() {
			if err := session.finish(t.Context()); err != nil {
				t.Errorf("%s, at the end: %v", customer(i), err)
			}
		})
	}
	finishing.Wait()
	t.Log(&l.figures)
}
