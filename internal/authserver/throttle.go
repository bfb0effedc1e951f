package authserver

import (
	"container/list"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Throttle bounds how often somebody can be wrong: each account, client and address has a number of failures that
// it gets back over time. Successes cost nothing. It keeps a bounded number of them, those that failed last. Safe for
// concurrent use.
type Throttle struct {
	mu     sync.RWMutex
	guards map[throttleKey]*list.Element // of *guard
	order  list.List                     // the one that failed last in front
	pairs  map[throttleKey]struct{}      // see know
}

// throttleKey is what is bounded. It is kept: what a request can make long must come as a hash.
type throttleKey struct{ issuer, kind, party, address string }

type guard struct {
	key     throttleKey
	limiter *rate.Limiter
}

// bound is a limit of something.
type bound struct {
	key   throttleKey
	limit Limit
}

// Limit is how many failures are let through at once, and how long it takes to get one back.
type Limit struct {
	Burst int
	Every time.Duration
}

const (
	maxGuards = 50_000
	maxPairs  = 50_000
)

// NewThrottle returns a Throttle that has seen no failure.
func NewThrottle() *Throttle {
	return &Throttle{guards: make(map[throttleKey]*list.Element), pairs: make(map[throttleKey]struct{})}
}

// attempt is a try whose outcome is open. It counts as a failure until it is known to be none, so that many at once
// cannot get past the limit together.
type attempt struct{ limiters []*rate.Limiter }

// try begins an attempt that is bounded by all of the limits. If one is used up, there is no attempt, and after is when
// to try again.
func (t *Throttle) try(now time.Time, limits []bound) (a *attempt, after time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if after := t.missing(now, limits); after > 0 {
		return nil, after // and nothing is remembered of it, or refusals would crowd out what failed
	}
	a = new(attempt)
	for _, b := range limits {
		limiter := t.limiter(now, b.key, b.limit)
		after = max(after, limiter.ReserveN(now, 1).DelayFrom(now))
		a.limiters = append(a.limiters, limiter)
	}
	if after > 0 {
		a.forgive(now)
		return nil, after
	}
	return a, 0
}

// forgive gives back what an attempt took: it was no failure. To cancel the reservation would not do, since that
// gives back less the more others have tried meanwhile.
func (a *attempt) forgive(now time.Time) {
	for _, limiter := range a.limiters {
		limiter.ReserveN(now, -1)
	}
}

// look returns when to try again if one of the limits is used up, and else 0. It takes nothing and leaves no trace, so
// that any number of requests that turn out well may be under way at once.
func (t *Throttle) look(now time.Time, limits []bound) (after time.Duration) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.missing(now, limits)
}

// missing is look for who holds the lock.
func (t *Throttle) missing(now time.Time, limits []bound) (after time.Duration) {
	for _, b := range limits {
		e, ok := t.guards[b.key]
		if !ok {
			continue
		}
		limiter := e.Value.(*guard).limiter
		adjust(limiter, now, b.limit)
		if missing := 1 - limiter.TokensAt(now); missing > 0 {
			after = max(after, time.Duration(missing*float64(b.limit.Every)))
		}
	}
	return after
}

// charge counts a failure. Those that were under way when a limit was used up are owed, and nothing more is let through
// until they are worked off; never more than twice what the limit lets through at once.
func (t *Throttle) charge(now time.Time, limits []bound) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range limits {
		if limiter := t.limiter(now, b.key, b.limit); limiter.TokensAt(now) > -float64(b.limit.Burst) {
			limiter.ReserveN(now, 1)
		}
	}
}

// know remembers that an address has authenticated as a client or an account: guesses from elsewhere must not lock out
// who is there. A full memory forgets whichever comes first.
func (t *Throttle) know(pair throttleKey) {
	if t.knows(pair) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for other := range t.pairs {
		if len(t.pairs) < maxPairs {
			break
		}
		delete(t.pairs, other)
	}
	t.pairs[pair] = struct{}{}
}

func (t *Throttle) knows(pair throttleKey) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	_, ok := t.pairs[pair]
	return ok
}

// limiter returns the limiter of a key, with the limit that is configured now.
func (t *Throttle) limiter(now time.Time, key throttleKey, limit Limit) *rate.Limiter {
	if e, ok := t.guards[key]; ok {
		t.order.MoveToFront(e)
		limiter := e.Value.(*guard).limiter
		adjust(limiter, now, limit)
		return limiter
	}
	if len(t.guards) >= maxGuards {
		oldest := t.order.Back()
		delete(t.guards, oldest.Value.(*guard).key)
		t.order.Remove(oldest)
	}
	g := &guard{key, rate.NewLimiter(rate.Every(limit.Every), limit.Burst)}
	t.guards[key] = t.order.PushFront(g)
	return g.limiter
}

// adjust gives a limiter the limit that is configured now, which a reload may have changed.
func adjust(limiter *rate.Limiter, now time.Time, limit Limit) {
	if limiter.Burst() != limit.Burst || limiter.Limit() != rate.Every(limit.Every) {
		limiter.SetBurstAt(now, limit.Burst)
		limiter.SetLimitAt(now, rate.Every(limit.Every))
	}
}
