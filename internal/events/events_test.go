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
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

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
	close(h.let)
	e.Flush(enough)
	if got := h.clients(); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// Caddy may stop this app before it waits for the requests under way, so they wait for their events.
func TestEventsAfterFlushAreHandledInTheirRequests(t *testing.T) {
	h := &slowHandler{let: make(chan struct{})}
	close(h.let)
	e, start := newEmitter(t, h)
	start()
	e.Observe(issued("first"))
	e.Flush(enough)
	want := []string{"first"}
	for n := range 100 {
		e.Observe(issued(strconv.Itoa(n)))
		want = append(want, strconv.Itoa(n))
		if got := h.clients(); !slices.Equal(got, want) {
			t.Fatalf("after Observe: %q", got)
		}
	}
	var requests sync.WaitGroup
	for range 20 {
		requests.Go(func() { e.Observe(issued("one of many")) })
	}
	requests.Wait()
	if got := h.clients(); len(got) != len(want)+20 {
		t.Errorf("after 20 at once: %q", got)
	}
}

// A handler that hangs neither keeps events in memory nor holds up requests, and the log says once how many it has not had.
func TestHandlerThatHangsAtTheEnd(t *testing.T) {
	const moment = 10 * time.Millisecond
	for name, waits := range map[string]func(*Emitter){
		"Flush waits": func(e *Emitter) {
			e.Observe(issued("hangs"))
			e.Observe(issued("not handled"))
			e.Observe(issued("not handled"))
			e.Flush(moment)
		},
		"Observe waits": func(e *Emitter) {
			e.Flush(moment)
			for range 2 {
				e.add(event{name: "token_issued", data: map[string]any{"client_id": "of another request"}})
			}
			e.Observe(issued("not handled"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := &slowHandler{let: make(chan struct{})}
			e, start := newEmitter(t, h)
			logs := logsOf(e)
			start()
			waits(e)
			for range 50 {
				e.Observe(issued("late"))
			}
			dropped := droppedIn(t, logs)
			close(h.let)
			e.wait(enough)
			if got := h.clients(); slices.Contains(got, "late") || len(got)+dropped != 3 {
				t.Errorf("%q are handled, and %d dropped", got, dropped)
			}
			droppedIn(t, logs)
		})
	}
}

// Requests can outlast the grace period of Caddy. Then the events app takes no events any more.
func TestEventsAfterTheEndAreLoggedOnce(t *testing.T) {
	h := &slowHandler{let: make(chan struct{})}
	e, start := newEmitter(t, h)
	logs := logsOf(e)
	ctx, cancel := context.WithCancel(e.ctx.Context)
	e.ctx.Context = ctx //nolint:fatcontext // it is that of the emitter, once
	start()
	e.Flush(enough)
	cancel()
	for range 50 {
		e.Observe(issued("late"))
	}
	if dropped := droppedIn(t, logs); dropped != 1 || len(h.clients()) > 0 {
		t.Errorf("%d events are dropped, handled are %q", dropped, h.clients())
	}
}

// A configuration that does not start has no handlers, and nothing to warn of.
func TestFlushBeforeTheStart(t *testing.T) {
	e, _ := newEmitter(t, &slowHandler{})
	logs := logsOf(e)
	e.Observe(issued("first"))
	e.Flush(enough)
	e.Observe(issued("second"))
	if len(e.waiting) > 0 || logs.Len() > 0 {
		t.Errorf("%d events are kept, logged is %v", len(e.waiting), logs.All())
	}
}

func logsOf(e *Emitter) *observer.ObservedLogs {
	core, logs := observer.New(zap.WarnLevel)
	e.log = zap.New(core)
	return logs
}

// droppedIn returns how many events were dropped, as the only line of the log says.
func droppedIn(t *testing.T, logs *observer.ObservedLogs) int {
	t.Helper()
	if logs.Len() != 1 {
		t.Fatalf("%d lines: %v", logs.Len(), logs.All())
	}
	dropped, ok := logs.All()[0].ContextMap()["events"].(int64)
	if !ok {
		t.Fatalf("logged is %v", logs.All())
	}
	return int(dropped)
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
