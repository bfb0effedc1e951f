// Package throttle bounds how often somebody can guess a secret or present invalid tokens. Each client, account and
// address may fail a number of times at once, and gets those failures back over time. Successes cost nothing.
//
// Start reading at [Limiter], which is what an issuer uses. [Throttle] is the memory behind it, which survives a reload
// of the configuration.
package throttle

import (
	"container/list"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Throttle remembers failures, of a bounded number of clients, accounts and addresses: when it is full, it forgets the
// one whose last failure is the oldest. Safe for concurrent use.
type Throttle struct {
	mu      sync.RWMutex
	buckets map[key]*list.Element // of *bucket
	recent  list.List             // the buckets, the one that failed last in front
	known   map[key]struct{}      // see remember
}

// key is whose failures are counted together. Keys stay in memory, so a string that a request can make long must be
// hashed first.
type key struct {
	issuer  string
	kind    Kind
	party   string // "" for anybody at the address
	address string // "" for the party at any address
}

// bucket counts the failures of one key.
type bucket struct {
	key     key
	limiter *rate.Limiter // has a token for each failure that is still allowed
}

// limited is a key with its limit.
type limited struct {
	key   key
	limit Limit
}

// Limit is how many failures are allowed at once, and how long it takes to get one back.
type Limit struct {
	Burst int
	Every time.Duration
}

const (
	maxBuckets = 50_000
	maxKnown   = 50_000
)

// New returns an empty Throttle.
func New() *Throttle {
	return &Throttle{buckets: make(map[key]*list.Element), known: make(map[key]struct{})}
}

// wait returns how long to wait until every limit allows an attempt, 0 for not at all. It only looks, so that any
// number of attempts that will succeed can run at once.
func (t *Throttle) wait(now time.Time, limits []limited) time.Duration {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.waitLocked(now, limits)
}

func (t *Throttle) waitLocked(now time.Time, limits []limited) (wait time.Duration) {
	for _, l := range limits {
		e, ok := t.buckets[l.key]
		if !ok {
			continue
		}
		limiter := e.Value.(*bucket).limiter
		adjust(limiter, now, l.limit)
		if missing := 1 - limiter.TokensAt(now); missing > 0 {
			wait = max(wait, time.Duration(missing*float64(l.limit.Every)))
		}
	}
	return wait
}

// reserve takes a failure from every limit, which giveBack returns, or from none and says how long to wait.
func (t *Throttle) reserve(now time.Time, limits []limited) (reserved []*rate.Limiter, wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if wait := t.waitLocked(now, limits); wait > 0 {
		return nil, wait // without a new bucket: refused attempts must not push failures out of memory
	}
	for _, l := range limits {
		limiter := t.limiter(now, l.key, l.limit)
		wait = max(wait, limiter.ReserveN(now, 1).DelayFrom(now))
		reserved = append(reserved, limiter)
	}
	if wait > 0 {
		giveBack(now, reserved)
		return nil, wait
	}
	return reserved, 0
}

// giveBack returns what reserve took. rate.Reservation.Cancel would return less, the more others have reserved since.
func giveBack(now time.Time, reserved []*rate.Limiter) {
	for _, limiter := range reserved {
		limiter.ReserveN(now, -1)
	}
}

// charge counts a failure. It goes below zero for attempts that were already running when the limit was reached, at
// most by the burst: nothing more is allowed until time has made up for them.
func (t *Throttle) charge(now time.Time, limits []limited) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range limits {
		if limiter := t.limiter(now, l.key, l.limit); limiter.TokensAt(now) > -float64(l.limit.Burst) {
			limiter.ReserveN(now, 1)
		}
	}
}

// remember notes that a party has authenticated from an address: failures elsewhere must not lock it out there. When
// the memory is full, it forgets an arbitrary pair.
func (t *Throttle) remember(pair key) {
	if t.knows(pair) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for other := range t.known {
		if len(t.known) < maxKnown {
			break
		}
		delete(t.known, other)
	}
	t.known[pair] = struct{}{}
}

func (t *Throttle) knows(pair key) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	_, ok := t.known[pair]
	return ok
}

// limiter returns the limiter of a key, which it makes if there is none.
func (t *Throttle) limiter(now time.Time, k key, limit Limit) *rate.Limiter {
	if e, ok := t.buckets[k]; ok {
		t.recent.MoveToFront(e)
		limiter := e.Value.(*bucket).limiter
		adjust(limiter, now, limit)
		return limiter
	}
	if len(t.buckets) >= maxBuckets {
		oldest := t.recent.Back()
		delete(t.buckets, oldest.Value.(*bucket).key)
		t.recent.Remove(oldest)
	}
	b := &bucket{k, rate.NewLimiter(rate.Every(limit.Every), limit.Burst)}
	t.buckets[k] = t.recent.PushFront(b)
	return b.limiter
}

// adjust gives a limiter the limit of the current configuration, which a reload may have changed.
func adjust(limiter *rate.Limiter, now time.Time, limit Limit) {
	if limiter.Burst() != limit.Burst || limiter.Limit() != rate.Every(limit.Every) {
		limiter.SetBurstAt(now, limit.Burst)
		limiter.SetLimitAt(now, rate.Every(limit.Every))
	}
}
