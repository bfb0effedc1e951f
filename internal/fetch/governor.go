package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"
)

// The limits of what one process fetches. A quarter is left to requests for known URLs, see [Request.Known].
const (
	atOnce          = 16
	atOnceOrigin    = 4
	perMinute       = 120
	perMinuteOrigin = 30
	maxWait         = 2 * time.Second // for one of those at once to end

	firstBackOff = time.Minute // after a failure; each further one doubles it
	maxBackOff   = time.Hour
	maxFailures  = 1000 // failures that are remembered
)

// known is the part of a limit that is left to requests for known URLs.
const known = 4

// governor decides when a request may be sent. Its memory is bounded: an origin is remembered while requests to it run, and for a
// minute, in which there can be no more than perMinute of them.
type governor struct {
	now     func() time.Time
	all     *semaphore.Weighted
	unknown *semaphore.Weighted // for requests for unknown URLs, which need both

	mu       sync.Mutex
	minute   window
	origins  map[string]*origin
	failures map[string]*failed // by purpose and URL
}

// origin is what is known of the requests to an origin.
type origin struct {
	minute  window
	running *semaphore.Weighted
	users   int // requests that run or wait
}

// failed is a URL whose last request failed.
type failed struct {
	until time.Time // when the next request may be sent
	wait  time.Duration
	last  string // what went wrong
}

func newGovernor(now func() time.Time) *governor {
	return &governor{
		now: now, all: semaphore.NewWeighted(atOnce), unknown: semaphore.NewWeighted(atOnce - atOnce/known),
		origins: make(map[string]*origin), failures: make(map[string]*failed),
	}
}

// enter waits until a request may be sent. When it is over, leave must be called with its error. The error of enter is an *Error.
func (g *governor) enter(ctx context.Context, u *url.URL, r *Request) (leave func(error), err error) {
	failureKey, originKey := r.Purpose+"\x00"+r.URL, u.Scheme+"://"+u.Host
	o, refusal := g.admit(failureKey, originKey, r)
	if refusal != nil {
		return nil, refusal
	}
	// Acquire the semaphore of the origin first, so that no request holds a shared slot while it waits for its own origin.
	needed := []*semaphore.Weighted{o.running, g.all}
	if !r.Known {
		needed = []*semaphore.Weighted{o.running, g.unknown, g.all}
	}
	release := func(held int) {
		for _, s := range needed[:held] {
			s.Release(1)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		o.users--
	}
	waiting, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	for n, s := range needed {
		if s.Acquire(waiting, 1) != nil {
			release(n)
			return nil, &Error{URL: r.URL, Reason: Busy, Err: errors.New("other requests took too long")}
		}
	}
	return func(err error) {
		release(len(needed))
		g.record(failureKey, err)
	}, nil
}

// admit counts a request, or returns why it may not be sent now.
func (g *governor) admit(failureKey, originKey string, r *Request) (*origin, *Error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	if f := g.failures[failureKey]; f != nil && now.Before(f.until) {
		return nil, &Error{URL: r.URL, Reason: BackOff, Retry: f.until.Sub(now), Err: errors.New(f.last)}
	}
	o := g.origin(originKey, now)
	limits := []struct {
		minute *window
		max    int
		where  string
	}{{&g.minute, perMinute, "in all"}, {&o.minute, perMinuteOrigin, "to " + originKey}}
	for _, limit := range limits {
		most := limit.max
		if !r.Known {
			most -= limit.max / known
		}
		if wait := limit.minute.wait(now, most); wait > 0 {
			return nil, &Error{URL: r.URL, Reason: RateLimit, Retry: wait, Err: fmt.Errorf("%d requests in a minute %s", most, limit.where)}
		}
	}
	for _, limit := range limits {
		*limit.minute = append(*limit.minute, now)
	}
	o.users++
	return o, nil
}

// origin returns what is known of an origin. A new one takes the place of those whose minute is over.
func (g *governor) origin(key string, now time.Time) *origin {
	if o := g.origins[key]; o != nil {
		return o
	}
	for other, o := range g.origins {
		if o.minute.prune(now); o.users == 0 && len(o.minute) == 0 {
			delete(g.origins, other)
		}
	}
	o := &origin{running: semaphore.NewWeighted(atOnceOrigin)}
	g.origins[key] = o
	return o
}

// record notes how a request ended.
func (g *governor) record(key string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil {
		delete(g.failures, key)
		return
	}
	now, f := g.now(), g.failures[key]
	if f == nil {
		g.makeRoom()
		f = &failed{until: now}
		g.failures[key] = f
	}
	if now.Sub(f.until) > maxBackOff {
		f.wait = 0 // so long ago that this is a first one
	}
	f.wait = min(max(2*f.wait, firstBackOff), maxBackOff)
	f.until = now.Add(f.wait)
	f.last = fmt.Sprintf("%.300s", err.Error())
}

// makeRoom forgets a failure if there are too many: of some, the one that matters for the shortest time.
func (g *governor) makeRoom() {
	if len(g.failures) < maxFailures {
		return
	}
	first, looked := "", 0
	for key, f := range g.failures {
		if first == "" || f.until.Before(g.failures[first].until) {
			first = key
		}
		if looked++; looked == 16 {
			break
		}
	}
	delete(g.failures, first)
}

// window has the times of requests in the last minute, the oldest first.
type window []time.Time

// wait returns how long to wait until there are fewer than a number of requests in a minute, 0 if there are.
func (w *window) wait(now time.Time, most int) time.Duration {
	w.prune(now)
	if len(*w) < most {
		return 0
	}
	return (*w)[len(*w)-most].Add(time.Minute).Sub(now)
}

func (w *window) prune(now time.Time) {
	old := 0
	for old < len(*w) && now.Sub((*w)[old]) >= time.Minute {
		old++
	}
	*w = append((*w)[:0], (*w)[old:]...)
}

// Group runs one call for a key at a time. Whoever asks meanwhile gets the result of that. The zero value is ready for use.
type Group[T any] struct{ calls singleflight.Group }

// Do calls do unless a call for the key is running, and returns the result of the one or the other. The context of do ends after a
// time, and not with that of a caller: the others wait for the same result.
func (g *Group[T]) Do(ctx context.Context, key string, limit time.Duration, do func(context.Context) (T, error)) (value T, err error) {
	results := g.calls.DoChan(key, func() (result any, err error) {
		// A panic would end the process, since no HTTP server recovers from it here.
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("panic: %v", r)
			}
		}()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
		defer cancel()
		return do(ctx)
	})
	select {
	case <-ctx.Done():
		return value, context.Cause(ctx)
	case r := <-results:
		value, _ = r.Val.(T)
		return value, r.Err
	}
}
