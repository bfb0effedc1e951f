package throttle

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"
	"unsafe"
)

func newTestLimiter(throttle *Throttle, limits Limits) *Limiter {
	return throttle.Limiter("default", limits, func(string) {}, func() time.Time { return epoch })
}

// A client that succeeds leaves no trace but that it is known at its address.
func TestSuccessLeavesNoBucket(t *testing.T) {
	throttle := New()
	limiter := newTestLimiter(throttle, Limits{})
	for range 100 {
		attempt, wait := limiter.Check(Client, "192.0.2.7", "billing")
		if attempt == nil {
			t.Fatalf("wait %s", wait)
		}
		attempt.Succeeded("billing")
	}
	if len(throttle.memories) != 0 || len(throttle.known.of) != 1 {
		t.Errorf("%d memories, %d known", len(throttle.memories), len(throttle.known.of))
	}
}

// An address can be a part of a long header, all of which would stay in memory with it.
func TestKeysKeepNoPartsOfRequests(t *testing.T) {
	throttle := New()
	limiter := newTestLimiter(throttle, Limits{})
	header := "192.0.2.1, 198.51.100.7"
	address := header[:9]
	limiter.Invalid(Token, "", address)
	attempt, _ := limiter.Check(Client, address, "app")
	attempt.Succeeded("app")
	kept := slices.Concat(slices.Collect(maps.Values(throttle.known.of))...)
	for _, m := range throttle.memories {
		for k, b := range m.buckets {
			kept = append(kept, k.address, b.key.address)
		}
	}
	if len(kept) != 3 {
		t.Fatalf("%q are in memory", kept)
	}
	for _, text := range kept {
		if text != "192.0.2.1" || unsafe.StringData(text) == unsafe.StringData(address) {
			t.Errorf("%s is a part of the header", text)
		}
	}
}

// A refused client can send any number of names.
func TestRefusedPartiesAreNotKept(t *testing.T) {
	throttle := New()
	limiter := newTestLimiter(throttle, Limits{})
	for n := range 500 {
		if attempt, _ := limiter.Reserve(Password, "192.0.2.7", strconv.Itoa(n)); attempt != nil {
			attempt.Failed()
		}
	}
	n := 0
	for _, m := range throttle.memories {
		n += len(m.buckets)
	}
	if n > 40 {
		t.Errorf("one address, refused since its 30th guess, left %d buckets", n)
	}
}

// Each outcome of an attempt, as often as a limit of 2 allows it.
func TestOutcomes(t *testing.T) {
	begin := map[string]func(*Limiter) (*Attempt, time.Duration){
		"Check":   func(l *Limiter) (*Attempt, time.Duration) { return l.Check(Client, "192.0.2.7", "a") },
		"Reserve": func(l *Limiter) (*Attempt, time.Duration) { return l.Reserve(Password, "192.0.2.7", "a") },
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

// addressInSite returns one of as many addresses of an IPv6 site as there are networks in it.
func addressInSite(n int) string { return fmt.Sprintf("2001:db8:1:%x::1", n) }

// Attempts with another limit do not lift a password limit that was reached.
func TestInvalidTokensDoNotLiftAPasswordLimit(t *testing.T) {
	limiter := newTestLimiter(New(), Limits{})
	for n := range 10 {
		if attempt, _ := limiter.Reserve(Password, fmt.Sprint("198.51.100.", n), "alice"); attempt != nil {
			attempt.Failed()
		}
	}
	for n := range 50_100 {
		limiter.Invalid(Token, "", addressInSite(n))
		limiter.Invalid(Grant, "spa", addressInSite(n))
		if attempt, _ := limiter.Check(Client, fmt.Sprintf("2001:db8:%x:%x::1", n>>8, n), fmt.Sprint("client", n)); attempt != nil {
			attempt.Failed()
		}
	}
	if attempt, _ := limiter.Reserve(Password, "198.51.100.99", "alice"); attempt != nil {
		t.Error("alice's password can be guessed again")
	}
}

// Nor does it help to guess at other accounts, from however many addresses.
func TestGuessesAtOthersDoNotLiftAPasswordLimit(t *testing.T) {
	throttle := New()
	limiter := newTestLimiter(throttle, Limits{})
	for n := range 10 {
		if attempt, _ := limiter.Reserve(Password, fmt.Sprint("198.51.100.", n), "alice"); attempt != nil {
			attempt.Failed()
		}
	}
	for n := range 50_100 {
		address := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}).String()
		if attempt, _ := limiter.Reserve(Password, address, fmt.Sprint("account", n)); attempt != nil {
			attempt.Failed()
		}
	}
	if attempt, _ := limiter.Reserve(Password, "198.51.100.99", "alice"); attempt != nil {
		t.Error("alice's password can be guessed again")
	}
	for space, m := range throttle.memories {
		if len(m.buckets) > maxBuckets {
			t.Errorf("%d buckets in %v", len(m.buckets), space)
		}
	}
}

