package crash_test

import (
	"errors"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// stopped is how long the node stands still. It is longer than the server waits for its store, so that requests under way have
// failed when it goes on, though what they asked for was done.
const stopped = 15 * time.Second

// A node is stopped by its machine in the middle of everything, and goes on as if no time had passed. No app loses its session.
func TestStoppedNode(t *testing.T) {
	t.Parallel() // it is all waiting
	stopAndGoOn(t, integration.Start(t, ailing(shop(""))))
}

func TestStoppedNodeOnRedis(t *testing.T) {
	t.Parallel()
	r := integration.StartRedis(t)
	stopAndGoOn(t, integration.Start(t, ailing(shop("store redis "+r.Address+"\n"))))
}

// ailing is a configuration whose log may have errors: to the process it looks as if its store had not answered.
func ailing(config integration.Config) integration.Config {
	config.Ailing = true
	return config
}

func stopAndGoOn(t *testing.T, s *integration.Server) {
	t.Helper()
	l := newLoad(t, s, stopped+integration.Patience, true)
	l.everybody(t, 5)
	l.troubled.Store(true)
	for range 2 {
		if err := pause(s.Process()); errors.Is(err, errors.ErrUnsupported) {
			t.Skip("a process cannot be stopped here")
		} else if err != nil {
			t.Fatal(err)
		}
		<-time.After(stopped)
		must(t, resume(s.Process()))
		l.everybody(t, 5)
	}
	l.troubled.Store(false)
	l.everybody(t, 3)
	l.finish(t)
	if n := l.figures.forgotten.Load(); n > 0 {
		t.Errorf("%d sessions are gone", n)
	}
}
