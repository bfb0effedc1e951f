package authserver

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
)

// Names can be as long as a body, and as many as somebody has the time for.
func TestRefusedNamesAreNotKept(t *testing.T) {
	throttle := NewThrottle()
	gate := newGate(throttle, Limits{}, "default", func(string) {}, func() time.Time { return epoch })
	long := strings.Repeat("a", 60<<10)
	guesses := throttled{nobodysPassword{}, &Server{gate: gate, now: gate.now}, "192.0.2.7"}
	for n := range 500 {
		if _, err := guesses.Verify(t.Context(), long+strconv.Itoa(n), "a guess"); err == nil {
			t.Fatal("a guess is right")
		}
	}
	size := 0
	for key := range throttle.guards {
		size += len(key.issuer) + len(key.kind) + len(key.party) + len(key.address)
	}
	if len(throttle.guards) > 40 || size > 1<<20 {
		t.Errorf("one address that is refused since its 30th guess left %d names of %d bytes", len(throttle.guards), size)
	}
}

type nobodysPassword struct{}

func (nobodysPassword) Verify(context.Context, string, string) (*grants.Person, error) {
	return nil, grants.ErrBadUser
}

// Who has to wait waits no longer than the limit of today says, however strict that of before was.
func TestLimitThatIsLoosened(t *testing.T) {
	throttle, key := NewThrottle(), "a"
	old := bounds(map[string]Limit{key: {Burst: 1, Every: 24 * time.Hour}})
	throttle.charge(epoch, old)
	loose := bounds(map[string]Limit{key: {Burst: 1, Every: time.Second}})
	after := throttle.look(epoch.Add(time.Second), loose)
	now := epoch.Add(time.Second + after)
	if after > time.Second || throttle.look(now, loose) != 0 {
		t.Errorf("told to come back after %s, and then after %s", after, throttle.look(now, loose))
	}
}
