package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// worker is a customer with many apps, one after the other.
type worker struct {
	c     *cluster
	id    int
	alive []*session // sessions that were not revoked
}

// stories are what can happen after an approval. n is how often, compared with the others.
var stories = []struct {
	name string
	play func(w *worker, ctx context.Context, s *session) error
	n    int
}{
	{"plain", (*worker).plain, 9},
	{"both nodes at once", (*worker).tabs, 4},
	{"code used twice at once", (*worker).codeTwice, 2},
	{"code stolen", (*worker).codeStolen, 1},
	{"code used again", (*worker).codeAgain, 2},
	{"refresh token used again", (*worker).refreshTokenAgain, 1},
	{"revoked by the app", (*worker).revokedByApp, 1},
	{"revoked by the owner", (*worker).revokedByOwner, 1},
}

// load makes all workers approve apps until there are enough approvals, while it disturbs the nodes. At the end, all sessions that
// were not revoked must be valid.
func (c *cluster) load(t *testing.T) {
	t.Helper()
	var number, left atomic.Int64
	left.Store(flows(t))
	var over atomic.Bool
	var running sync.WaitGroup
	all := make([]*worker, workers)
	for id := range all {
		all[id] = &worker{c: c, id: id}
		running.Go(func() {
			for left.Add(-1) >= 0 || !over.Load() {
				if err := all[id].approval(t.Context(), number.Add(1)); err != nil {
					t.Error(err)
					left.Store(0)
					over.Store(true)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		running.Wait()
		close(done)
	}()
	c.disturb(t, func() { over.Store(true) }, done)
	if t.Failed() {
		t.FailNow()
	}
	for id, w := range all {
		running.Go(func() {
			for n, s := range w.alive {
				if err := s.checkLine(t.Context(), n%10 == 0); err != nil {
					t.Errorf("%s, at the end: %v", customer(id), err)
				}
			}
		})
	}
	running.Wait()
}

// approval approves an app and plays one story.
func (w *worker) approval(ctx context.Context, number int64) error {
	n := int(number % storiesTotal())
	for _, story := range stories {
		if n -= story.n; n >= 0 {
			continue
		}
		for {
			s, err := w.approve(ctx)
			if err == nil {
				err = story.play(w, ctx, s)
			}
			switch {
			case errors.Is(err, errLost):
				w.c.figures.lost.Add(1)
				continue
			case err != nil:
				return fmt.Errorf("%s, %s: %w", customer(w.id), story.name, err)
			}
			w.c.figures.flows.Add(1)
			return nil
		}
	}
	return nil
}

func storiesTotal() (n int64) {
	for _, story := range stories {
		n += int64(story.n)
	}
	return n
}
