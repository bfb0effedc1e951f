// Package events passes the events of authorization servers on to the events app of Caddy.
package events

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
)

// Emitter emits the events of the servers with Caddy's events app, as those of the module that provisions it. The events app takes
// subscriptions until it is started, which may be after the first requests. Until then, events wait.
type Emitter struct {
	ctx caddy.Context
	app *caddyevents.App

	started atomic.Bool // all apps are started
	mu      sync.Mutex
	early   []*authserver.Event
}

// maxEarly is how many events wait for the start. There are hardly more than a few. The limit is for a configuration that
// never starts.
const maxEarly = 1000

// New returns an emitter for the module that is being provisioned.
func New(ctx caddy.Context) (*Emitter, error) {
	app, err := ctx.App("events")
	if err != nil {
		return nil, err
	}
	e := &Emitter{ctx: ctx, app: app.(*caddyevents.App)}
	return e, e.app.On("started", e)
}

// Handle implements caddyevents.Handler.
func (e *Emitter) Handle(context.Context, caddy.Event) error {
	e.mu.Lock()
	early := e.early
	e.early = nil
	e.started.Store(true)
	e.mu.Unlock()
	for _, event := range early {
		e.emit(event)
	}
	return nil
}

// Observe emits an event, if there is a subscription to it.
func (e *Emitter) Observe(event *authserver.Event) {
	if !e.started.Load() && e.wait(event) {
		return
	}
	e.emit(event)
}

// wait keeps an event until all apps are started, and reports whether it did.
func (e *Emitter) wait(event *authserver.Event) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.started.Load() {
		return false
	}
	if len(e.early) < maxEarly {
		e.early = append(e.early, event)
	}
	return true
}

func (e *Emitter) emit(event *authserver.Event) {
	if !e.app.ShouldEmit(event.Name) {
		return
	}
	data := make(map[string]any)
	for name, value := range event.All() {
		data[name] = value
	}
	e.app.Emit(e.ctx, event.Name, data)
}

var _ caddyevents.Handler = (*Emitter)(nil)
