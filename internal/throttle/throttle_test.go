package throttle

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var epoch = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// limitsOf returns limits by the names of the accounts they are for.
func limitsOf(byAccount map[string]Limit) (list []limited) {
	for account, limit := range byAccount {
		list = append(list, limited{key{account: account}, limit})
	}
	return list
}

// fail makes n attempts that fail, and returns how many were allowed.
func fail(throttle *Throttle, now time.Time, n int, limits []limited) (allowed int) {
	for range n {
		if _, wait := throttle.reserve(now, limits); wait == 0 {
			allowed++
		}
	}
	return allowed
}

func TestFailuresComeBackWithTime(t *testing.T) {
	throttle, limits := New(), limitsOf(map[string]Limit{"alice": {Burst: 3, Every: time.Minute}})
	for _, step := range []struct {
		elapsed time.Duration
		allowed int
	}{
		{0, 3}, {0, 0}, {59 * time.Second, 0}, {60 * time.Second, 1}, {61 * time.Second, 0}, {200 * time.Second, 2}, {24 * time.Hour, 3},
	} {
		if got := fail(throttle, epoch.Add(step.elapsed), 10, limits); got != step.allowed {
			t.Errorf("after %v, %d attempts are allowed, want %d", step.elapsed, got, step.allowed)
		}
	}
}

func TestRefusalSaysHowLongToWait(t *testing.T) {
	throttle, limits := New(), limitsOf(map[string]Limit{"alice": {Burst: 1, Every: time.Minute}, "192.0.2.7": {Burst: 1, Every: time.Hour}})
	fail(throttle, epoch, 1, limits)
	for range 3 { // a refused attempt does not extend the wait
		if reserved, wait := throttle.reserve(epoch.Add(20*time.Minute), limits); reserved != nil || wait != 40*time.Minute {
			t.Fatalf("got %v and %v", reserved, wait)
		}
	}
	if reserved, wait := throttle.reserve(epoch.Add(time.Hour), limits); reserved == nil || wait != 0 {
		t.Errorf("after the wait: got %v and %v", reserved, wait)
	}
}

// An attempt that one limit refuses costs nothing at the others: a locked account does not lock its address.
func TestRefusalCostsNothing(t *testing.T) {
	throttle := New()
	alice, address := Limit{Burst: 2, Every: time.Minute}, Limit{Burst: 5, Every: time.Minute}
	fail(throttle, epoch, 100, limitsOf(map[string]Limit{"alice": alice, "192.0.2.7": address}))
	if got := fail(throttle, epoch, 100, limitsOf(map[string]Limit{"bob": {Burst: 50, Every: time.Minute}, "192.0.2.7": address})); got != 3 {
		t.Errorf("the address has %d attempts left, want 3", got)
	}
}

// A right password returns exactly the reserved failure, however long its check takes and however many others fail meanwhile.
func TestReservationsAreGivenBack(t *testing.T) {
	limits := limitsOf(map[string]Limit{"alice": {Burst: 3, Every: time.Minute}})
	for name, meanwhile := range map[string]int{"alone": 0, "while another fails": 1, "while others fail": 2} {
		t.Run(name, func(t *testing.T) {
			throttle := New()
			right, _ := throttle.reserve(epoch, limits)
			later := epoch.Add(10 * time.Second)
			if got := fail(throttle, later, meanwhile, limits); got != meanwhile {
				t.Fatalf("%d attempts are allowed, want %d", got, meanwhile)
			}
			throttle.giveBack(later, right)
			if got := fail(throttle, later, 10, limits); got != 3-meanwhile {
				t.Errorf("then %d attempts are left, want %d", got, 3-meanwhile)
			}
			if got := fail(throttle, later.Add(time.Hour), 10, limits); got != 3 {
				t.Errorf("after an hour, %d attempts are left, want 3", got)
			}
		})
	}
	t.Run("many people at one address", func(t *testing.T) {
		throttle, now := New(), epoch
		limits := limitsOf(map[string]Limit{"192.0.2.7": {Burst: 20, Every: 10 * time.Second}})
		var checking [3][]func() // by the second in which they began
		for second := range 100 {
			for _, done := range checking[second%3] {
				done()
			}
			checking[second%3] = nil
			for range 5 {
				reserved, wait := throttle.reserve(now, limits)
				if reserved == nil {
					t.Fatalf("in second %d a right password must wait %v", second, wait)
				}
				checking[second%3] = append(checking[second%3], func() { throttle.giveBack(now, reserved) })
			}
			now = now.Add(time.Second)
		}
	})
}

