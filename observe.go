package caddyoauth

import (
	"cmp"
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/request"
	"github.com/caddy-oauth/caddy-oauth/internal/trail"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
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

// step returns a request at the guard for the owner who watches.
func (g *Guard) step(r *http.Request, client, subject, result string) *trail.Step {
	return &trail.Step{
		Time: time.Now(), Issuer: g.Issuer, Endpoint: "guard", Method: r.Method, Client: client, Subject: subject, Address: request.ClientIP(r),
		Sent: map[string]string{"path": wire.Loggable(request.Original(r).Path)}, Result: result,
	}
}

// logRefusal logs why the guard refuses a request, and returns the error ID of the line. A failure of the server has been logged
// already, as a rule for many requests at once.
func (g *Guard) logRefusal(r *http.Request, refusal *bearer.Error) (id string) {
	if refusal.ID != "" && !g.remote() {
		return refusal.ID
	}
	id = cmp.Or(refusal.ID, wire.NewErrorID())
	fields := []zap.Field{
		zap.String("issuer", g.Issuer),
		zap.String("endpoint", "guard"),
		zap.String("client_ip", request.ClientIP(r)),
	}
	var client, subject, family string
	if claims := refusal.Claims; claims != nil {
		client, subject, family = claims.ClientID, claims.Subject, claims.Family
	}
	for _, field := range [...]struct{ name, value string }{
		{"client_id", client},
		{"sub", subject},
		{"family", family},
		{"resource", g.metadata.Resource},
		{"error", refusal.Code},
		{"sent", refusal.Sent},
		{"expected", refusal.Expected},
		{"setting", refusal.Setting},
	} {
		if field.value != "" {
			fields = append(fields, zap.String(field.name, wire.Loggable(field.value)))
		}
	}
	fields = append(fields, zap.String("error_id", id), zap.Int("status", refusal.Status), zap.NamedError("cause", refusal.Cause))
	level, message := zap.InfoLevel, "request refused"
	switch {
	case refusal.Status == http.StatusServiceUnavailable:
		level, message = zap.DebugLevel, "request refused: the token cannot be checked"
	case refusal.Code == grants.UseDPoPNonce: // which is how a client gets a nonce (RFC 9449 §9)
		level, message = zap.DebugLevel, "request refused until it has a nonce"
	}
	g.app.trail.Log(g.place.log, level, message, fields...)
	if g.app.trail.Watched() {
		step := g.step(r, client, subject, cmp.Or(refusal.Code, "no_token"))
		step.Status, step.ErrorID = refusal.Status, id
		g.app.trail.Step(step)
	}
	return id
}

var _ caddyevents.Handler = (*observer)(nil)
