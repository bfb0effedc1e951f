package events

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
)

// slowHandler handles an event when it is let.
type slowHandler struct {
	let chan struct{} // closed: all

	mu   sync.Mutex
	seen []string // the client IDs
}

func (h *slowHandler) Handle(_ context.Context, e caddy.Event) error {
	<-h.let
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = append(h.seen, fmt.Sprint(e.Data["client_id"]))
	if e.Data["client_id"] == "panic" {
		panic("a handler that panics")
	}
	return nil
}

func (h *slowHandler) clients() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.seen)
}

// newEmitter returns an emitter whose events the handler gets, and what starts all apps, as Caddy does.
func newEmitter(t *testing.T, h caddyevents.Handler) (e *Emitter, start func()) {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if e, err = New(ctx); err != nil {
		t.Fatal(err)
	}
	if err := e.app.On("token_issued", h); err != nil {
		t.Fatal(err)
	}
	return e, func() {
		if err := e.app.Start(); err != nil {
			t.Fatal(err)
		}
		e.app.Emit(ctx, "started", nil)
	}
}

func issued(client string) *authserver.Event {
	return &authserver.Event{Name: "token_issued", Client: client}
}

const enough = time.Minute // for what would hang

// Whoever has an event emitted does not wait for handlers, and they get the events in order, those from before the start too.
func TestNobodyWaitsForHandlers(t *testing.T) {
	h := &slowHandler{let: make(chan struct{})}
	e, start := newEmitter(t, h)
	var want []string
	for n := range 100 {
		if n == 50 {
			start()
		}
		e.Observe(issued(strconv.Itoa(n)))
		e.Observe(&authserver.Event{Name: "revoked", Client: "of an event that nobody handles"})
		want = append(want, strconv.Itoa(n))
	}
	if got := h.clients(); len(got) > 0 {
		t.Fatalf("handled already: %q", got)
	}
	e.Flush(0) // which does not wait for ever
	close(h.let)
	e.Flush(enough)
	if got := h.clients(); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	e.Observe(issued("later"))
	e.Flush(enough)
	if got := h.clients(); got[len(got)-1] != "later" {
		t.Errorf("afterwards %q", got)
	}
}

func TestWaitingEventsAreBounded(t *testing.T) {
	h := &slowHandler{let: make(chan struct{})}
	e, start := newEmitter(t, h)
	start()
	for n := range maxWaiting + 100 {
		e.Observe(issued(strconv.Itoa(n)))
	}
	close(h.let)
	e.Flush(enough)
	got := h.clients()
	if len(got) < maxWaiting || len(got) > maxWaiting+1 { // one more as soon as the handler has the first
		t.Errorf("%d events", len(got))
	}
	for n, client := range got[:maxWaiting] {
		if client != strconv.Itoa(n) {
			t.Fatalf("event %d is %s", n, client)
		}
	}
	e.Observe(issued("later"))
	e.Flush(enough)
	if got := h.clients(); got[len(got)-1] != "later" {
		t.Errorf("there is no room afterwards: %q", got[len(got)-1])
	}
}

func TestHandlerThatPanics(t *testing.T) {
	h := &slowHandler{let: make(chan struct{})}
	close(h.let)
	e, start := newEmitter(t, h)
	start()
	e.Observe(issued("panic"))
	e.Observe(issued("next"))
	e.Flush(enough)
	if got := h.clients(); !slices.Equal(got, []string{"panic", "next"}) {
		t.Errorf("%q", got)
	}
}