func TestReservationsInParallel(t *testing.T) {
	throttle, limits := New(), limitsOf(map[string]Limit{"alice": {Burst: 10, Every: time.Minute}})
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { allowed.Add(int64(fail(throttle, epoch, 20, limits))) })
	}
	wg.Wait()
	if allowed.Load() != 10 {
		t.Errorf("%d attempts are allowed, want 10", allowed.Load())
	}
}

// Failures of many names cannot fill the memory: the oldest failures are forgotten first.
func TestMemoryIsBounded(t *testing.T) {
	throttle, limit := New(), Limit{Burst: 1, Every: time.Hour}
	for n := range maxBuckets + 1000 {
		fail(throttle, epoch.Add(time.Duration(n)*time.Millisecond), 1, limitsOf(map[string]Limit{fmt.Sprint(n): limit}))
	}
	m := throttle.memories[space{}]
	if len(m.buckets) != maxBuckets || len(m.order) != maxBuckets {
		t.Errorf("%d buckets, %d of them in order, want %d", len(m.buckets), len(m.order), maxBuckets)
	}
	now := epoch.Add(10 * time.Minute)
	for _, tt := range []struct {
		name       int
		remembered bool
	}{{maxBuckets + 999, true}, {maxBuckets, true}, {1000, true}, {999, false}, {0, false}} {
		wait := throttle.wait(now, limitsOf(map[string]Limit{fmt.Sprint(tt.name): limit}))
		if remembered := wait > 0; remembered != tt.remembered {
			t.Errorf("name %d: remembered %t, want %t", tt.name, remembered, tt.remembered)
		}
	}
}

// However many names fail once, a limit that is used up stays.
func TestExhaustedLimitIsForgottenLast(t *testing.T) {
	throttle, limit := New(), Limit{Burst: 2, Every: time.Hour}
	alice := limitsOf(map[string]Limit{"alice": limit})
	fail(throttle, epoch, 2, alice)
	for n := range 3 * maxBuckets {
		fail(throttle, epoch.Add(time.Duration(n)*time.Millisecond), 1, limitsOf(map[string]Limit{fmt.Sprint(n): limit}))
	}
	if throttle.wait(epoch.Add(3*maxBuckets*time.Millisecond), alice) == 0 {
		t.Error("alice's limit is forgotten")
	}
}

// Failures that time has made up for do not stay in memory until it is full.
func TestMemoryShrinks(t *testing.T) {
	throttle, limit := New(), Limit{Burst: 1, Every: time.Minute}
	for n := range 1000 {
		fail(throttle, epoch, 1, limitsOf(map[string]Limit{fmt.Sprint(n): limit}))
	}
	for n := range 1000 {
		fail(throttle, epoch.Add(time.Hour), 1, limitsOf(map[string]Limit{fmt.Sprint("later", n%10): limit}))
	}
	for n := range 1000 {
		fail(throttle, epoch.Add(2*time.Hour), 1, limitsOf(map[string]Limit{fmt.Sprint("last", n): limit}))
	}
	if n := len(throttle.memories[space{}].buckets); n > 1010 {
		t.Errorf("%d buckets", n)
	}
}

func TestKnownPairsAreBounded(t *testing.T) {
	throttle := New()
	for n := range maxKnown + 100 {
		throttle.known.add(key{account: fmt.Sprint(n)}, "192.0.2.1")
	}
	if len(throttle.known.of) != maxKnown || !throttle.known.has(key{account: fmt.Sprint(maxKnown + 99)}, "192.0.2.1") {
		t.Errorf("%d accounts", len(throttle.known.of))
	}
}

