// Package events passes the events of authorization servers on to the events app of Caddy.
package events

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
)

// Emitter emits the events of the servers with Caddy's events app, as those of the module that provisions it, in the order in which they
// come. The events app runs handlers in the goroutine that emits, and they may take long. So no request does that: events wait for their
// turn. They also wait for the start, until when the events app takes subscriptions, which may be after the first requests.
//
// The end is [Emitter.Flush]. Caddy stops apps in no particular order, so requests may still be under way then. Nobody waits for the queue
// any more, but Caddy waits for these requests, so they wait for the handlers of their events.
type Emitter struct {
	ctx caddy.Context
	app *caddyevents.App
	log *zap.Logger

	started atomic.Bool // all apps are started
	mu      sync.Mutex
	waiting []event
	running chan struct{} // closed when all events are emitted; nil: none is being emitted
	dropped int           // and not logged
	limit   time.Duration // how long a request waits for its event to be emitted; 0 before Flush: it does not
	ended   bool          // no event is taken any more
}

// event is an authserver.Event as the events app has it.
type event struct {
	name string
	data map[string]any
}

// maxWaiting is how many events wait. More come from an attack, or if a handler hangs. The audit log has all of them.
const maxWaiting = 10_000

// New returns an emitter for the module that is being provisioned.
func New(ctx caddy.Context) (*Emitter, error) {
	app, err := ctx.App("events")
	if err != nil {
		return nil, err
	}
	e := &Emitter{ctx: ctx, app: app.(*caddyevents.App), log: ctx.Logger()}
	return e, e.app.On("started", e)
}

// Handle implements caddyevents.Handler.
func (e *Emitter) Handle(context.Context, caddy.Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.started.Store(true)
	e.runLocked()
	return nil
}

// Observe has an event emitted, if there is a subscription to it. It waits for that only after Flush.
func (e *Emitter) Observe(observed *authserver.Event) {
	if e.started.Load() && !e.app.ShouldEmit(observed.Name) {
		return
	}
	data := make(map[string]any)
	for name, value := range observed.All() {
		data[name] = value
	}
	if limit := e.add(event{observed.Name, data}); limit > 0 {
		e.wait(limit)
	}
}

// add lets an event wait for its turn. It returns how long the caller waits with it.
func (e *Emitter) add(last event) (limit time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		return 0
	}
	if len(e.waiting) >= maxWaiting {
		if e.dropped++; e.dropped == 1 {
			e.log.Warn("events are dropped, as their handlers are too slow", zap.Int("waiting", maxWaiting))
		}
		return 0
	}
	e.waiting = append(e.waiting, last)
	if e.started.Load() {
		e.runLocked()
	}
	return e.limit
}

// runLocked emits the events that wait, in a goroutine of its own, unless one does that already.
func (e *Emitter) runLocked() {
	if e.running != nil || len(e.waiting) == 0 {
		return
	}
	e.running = make(chan struct{})
	go func() {
		for {
			next, ok := e.next()
			if !ok {
				return
			}
			e.emit(next)
		}
	}()
}

// next takes the oldest event that waits. If there is none, the goroutine that emits ends.
func (e *Emitter) next() (oldest event, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil { // the events app takes none any more
		e.endLocked()
	}
	if len(e.waiting) > 0 {
		oldest = e.waiting[0]
		e.waiting = e.waiting[1:]
		return oldest, true
	}
	e.logDroppedLocked()
	close(e.running)
	e.waiting, e.running = nil, nil
	return event{}, false
}

// endLocked drops the events that wait, and those to come, which it does not log.
func (e *Emitter) endLocked() {
	e.dropped += len(e.waiting)
	e.waiting, e.ended = nil, true
	e.logDroppedLocked()
}

func (e *Emitter) logDroppedLocked() {
	if e.dropped > 0 {
		e.log.Warn("events were dropped", zap.Int("events", e.dropped))
	}
	e.dropped = 0
}

func (e *Emitter) emit(next event) {
	defer func() {
		if p := recover(); p != nil { // nobody else does in this goroutine
			e.log.Error("the handler of an event has panicked", zap.String("event", next.name), zap.Any("panic", p), zap.Stack("stack"))
		}
	}()
	if e.app.ShouldEmit(next.name) {
		e.app.Emit(e.ctx, next.name, next.data)
	}
}

// Flush waits until all events are emitted. From then on, Observe does too. Neither waits longer than limit, which is more than 0: if
// handlers have not had all events by then, the others are dropped, and all that come later. Before the start there are no handlers.
func (e *Emitter) Flush(limit time.Duration) {
	e.mu.Lock()
	e.limit = limit
	if !e.started.Load() { // another app has not: perhaps nobody subscribes to these events, so no warning
		e.waiting, e.ended = nil, true
	}
	e.mu.Unlock()
	e.wait(limit)
}

// wait waits until no event waits. After limit, it drops those that do.
func (e *Emitter) wait(limit time.Duration) {
	e.mu.Lock()
	running := e.running
	e.mu.Unlock()
	if running == nil {
		return
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-running:
	case <-timer.C:
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.running == running { // else all were emitted just now
			e.endLocked()
		}
	}
}

var _ caddyevents.Handler = (*Emitter)(nil)
