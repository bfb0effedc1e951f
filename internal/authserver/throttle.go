package authserver

import (
	"container/list"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Throttle bounds how often somebody can be wrong: each account, and each address, has a number of failures that
// it gets back over time. Successes cost nothing. It keeps a bounded number of accounts and addresses, those that
// failed last. Safe for concurrent use.
type Throttle struct {
	mu     sync.Mutex
	guards map[string]*list.Element // of *guard
	order  list.List                // the one that failed last in front
}

type guard struct {
	key     string
	limiter *rate.Limiter
}

// Limit is how many failures are let through at once, and how long it takes to get one back.
type Limit struct {
	Burst int
	Every time.Duration
}

const maxGuards = 50_000

// NewThrottle returns a Throttle that has seen no failure.
func NewThrottle() *Throttle {
	return &Throttle{guards: make(map[string]*list.Element)}
}

// attempt is a try whose outcome is open. It counts as a failure until it is known to be none, so that many at once
// cannot get past the limit together.
type attempt struct{ limiters []*rate.Limiter }

// try begins an attempt that is bounded by all of the limits. If one is used up, there is no attempt, and after is when
// to try again.
func (t *Throttle) try(now time.Time, limits map[string]Limit) (a *attempt, after time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a = new(attempt)
	for key, limit := range limits {
		limiter := t.limiter(key, limit)
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

func (t *Throttle) limiter(key string, limit Limit) *rate.Limiter {
	if e, ok := t.guards[key]; ok {
		t.order.MoveToFront(e)
		return e.Value.(*guard).limiter
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
