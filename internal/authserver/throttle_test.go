package authserver

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// bounds returns limits by the names of what they are for.
func bounds(limits map[string]Limit) (list []bound) {
	for name, limit := range limits {
		list = append(list, bound{throttleKey{party: name}, limit})
	}
	return list
}

// fails tries n times to no avail, and returns how many tries there were.
func fails(throttle *Throttle, now time.Time, n int, limits []bound) (tries int) {
	for range n {
		if try, _ := throttle.try(now, limits); try != nil {
			tries++
		}
	}
	return tries
}

func TestThrottleComesBackWithTime(t *testing.T) {
	throttle, limits := NewThrottle(), bounds(map[string]Limit{"alice": {Burst: 3, Every: time.Minute}})
	for _, step := range []struct {
		after time.Duration // the start
		tries int
	}{
		{0, 3}, {0, 0}, {59 * time.Second, 0}, {60 * time.Second, 1}, {61 * time.Second, 0}, {200 * time.Second, 2}, {24 * time.Hour, 3},
	} {
		if got := fails(throttle, epoch.Add(step.after), 10, limits); got != step.tries {
			t.Errorf("after %v there are %d tries, want %d", step.after, got, step.tries)
		}
	}
}

func TestThrottleSaysWhen(t *testing.T) {
	throttle, limits := NewThrottle(), bounds(map[string]Limit{"alice": {Burst: 1, Every: time.Minute}, "192.0.2.7": {Burst: 1, Every: time.Hour}})
	fails(throttle, epoch, 1, limits)
	for range 3 { // that somebody asks does not put it off
		if try, after := throttle.try(epoch.Add(20*time.Minute), limits); try != nil || after != 40*time.Minute {
			t.Fatalf("got %v and %v", try, after)
		}
	}
	if try, after := throttle.try(epoch.Add(time.Hour), limits); try == nil || after != 0 {
		t.Errorf("when it said: got %v and %v", try, after)
	}
}

// A try that one limit refuses costs nothing at the others: a locked account does not lock its address.
func TestThrottleRefusalCostsNothing(t *testing.T) {
	throttle := NewThrottle()
	alice, address := Limit{Burst: 2, Every: time.Minute}, Limit{Burst: 5, Every: time.Minute}
	fails(throttle, epoch, 100, bounds(map[string]Limit{"alice": alice, "192.0.2.7": address}))
	if got := fails(throttle, epoch, 100, bounds(map[string]Limit{"bob": {Burst: 50, Every: time.Minute}, "192.0.2.7": address})); got != 3 {
		t.Errorf("%d tries are left to the address, want 3", got)
	}
}

// However long a right password takes to check, and whoever tries meanwhile: it costs nothing, and it is no gift.
func TestThrottleForgives(t *testing.T) {
	limits := bounds(map[string]Limit{"alice": {Burst: 3, Every: time.Minute}})
	for name, meanwhile := range map[string]int{"alone": 0, "while another fails": 1, "while others fail": 2} {
		t.Run(name, func(t *testing.T) {
			throttle := NewThrottle()
			right, _ := throttle.try(epoch, limits)
			later := epoch.Add(10 * time.Second)
			if got := fails(throttle, later, meanwhile, limits); got != meanwhile {
				t.Fatalf("%d tries, want %d", got, meanwhile)
			}
			right.forgive(later)
			if got := fails(throttle, later, 10, limits); got != 3-meanwhile {
				t.Errorf("then %d tries are left, want %d", got, 3-meanwhile)
			}
			if got := fails(throttle, later.Add(time.Hour), 10, limits); got != 3 {
				t.Errorf("an hour later %d tries are left, want 3", got)
			}
		})
	}
	t.Run("a crowd at one address", func(t *testing.T) {
		throttle, now := NewThrottle(), epoch
		var checked [3][]*attempt // by the second in which they began
		for second := range 100 {
			for _, right := range checked[second%3] {
				right.forgive(now)
			}
			checked[second%3] = nil
			for range 5 {
				try, after := throttle.try(now, bounds(map[string]Limit{"192.0.2.7": {Burst: 20, Every: 10 * time.Second}}))
				if try == nil {
					t.Fatalf("in second %d a right password must wait %v", second, after)
				}
				checked[second%3] = append(checked[second%3], try)
			}
			now = now.Add(time.Second)
		}
	})
}

func TestThrottleInACrowd(t *testing.T) {
	throttle, limits := NewThrottle(), bounds(map[string]Limit{"alice": {Burst: 10, Every: time.Minute}})
	var tries atomic.Int64
	var crowd sync.WaitGroup
	for range 50 {
		crowd.Go(func() {
			for range 20 {
				if try, _ := throttle.try(epoch, limits); try != nil {
					tries.Add(1)
				}
			}
		})
	}
	crowd.Wait()
	if tries.Load() != 10 {
		t.Errorf("%d tries, want 10", tries.Load())
	}
}

// Who has many names cannot fill the memory; what is forgotten for it is what failed longest ago.
func TestThrottleIsBounded(t *testing.T) {
	throttle, limit := NewThrottle(), Limit{Burst: 1, Every: time.Hour}
	for n := range maxGuards + 1000 {
		throttle.try(epoch, bounds(map[string]Limit{fmt.Sprint(n): limit}))
	}
	if n := len(throttle.guards); n != maxGuards || throttle.order.Len() != n {
		t.Errorf("there are %d names, %d of them in order, want %d", n, throttle.order.Len(), maxGuards)
	}
	for _, tt := range []struct {
		name       int
		remembered bool
	}{{maxGuards + 999, true}, {maxGuards, true}, {1000, true}, {999, false}, {0, false}} {
		if try, _ := throttle.try(epoch, bounds(map[string]Limit{fmt.Sprint(tt.name): limit})); (try == nil) != tt.remembered {
			t.Errorf("name %d: remembered %t, want %t", tt.name, try == nil, tt.remembered)
		}
	}
}

func TestNetwork(t *testing.T) {
	for _, tt := range []struct{ address, other string }{
		{"2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"},
		{"2001:db8:1:2::1", "2001:0DB8:1:2::2"},
		{"fe80::1%eth0", "fe80::2%eth1"},
		{"192.0.2.7", "::ffff:192.0.2.7"},
	} {
		if one, two := network(tt.address), network(tt.other); one != two {
			t.Errorf("%s is of %s, %s is of %s", tt.address, one, tt.other, two)
		}
	}
	seen := map[string]string{}
	for _, address := range []string{
		"192.0.2.7", "192.0.2.8", "::ffff:192.0.2.9", "2001:db8:1:2::1", "2001:db8:1:3::1", "2001:db8:2:2::1", "::1", "", "@", "192.0.2.7:80",
	} {
		if other, ok := seen[network(address)]; ok {
			t.Errorf("%q and %q are both of %q", address, other, network(address))
		}
		seen[network(address)] = address
	}
}
