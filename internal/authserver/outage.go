package authserver

import (
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// outages are what fails, and since when, so that the log tells of each once and not for each request. They are few, as
// causes are from closed lists.
type outages struct {
	log *zap.Logger
	now func() time.Time

	open  atomic.Int64 // how many there are
	mu    sync.Mutex
	known map[cause]*outage
}

// outage is a time in which something fails for one cause.
type outage struct {
	since, last time.Time
	failed      int
}

const (
	// quiet is how long nothing must have failed for what works to count as the end of an outage: a store that
	// fails now and then has one, not many.
	quiet = 10 * time.Second

	// forgotten is how long after its last failure an outage of which nobody has seen the end is over.
	forgotten = 15 * time.Minute
)

func newOutages(log *zap.Logger, now func() time.Time) *outages {
	return &outages{log: log, now: now, known: make(map[cause]*outage)}
}

// failed counts a failure, and reports whether it is the first of an outage.
func (o *outages) failed(c cause) (first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now, known := o.now(), o.known[c]
	if first = known == nil || now.Sub(known.last) >= forgotten; first {
		known = &outage{since: now}
		o.known[c] = known
		o.open.Store(int64(len(o.known)))
	}
	known.last = now
	known.failed++
	return first
}

// worked tells that something was tried and has not failed. It is cheap as long as there is no outage.
func (o *outages) worked(what ...string) {
	if o.open.Load() == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	for c, known := range o.known {
		for _, w := range what {
			if c.what != w || now.Sub(known.last) < quiet {
				continue
			}
			delete(o.known, c)
			o.open.Store(int64(len(o.known)))
			o.log.Info("what failed works again", append(c.fields(),
				zap.Duration("lasted", known.last.Sub(known.since)), zap.Int("failed", known.failed))...)
		}
	}
}
