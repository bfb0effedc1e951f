package crash_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// A node is killed at random moments under load, and started again, many times. No app may lose anything but answers, which it
// gets again with a retry. In full:
//
//	CADDY_OAUTH_TEST_KILLS=200 go test ./integration/crash -run TestKill -v -timeout 60m
func TestKill(t *testing.T) {
	t.Parallel()
	s := integration.Start(t, shop(""))
	kill(t, s, 10, filesIn(s.Storage))
}

func TestKillOnRedis(t *testing.T) {
	t.Parallel()
	r := integration.StartRedis(t)
	s := integration.Start(t, shop(r.Store()+"\n"))
	kill(t, s, 5, redisAt(t, r.Address))
}

// kill kills the node under load. No answer may be 503: a lock that a dead process left behind lives longer than the node waits
// for its store.
func kill(t *testing.T, s *integration.Server, kills int, store storage.Store) {
	t.Helper()
	if text := os.Getenv("CADDY_OAUTH_TEST_KILLS"); text != "" {
		var err error
		kills, err = strconv.Atoi(text)
		must(t, err)
	}
	l := newLoad(t, s, true)
	records, slowest := 0, time.Duration(0)
	for n := range kills {
		l.progress(t, 2)
		<-time.After(anyTime(300 * time.Millisecond))
		s.Kill()
		records = walk(t, store)
		if n%5 == 4 { // kill it also while it starts
			s.Begin()
			<-time.After(anyTime(time.Second))
			s.Kill()
			walk(t, store)
		}
		s.Run()
		slowest = max(slowest, l.progress(t, 1))
	}
	l.progress(t, 2)
	l.finish(t)
	if n := l.figures.unavailable.Load(); n > 0 {
		t.Errorf("%d answers were 503, though the store was never away", n)
	}
	s.Stop()
	t.Logf("%d kills, after each of which all apps made progress within %v; %d records at the end, %d at the last kill",
		kills, slowest.Round(time.Millisecond), walk(t, store), records)
}

// anyTime returns a random time.
func anyTime(most time.Duration) time.Duration {
	return rand.N(most)
}
