package throttle

import (
	"strconv"
	"testing"
	"time"
)

func newTestLimiter(throttle *Throttle, limits Limits) *Limiter {
	return throttle.Limiter("default", limits, func(string) {}, func() time.Time { return epoch })
}

// A client that succeeds leaves no trace but that it is known at its address.
func TestSuccessLeavesNoBucket(t *testing.T) {
	throttle := New()
	limiter := newTestLimiter(throttle, Limits{})
	for range 100 {
		attempt, wait := limiter.Check(Client, "billing", "192.0.2.7")
		if attempt == nil {
			t.Fatalf("wait %s", wait)
		}
		attempt.Succeeded("billing")
	}
	if len(throttle.buckets) != 0 || len(throttle.known) != 1 {
		t.Errorf("%d buckets, %d known", len(throttle.buckets), len(throttle.known))
	}
}

// Somebody who is refused can send any number of names.
func TestRefusedPartiesAreNotKept(t *testing.T) {
	throttle := New()
	limiter := newTestLimiter(throttle, Limits{})
	for n := range 500 {
		if attempt, _ := limiter.Reserve(Password, strconv.Itoa(n), "192.0.2.7"); attempt != nil {
			attempt.Failed()
		}
	}
	if n := len(throttle.buckets); n > 40 {
		t.Errorf("one address, refused since its 30th guess, left %d buckets", n)
	}
}

// Each outcome of an attempt, as often as a limit of 2 allows it.
func TestOutcomes(t *testing.T) {
	begin := map[string]func(*Limiter) (*Attempt, time.Duration){
		"Check":   func(l *Limiter) (*Attempt, time.Duration) { return l.Check(Client, "a", "192.0.2.7") },
		"Reserve": func(l *Limiter) (*Attempt, time.Duration) { return l.Reserve(Password, "a", "192.0.2.7") },
	}
	limit := Limit{Burst: 2, Every: time.Minute}
	for name, begin := range begin {
		for _, tt := range []struct {
			outcome string
			end     func(*Attempt)
			off     bool
			allowed int
		}{
			{outcome: "succeeded", end: func(a *Attempt) { a.Succeeded("a") }, allowed: 10},
			{outcome: "failed", end: (*Attempt).Failed, allowed: 2},
			{outcome: "canceled", end: (*Attempt).Canceled, allowed: 10},
			{outcome: "failed, without limits", end: (*Attempt).Failed, off: true, allowed: 10},
			{outcome: "succeeded, without limits", end: func(a *Attempt) { a.Succeeded("a") }, off: true, allowed: 10},
		} {
			t.Run(name+"/"+tt.outcome, func(t *testing.T) {
				limiter, allowed := newTestLimiter(New(), Limits{Clients: limit, Passwords: limit, Addresses: limit, Off: tt.off}), 0
				refused := 0
				limiter.refused = func(string) { refused++ }
				for range 10 {
					if attempt, _ := begin(limiter); attempt != nil {
						tt.end(attempt)
						allowed++
					}
				}
				if allowed != tt.allowed || refused != 10-allowed {
					t.Errorf("%d attempts were allowed, %d refused, want %d", allowed, refused, tt.allowed)
				}
			})
		}
	}
}

func TestAddressesOfOneNetwork(t *testing.T) {
	for _, tt := range []struct{ address, other string }{
		{"2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"},
		{"2001:db8:1:2::1", "2001:0DB8:1:2::2"},
		{"fe80::1%eth0", "fe80::2%eth1"},
		{"192.0.2.7", "::ffff:192.0.2.7"},
	} {
		if one, two := network(tt.address), network(tt.other); one != two {
			t.Errorf("%s is in %s, %s is in %s", tt.address, one, tt.other, two)
		}
	}
	seen := map[string]string{}
	for _, address := range []string{
		"192.0.2.7", "192.0.2.8", "::ffff:192.0.2.9", "2001:db8:1:2::1", "2001:db8:1:3::1", "2001:db8:2:2::1", "::1", "", "@", "192.0.2.7:80",
	} {
		if other, ok := seen[network(address)]; ok {
			t.Errorf("%q and %q are both in %q", address, other, network(address))
		}
		seen[network(address)] = address
	}
}

func TestNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
		"2001:db8:1:2::1": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64", "": "", "@": "@",
	} {
		if got := network(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
