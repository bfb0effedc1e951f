package crash_test

import (
	"errors"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// stopped is how long the node is stopped. It is longer than the server waits for its store, so that running requests time out
// although the store has executed them.
const stopped = 8 * time.Second

// A node is stopped under load (SIGSTOP) and continues after a while. No app loses its session.
func TestStoppedNode(t *testing.T) {
	t.Parallel()
	stopAndGoOn(t, integration.Start(t, ailing(shop(""))))
}

func TestStoppedNodeOnRedis(t *testing.T) {
	t.Parallel()
	r := integration.StartRedis(t)
	stopAndGoOn(t, integration.Start(t, ailing(shop("store redis "+r.Address+"\n"))))
}

// ailing returns a configuration whose log may have errors: to the process it seems that its store did not answer.
func ailing(config integration.Config) integration.Config {
	config.Ailing = true
	return config
}

func stopAndGoOn(t *testing.T, s *integration.Server) {
	t.Helper()
	l := newLoad(t, s, true)
	l.progress(t, 5)
	l.troubled.Store(true)
	for range 2 {
		if err := pause(s.Process()); errors.Is(err, errors.ErrUnsupported) {
			t.Skip("this system cannot stop a process")
		} else if err != nil {
			t.Fatal(err)
		}
		<-time.After(stopped)
		must(t, resume(s.Process()))
		l.progress(t, 5)
	}
	l.troubled.Store(false)
	l.progress(t, 3)
	l.finish(t)
	if n := l.figures.forgotten.Load(); n > 0 {
		t.Errorf("%d sessions were lost", n)
	}
}
