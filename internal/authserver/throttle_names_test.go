package authserver

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// Names can be as long as a body, and as many as somebody has the time for.
func TestRefusedNamesAreNotKept(t *testing.T) {
	throttle := NewThrottle()
	gate := newGate(throttle, Limits{}, "default", func(string) {}, func() time.Time { return epoch })
	long := strings.Repeat("a", 60<<10)
	for n := range 500 {
		gate.throttle.try(epoch, gate.secrets(throttledPassword, gate.limits.Passwords, long+strconv.Itoa(n), "192.0.2.7"))
	}
	size := 0
	for key := range throttle.guards {
		size += len(key)
	}
	if len(throttle.guards) > 40 || size > 1<<20 {
		t.Errorf("one address that is refused since its 30th guess left %d names of %d bytes", len(throttle.guards), size)
	}
}

// Who has to wait waits no longer than the limit of today says, however strict that of before was.
func TestLimitThatIsLoosened(t *testing.T) {
	throttle, key := NewThrottle(), "a"
	old := map[string]Limit{key: {Burst: 1, Every: 24 * time.Hour}}
	throttle.charge(epoch, old)
	loose := map[string]Limit{key: {Burst: 1, Every: time.Second}}
	after := throttle.look(epoch.Add(time.Second), loose)
	now := epoch.Add(time.Second + after)
	if after > time.Second || throttle.look(now, loose) != 0 {
		t.Errorf("told to come back after %s, and then after %s", after, throttle.look(now, loose))
	}
}
