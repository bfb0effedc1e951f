package crash_test

import (
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

func onRedis(r *integration.Redis, settings string) integration.Config {
	return shop(settings + "store redis " + r.Address + "\n")
}

var gone = []string{"no connection", "no answer in time", "another error"}

// A Redis that persists its records is restarted. No client loses anything.
func TestRedisRestarts(t *testing.T) {
	t.Parallel()
	r := integration.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	withFault(t, onRedis(r, opaque), fault{begin: r.Kill, end: r.Start, lasts: 3 * time.Second, troubles: gone})
}

// A Redis without persistence is restarted. All people have to log in again, and nothing else happens.
func TestRedisForgets(t *testing.T) {
	t.Parallel()
	r := integration.StartRedis(t)
	withFault(t, onRedis(r, opaque), fault{begin: r.Kill, end: r.Start, lasts: time.Second, troubles: gone, forgets: true})
}

// A Redis accepts connections but answers nothing for a while. Then it executes the commands that it received in the meantime.
func TestRedisHangs(t *testing.T) {
	t.Parallel()
	r := integration.StartRedis(t)
	withFault(t, onRedis(r, opaque), fault{
		begin: func() { must(t, pause(r.Process)) }, end: func() { must(t, resume(r.Process)) },
		lasts: 6 * time.Second, troubles: gone,
	})
}

// A server that starts before its Redis serves as soon as the Redis runs.
func TestRedisComesLater(t *testing.T) {
	t.Parallel()
	r := integration.StartRedis(t)
	r.Kill()
	config := onRedis(r, "")
	config.Ailing = true
	s := integration.Start(t, config)
	l := newLoad(t, s, false)
	l.troubled.Store(true)
	newVisitor(t, s, l).visitAll(t)()
	l.refusedOnce(t)
	r.Start()
	l.progress(t, 3)
	l.troubled.Store(false)
	l.finish(t)
	s.Stop()
	checkErrors(t, s.Log(), fault{troubles: gone})
}