// Who has a /48 has 65,536 networks of 64 bits, which count together too.
func TestNetworksOfOneSiteShareALimit(t *testing.T) {
	limits := Limits{Addresses: Limit{Burst: 3, Every: time.Minute}, Tokens: Limit{Burst: 3, Every: time.Minute}}
	for name, fail := range map[string]func(l *Limiter, address string) bool{
		"passwords": func(l *Limiter, address string) bool {
			attempt, _ := l.Reserve(Password, address, address)
			return attempt != nil
		},
		"secrets": func(l *Limiter, address string) bool {
			attempt, _ := l.Check(Client, address)
			if attempt != nil {
				attempt.Failed()
			}
			return attempt != nil
		},
		"tokens": func(l *Limiter, address string) bool { return l.Invalid(Token, "", address) == 0 },
		"codes":  func(l *Limiter, address string) bool { return l.Invalid(Grant, "spa", address) == 0 },
	} {
		t.Run(name, func(t *testing.T) {
			limiter, allowed := newTestLimiter(New(), limits), 0
			for n := range 1000 {
				if fail(limiter, addressInSite(n)) {
					allowed++
				}
			}
			if allowed != 30 {
				t.Errorf("%d failures of one site are allowed, want ten times as many as for one network", allowed)
			}
			if !fail(limiter, "2001:db8:2::1") || !fail(limiter, "192.0.2.1") {
				t.Error("another site is refused")
			}
		})
	}
}

// Wrong secrets count for a client wherever they come from, and wrong assertions only at their address: a stranger who sends them must
// not lock out the client elsewhere, also where it has not been before.
func TestFailuresOfAClient(t *testing.T) {
	const stranger, elsewhere = "192.0.2.7", "198.51.100.7"
	for kind, lockedOut := range map[Kind]bool{Client: true, Key: false} {
		limiter := newTestLimiter(New(), Limits{Clients: Limit{Burst: 3, Every: time.Minute}})
		for n := range 4 {
			attempt, _ := limiter.Check(kind, stranger, "billing")
			if (attempt != nil) != (n < 3) {
				t.Fatalf("%s: failure %d is allowed: %v", kind, n, attempt != nil)
			}
			if attempt != nil {
				attempt.Failed()
			}
		}
		if attempt, _ := limiter.Check(kind, stranger, "other"); attempt == nil {
			t.Errorf("%s: another client is locked out at the address of the stranger", kind)
		}
		if attempt, _ := limiter.Check(kind, elsewhere, "billing"); (attempt == nil) != lockedOut {
			t.Errorf("%s: the client is locked out at a new address: %v", kind, attempt == nil)
		}
	}
}

// The limits of issuers are independent, in memory too.
func TestIssuersShareNoMemory(t *testing.T) {
	throttle := New()
	one := throttle.Limiter("one", Limits{}, func(string) {}, func() time.Time { return epoch })
	other := throttle.Limiter("other", Limits{Passwords: Limit{Burst: 10, Every: 24 * time.Hour}}, func(string) {}, func() time.Time { return epoch })
	for n := range 10 {
		one.Reserve(Password, fmt.Sprint("198.51.100.", n), "alice")
	}
	for n := range 2 * maxBuckets {
		other.Reserve(Password, fmt.Sprintf("2001:db8:%x:%x::1", n>>8, n), fmt.Sprint("account", n))
	}
	if attempt, _ := one.Reserve(Password, "198.51.100.99", "alice"); attempt != nil {
		t.Error("alice's password can be guessed again")
	}
}

func TestAddressesOfOneNetwork(t *testing.T) {
	network := func(address string) string {
		own, _ := networks(address)
		return own
	}
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

func TestNetworks(t *testing.T) {
	for address, want := range map[string][2]string{
		"192.0.2.7":            {"192.0.2.7", ""},
		"::ffff:192.0.2.7":     {"192.0.2.7", ""},
		"2001:db8:1:2:3:4:5:6": {"2001:db8:1:2::/64", "2001:db8:1::/48"},
		"2001:db8:1:2::1":      {"2001:db8:1:2::/64", "2001:db8:1::/48"},
		"fe80::1%eth0":         {"fe80::/64", "fe80::/48"},
		"":                     {"", ""},
		"@":                    {"@", ""},
	} {
		if own, site := networks(address); own != want[0] || site != want[1] {
			t.Errorf("%s: %s and %s, want %s", address, own, site, want)
		}
	}
}
