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

// A Redis that keeps what it is told is started again: nobody loses anything.
func TestRedisRestarts(t *testing.T) {
	r := integration.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	suffer(t, onRedis(r, opaque), fault{begin: r.Kill, end: r.Start, bound: quick, lasts: 3 * time.Second, troubles: gone})
}

// A Redis that keeps nothing is started again: all have to log in again, as nobody knows them, and that is all.
func TestRedisForgets(t *testing.T) {
	r := integration.StartRedis(t)
	suffer(t, onRedis(r, opaque), fault{begin: r.Kill, end: r.Start, bound: quick, lasts: time.Second, troubles: gone, forgets: true})
}

// A Redis accepts connections and does nothing for a while. When it goes on, it does what it was sent meanwhile.
func TestRedisHangs(t *testing.T) {
	t.Parallel() // it is all waiting
	r := integration.StartRedis(t)
	suffer(t, onRedis(r, opaque), fault{
		begin: func() { must(t, pause(r.Process)) }, end: func() { must(t, resume(r.Process)) },
		bound: quick, lasts: 6 * time.Second, troubles: gone,
	})
}

// A server that starts without its Redis serves as soon as there is one.
func TestRedisComesLater(t *testing.T) {
	r := integration.StartRedis(t)
	r.Kill()
	config := onRedis(r, "")
	config.Ailing = true
	s := integration.Start(t, config)
	l := newLoad(t, s, quick, false)
	l.troubled.Store(true)
	newVisitor(t, s, l).look(t)()
	l.refusedOnce(t)
	r.Start()
	l.everybody(t, 3)
	l.troubled.Store(false)
	l.finish(t)
	s.Stop()
	checkErrors(t, s.Log(), fault{troubles: gone})
}
