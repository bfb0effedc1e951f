package caddyoauth

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
)

// observer emits the events of the servers with Caddy's events app, as those of the module `oauth`. The events app takes
// subscriptions until it is started, which may be after the first requests. Until then, events wait.
type observer struct {
	ctx    caddy.Context
	events *caddyevents.App

	started atomic.Bool // all apps are started
	mu      sync.Mutex
	early   []*authserver.Event
}

// maxEarly is how many events wait for the start. There are hardly more than a few. The limit is for a configuration that
// never starts.
const maxEarly = 1000

func newObserver(ctx caddy.Context) (*observer, error) {
	app, err := ctx.App("events")
	if err != nil {
		return nil, err
	}
	o := &observer{ctx: ctx, events: app.(*caddyevents.App)}
	return o, o.events.On("started", o)
}

// Handle implements caddyevents.Handler.
func (o *observer) Handle(context.Context, caddy.Event) error {
	o.mu.Lock()
	early := o.early
	o.early = nil
	o.started.Store(true)
	o.mu.Unlock()
	for _, e := range early {
		o.emit(e)
	}
	return nil
}

// observe emits an event, if there is a subscription to it.
func (o *observer) observe(e *authserver.Event) {
	if !o.started.Load() && o.wait(e) {
		return
	}
	o.emit(e)
}

// wait keeps an event until all apps are started, and reports whether it did.
func (o *observer) wait(e *authserver.Event) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.started.Load() {
		return false
	}
	if len(o.early) < maxEarly {
		o.early = append(o.early, e)
	}
	return true
}

func (o *observer) emit(e *authserver.Event) {
	if !o.events.ShouldEmit(e.Name) {
		return
	}
	data := make(map[string]any)
	for name, value := range e.All() {
		data[name] = value
	}
	o.events.Emit(o.ctx, e.Name, data)
}

var _ caddyevents.Handler = (*observer)(nil)
