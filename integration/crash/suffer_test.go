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

// fault is something that happens to the store under load.
type fault struct {
	begin, end func()

	bound    time.Duration // of every answer
	lasts    time.Duration // at least
	works    bool          // it slows the store down and no more
	forgets  bool          // the store forgets what it had
	watched  bool          // until the log says that it is over, which takes a while
	troubles []string      // what the log may call it
	times    int           // how often a process has to tell of it; 0 is once
}

// opaque makes the guard ask the store for every token.
const opaque = "access_token {\n format opaque\n }\n"

// quick is within what time an answer comes where nothing hangs, on a busy machine.
const quick = 10 * time.Second

// suffer runs the shop under load while there is a fault. All that anybody is told is an answer or to come again, and
// soon; the log tells of it once; and when it is over, all goes on by itself as if nothing had been.
func suffer(t *testing.T, config integration.Config, f fault) {
	t.Helper()
	config.Ailing = true
	s := integration.Start(t, config)
	l := newLoad(t, s, f.bound, false)
	l.everybody(t, 5)
	v := newVisitor(t, s, l)
	v.look(t)()

	l.troubled.Store(true)
	f.begin()
	began := time.Now()
	look := v.look(t)
	if f.works {
		l.everybody(t, 1)
	} else {
		l.refusedOnce(t)
	}
	look()
	l.until(t, "the fault has lasted", func() bool { return time.Since(began) > f.lasts })
	f.end()
	if f.forgets {
		l.forgotten.Add(1)
	}
	t.Logf("the fault lasted %v; %s", time.Since(began).Round(time.Millisecond), &l.figures)

	took := l.everybody(t, 3)
	l.troubled.Store(false)
	t.Logf("all got on within %v after it", took.Round(time.Millisecond))
	v.look(t)()
	if f.watched {
		l.until(t, "the log says that all works again", func() bool {
			return bytes.Count(s.Log(), []byte("store recovered")) == len(errorsIn(s.Log()))
		})
	}
	l.finish(t)
	s.Stop()
	checkErrors(t, s.Log(), f)
}

// refusedOnce waits until everybody has been told to come again.
func (l *load) refusedOnce(t *testing.T) {
	t.Helper()
	goals := make([]int64, len(l.sessions))
	for i, session := range l.sessions {
		goals[i] = session.refusals.Load() + 1
	}
	l.until(t, "all are told to come again", func() bool {
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

// entriesOf returns the lines of a log that are ours, or that Caddy writes for what we return.
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

func errorsIn(log []byte) []entry {
	return slices.DeleteFunc(entriesOf(log), func(e entry) bool { return e.Level != "error" })
}

// checkErrors checks that the log tells of the fault, and for each cause once; at debug it has every failure by its id.
func checkErrors(t *testing.T, log []byte, f fault) {
	t.Helper()
	told := errorsIn(log)
	for _, e := range told {
		t.Logf("%s: %s (%s, %s) %s%s", e.Logger, e.Msg, e.What, e.Trouble, e.Cause, e.Error)
		if !slices.Contains(f.troubles, e.Trouble) {
			t.Error("that is no trouble of this kind")
		}
	}
	more := slices.DeleteFunc(entriesOf(log), func(e entry) bool { return e.Level != "debug" || e.ErrorID == "" })
	t.Logf("the log has %d errors, and %d more failures at debug", len(told), len(more))
	if most := 2 * len(f.troubles) * max(f.times, 1); len(told) > most { // reading and writing
		t.Errorf("%d errors are in the log, want %d at most", len(told), most)
	}
	if len(f.troubles) > 0 && len(told) == 0 {
		t.Error("the log does not tell of it")
	}
}
