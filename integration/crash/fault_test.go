package crash_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// fault is a fault of the store under load.
type fault struct {
	begin, end func()

	lasts    time.Duration // how long it lasts at least
	works    bool          // the store works, but slowly
	forgets  bool          // the store loses its records
	watched  bool          // wait until the log says that the store has recovered, which takes a while
	troubles []string      // the causes that the log may name
	times    int           // how many times a process may log each cause; 0 is once
}

// opaque makes the guard read every token from the store.
const opaque = "access_token {\n format opaque\n }\n"

// withFault runs the shop under load during a fault. Every request gets a proper answer or a 503 in time, the log has each cause
// once, and after the fault all apps go on without a restart.
func withFault(t *testing.T, config integration.Config, f fault) {
	t.Helper()
	config.Ailing = true
	s := integration.Start(t, config)
	l := newLoad(t, s, false)
	l.progress(t, 5)
	v := newVisitor(t, s, l)
	v.visitAll(t)()

	l.troubled.Store(true)
	f.begin()
	began := time.Now()
	wait := v.visitAll(t)
	if f.works {
		l.progress(t, 1)
	} else {
		l.refusedOnce(t)
	}
	wait()
	l.until(t, "the fault has lasted long enough", func() bool { return time.Since(began) > f.lasts })
	f.end()
	if f.forgets {
		l.forgotten.Add(1)
	}
	t.Logf("the fault lasted %v; %s", time.Since(began).Round(time.Millisecond), &l.figures)

	took := l.progress(t, 3)
	l.troubled.Store(false)
	t.Logf("all apps made progress within %v after the fault", took.Round(time.Millisecond))
	v.visitAll(t)()
	if f.watched {
		l.until(t, "the log says that the store has recovered", func() bool {
			return bytes.Count(s.Log(), []byte("store recovered")) == len(errorsIn(s.Log()))
		})
	}
	l.finish(t)
	s.Stop()
	checkErrors(t, s.Log(), f)
}

// refusedOnce waits until every app has got a 503.
func (l *load) refusedOnce(t *testing.T) {
	t.Helper()
	goals := make([]int64, len(l.sessions))
	for i, session := range l.sessions {
		goals[i] = session.refusals.Load() + 1
	}
	l.until(t, "every app gets a 503", func() bool {
		for i, session := range l.sessions {
			if session.refusals.Load() < goals[i] {
				return false
			}
		}
		return true
	})
}

// entry is a line of the log.
type entry struct {
	Level, Logger, Msg, Cause, Error, What, Trouble string

	ErrorID string `json:"error_id"`
}

// entriesOf returns the lines of a log that this module writes, or that Caddy writes for its errors.
func entriesOf(log []byte) (entries []entry) {
	for line := range bytes.Lines(log) {
		var e entry
		if json.Unmarshal(line, &e) != nil {
			continue
		}
		if strings.Contains(e.Logger, "oauth") || strings.HasPrefix(e.Logger, "http.log.error") {
			entries = append(entries, e)
		}
	}
	return entries
}

// errorsIn returns the errors. A reuse that the store cannot record is one for each family: it is no cause of a fault.
func errorsIn(log []byte) []entry {
	return slices.DeleteFunc(entriesOf(log), func(e entry) bool {
		return e.Level != "error" || strings.HasPrefix(e.Msg, "reuse detected")
	})
}

// checkErrors checks that the log has each cause of the fault once. At level debug, it has every failure with its error ID.
func checkErrors(t *testing.T, log []byte, f fault) {
	t.Helper()
	errors := errorsIn(log)
	for _, e := range errors {
		t.Logf("%s: %s (%s, %s) %s%s", e.Logger, e.Msg, e.What, e.Trouble, e.Cause, e.Error)
		if !slices.Contains(f.troubles, e.Trouble) {
			t.Error("this is not a cause of the fault")
		}
	}
	more := slices.DeleteFunc(entriesOf(log), func(e entry) bool { return e.Level != "debug" || e.ErrorID == "" })
	t.Logf("the log has %d errors, and %d more failures at debug", len(errors), len(more))
	if most := 2 * len(f.troubles) * max(f.times, 1); len(errors) > most { // reading and writing
		t.Errorf("the log has %d errors, want %d at most", len(errors), most)
	}
	if len(f.troubles) > 0 && len(errors) == 0 {
		t.Error("the log does not have the fault")
	}
}