// A client with one password and many addresses does not push out the addresses of others.
func TestKnownAddressesOfAPartyAreBounded(t *testing.T) {
	throttle, alice, mallory := New(), key{account: "alice"}, key{account: "mallory"}
	throttle.known.add(alice, "192.0.2.1")
	for n := range 100_000 {
		throttle.known.add(mallory, fmt.Sprint(n))
	}
	if !throttle.known.has(alice, "192.0.2.1") || !throttle.known.has(mallory, "99999") || throttle.known.has(mallory, "0") {
		t.Error("alice's address or mallory's newest is forgotten, or mallory's first is not")
	}
	if n := len(throttle.known.of[mallory]); n != maxKnownAddresses {
		t.Errorf("mallory has %d addresses", n)
	}
}

func TestWaitOnlyLooks(t *testing.T) {
	throttle, limits := New(), limitsOf(map[string]Limit{"a": {Burst: 1, Every: time.Minute}})
	for range 100 {
		if wait := throttle.wait(epoch, limits); wait != 0 {
			t.Fatalf("wait %s", wait)
		}
	}
	if len(throttle.memories) != 0 {
		t.Error("looking leaves a bucket")
	}
}

func TestChargedFailuresComeBack(t *testing.T) {
	throttle, limits := New(), limitsOf(map[string]Limit{"a": {Burst: 3, Every: time.Minute}, "b": {Burst: 10, Every: time.Hour}})
	for n := range 3 {
		if wait := throttle.wait(epoch, limits); wait != 0 {
			t.Fatalf("failure %d has to wait %s", n, wait)
		}
		throttle.charge(epoch, limits)
	}
	for _, tt := range []struct{ elapsed, wait time.Duration }{
		{0, time.Minute}, {45 * time.Second, 15 * time.Second}, {time.Minute, 0},
	} {
		if wait := throttle.wait(epoch.Add(tt.elapsed), limits); wait.Round(time.Millisecond) != tt.wait {
			t.Errorf("%s later it is %s, want %s", tt.elapsed, wait, tt.wait)
		}
	}
	if wait := throttle.wait(epoch, limitsOf(map[string]Limit{"b": {Burst: 10, Every: time.Hour}})); wait != 0 {
		t.Errorf("the other limit has to wait %s", wait)
	}
}

// Time must make up for guesses that were running when the limit was reached, but not without end.
func TestFailuresBeyondTheLimit(t *testing.T) {
	for _, tt := range []struct {
		failures int
		wait     time.Duration
	}{{3, time.Minute}, {5, 3 * time.Minute}, {6, 4 * time.Minute}, {1000, 4 * time.Minute}} {
		throttle, limits := New(), limitsOf(map[string]Limit{"a": {Burst: 3, Every: time.Minute}})
		for range tt.failures {
			throttle.charge(epoch, limits)
		}
		if wait := throttle.wait(epoch, limits); wait != tt.wait {
			t.Errorf("after %d failures it is %s, want %s", tt.failures, wait, tt.wait)
		}
	}
}

func TestLimitGrowsInAReload(t *testing.T) {
	throttle := New()
	limits := func(burst int) []limited { return limitsOf(map[string]Limit{"a": {Burst: burst, Every: time.Minute}}) }
	throttle.charge(epoch, limits(1))
	for range 4 {
		throttle.charge(epoch, limits(5))
	}
	if wait := throttle.wait(epoch, limits(5)); wait != time.Minute {
		t.Errorf("with the failure under the old limit it is %s", wait)
	}
	later := epoch.Add(10 * time.Minute)
	throttle.charge(later, limits(5))
	if wait := throttle.wait(later, limits(5)); wait != 0 {
		t.Errorf("the new limit is used up for %s", wait)
	}
}

// The wait follows the current limit, however strict the one before was.
func TestLimitIsLoosenedInAReload(t *testing.T) {
	throttle := New()
	throttle.charge(epoch, limitsOf(map[string]Limit{"a": {Burst: 1, Every: 24 * time.Hour}}))
	loose := limitsOf(map[string]Limit{"a": {Burst: 1, Every: time.Second}})
	wait := throttle.wait(epoch.Add(time.Second), loose)
	now := epoch.Add(time.Second + wait)
	if wait > time.Second || throttle.wait(now, loose) != 0 {
		t.Errorf("wait %s, and then %s", wait, throttle.wait(now, loose))
	}
}
