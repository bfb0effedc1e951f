package authserver

import (
	"fmt"
	"testing"
	"time"
)

func TestLookTakesNothing(t *testing.T) {
	throttle, limits := NewThrottle(), bounds(map[string]Limit{"a": {Burst: 1, Every: time.Minute}})
	for range 100 {
		if after := throttle.look(epoch, limits); after != 0 {
			t.Fatalf("after %s", after)
		}
	}
	if len(throttle.guards) != 0 {
		t.Error("looking leaves a trace")
	}
}

func TestFailuresAreGivenBack(t *testing.T) {
	throttle, limits := NewThrottle(), bounds(map[string]Limit{"a": {Burst: 3, Every: time.Minute}, "b": {Burst: 10, Every: time.Hour}})
	for n := range 3 {
		if after := throttle.look(epoch, limits); after != 0 {
			t.Fatalf("failure %d has to wait %s", n, after)
		}
		throttle.charge(epoch, limits)
	}
	for _, tt := range []struct{ elapsed, after time.Duration }{
		{0, time.Minute}, {45 * time.Second, 15 * time.Second}, {time.Minute, 0},
	} {
		if after := throttle.look(epoch.Add(tt.elapsed), limits); after.Round(time.Millisecond) != tt.after {
			t.Errorf("%s later it is %s, want %s", tt.elapsed, after, tt.after)
		}
	}
	if after := throttle.look(epoch, bounds(map[string]Limit{"b": {Burst: 10, Every: time.Hour}})); after != 0 {
		t.Errorf("the other limit has to wait %s", after)
	}
}

// Guesses that were under way when the limit was used up are worked off, but not for ever.
func TestFailuresBeyondTheLimitAreOwed(t *testing.T) {
	for _, tt := range []struct {
		failures int
		after    time.Duration
	}{{3, time.Minute}, {5, 3 * time.Minute}, {6, 4 * time.Minute}, {1000, 4 * time.Minute}} {
		throttle, limits := NewThrottle(), bounds(map[string]Limit{"a": {Burst: 3, Every: time.Minute}})
		for range tt.failures {
			throttle.charge(epoch, limits)
		}
		if after := throttle.look(epoch, limits); after != tt.after {
			t.Errorf("after %d failures it is %s, want %s", tt.failures, after, tt.after)
		}
	}
}

func TestLimitThatChanges(t *testing.T) {
	throttle := NewThrottle()
	limits := func(burst int) []bound { return bounds(map[string]Limit{"a": {Burst: burst, Every: time.Minute}}) }
	throttle.charge(epoch, limits(1))
	later := epoch.Add(10 * time.Minute)
	for range 4 {
		throttle.charge(later, limits(5))
	}
	if after := throttle.look(later, limits(5)); after == 0 {
		t.Error("the limit before it grew does not count")
	}
	later = later.Add(10 * time.Minute)
	throttle.charge(later, limits(5))
	if after := throttle.look(later, limits(5)); after != 0 {
		t.Errorf("the limit that has grown is used up for %s", after)
	}
}

func TestPairsAreBounded(t *testing.T) {
	throttle := NewThrottle()
	for n := range maxPairs + 100 {
		throttle.know(throttleKey{party: fmt.Sprint(n)})
	}
	if len(throttle.pairs) != maxPairs || !throttle.knows(throttleKey{party: fmt.Sprint(maxPairs + 99)}) {
		t.Errorf("%d pairs", len(throttle.pairs))
	}
}

func TestNetworkOfAnAddress(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
		"2001:db8:1:2::1": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64", "": "", "@": "@",
	} {
		if got := network(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
