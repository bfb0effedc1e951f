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
type Emitter struct {
	ctx caddy.Context
	app *caddyevents.App
	log *zap.Logger

	started atomic.Bool // all apps are started
	mu      sync.Mutex
	waiting []event
	running chan struct{} // closed when all events are emitted; nil: none is being emitted
	dropped int           // since there were too many
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

// Observe has an event emitted, if there is a subscription to it. It does not wait for that.
func (e *Emitter) Observe(observed *authserver.Event) {
	if e.started.Load() && !e.app.ShouldEmit(observed.Name) {
		return
	}
	data := make(map[string]any)
	for name, value := range observed.All() {
		data[name] = value
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.waiting) >= maxWaiting {
		if e.dropped++; e.dropped == 1 {
			e.log.Warn("events are dropped, as their handlers are too slow", zap.Int("waiting", maxWaiting))
		}
		return
	}
	e.waiting = append(e.waiting, event{observed.Name, data})
	if e.started.Load() {
		e.runLocked()
	}
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
		e.dropped += len(e.waiting)
		e.waiting = nil
	}
	if len(e.waiting) > 0 {
		oldest = e.waiting[0]
		e.waiting = e.waiting[1:]
		return oldest, true
	}
	if e.dropped > 0 {
		e.log.Warn("events were dropped", zap.Int("events", e.dropped))
	}
	close(e.running)
	e.waiting, e.running, e.dropped = nil, nil, 0
	return event{}, false
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

// Flush waits until all events are emitted, but not longer than limit.
func (e *Emitter) Flush(limit time.Duration) {
	e.mu.Lock()
	running := e.running
	e.mu.Unlock()
	if running == nil {
		return
	}
	select {
	case <-running:
	case <-time.After(limit):
	}
}

var _ caddyevents.Handler = (*Emitter)(nil)
