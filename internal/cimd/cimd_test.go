package cimd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/fetch"
	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

var (
	_ clients.Source    = (*Source)(nil)
	_ clients.Lister    = (*Source)(nil)
	_ clients.Explainer = (*Source)(nil)
)

func TestFetch(t *testing.T) {
	n := newNode(t)
	client := n.fetched(t)
	if client.ID != n.id() || client.Name != "Example" || client.Origin != storage.OriginDocument || !client.Created.Equal(n.clock.Now()) {
		t.Errorf("%+v", client)
	}
	n.asked(t, 1)
	n.fetched(t)
	n.found(t, true)
	n.asked(t, 0)
	n.clock.Advance(time.Hour)
	n.fetched(t)
	n.asked(t, 1)
}

// A document stays in memory for long. Its ID is a part of the first request, all of which would stay there with it.
func TestDocumentKeepsNoPartOfTheRequest(t *testing.T) {
	n := newNode(t)
	id := n.id()
	client, err := n.Fetch(t.Context(), id)
	if err != nil || client.ID != id {
		t.Fatal(client, err)
	}
	if unsafe.StringData(client.ID) == unsafe.StringData(id) {
		t.Error("the client ID is a part of the request")
	}
	for known := range n.cache.byID {
		if unsafe.StringData(known) == unsafe.StringData(id) {
			t.Error("the key is a part of the request")
		}
	}
}

// Strangers cannot make the server fetch anything: not what is unknown, nor what somebody has only looked at.
func TestFindFetchesNothingUnknown(t *testing.T) {
	n := newNode(t)
	n.found(t, false)
	n.fetched(t)
	n.asked(t, 1)
	n.clock.Advance(time.Hour)
	n.found(t, false)
	n.asked(t, 0)
	for _, id := range []string{"", "app", "https://", "https://app.example.com", "http://127.0.0.1/", "https://10.0.0.1/x"} {
		if client, err := n.Find(t.Context(), id); client != nil || err != nil {
			t.Errorf("%q: %v, %v", id, client, err)
		}
	}
	n.asked(t, 0)
}

// An issuer that is not on loopback fetches nothing from this machine or the network around it.
func TestSpecialAddress(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "10.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "0.0.0.0", "169.254.169.254"} {
		n := newNode(t)
		n.start(resolver(address))
		n.Loopback = false
		_, err := n.Fetch(t.Context(), n.id())
		e := refusal(t, err)
		var failure *fetch.Error
		if !errors.As(err, &failure) || failure.Reason != fetch.SpecialAddress || strings.Contains(e.Description, "address") {
			t.Errorf("%s: %v", address, err)
		}
		n.asked(t, 0)
	}
}

type resolver string

func (r resolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr(string(r))}, nil
}

func TestPolicyOfASource(t *testing.T) {
	n := newNode(t)
	n.fetched(t)
	n.use(t, time.Hour)
	n.Policy = Policy{Deny: []string{"example.com"}}
	e := refusal(t, second(n.Fetch(t.Context(), n.id())))
	if !strings.Contains(e.Expected, "denied") || !strings.Contains(n.Missing(n.id()), "denied") {
		t.Errorf("%+v", e)
	}
	if n.Owns(n.id()) || n.Missing("app") != "" {
		t.Error("the source owns what it denies, or has words for what is not its own")
	}
	n.found(t, false)
	n.use(t, time.Hour)
	n.asked(t, 1)
	n.Policy = Policy{}
	if !n.Owns(n.id()) || n.Owns("app") || n.Missing(n.id()) == "" {
		t.Error("the source does not own a client of its own, or owns another")
	}
}

// A document that has not changed is not sent again.
func TestNotModified(t *testing.T) {
	n := newNode(t)
	sent := 0
	n.handle(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Cache-Control", "max-age=600")
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		sent++
		send(w, map[string]any{"client_id": n.id(), "client_name": "Example", "redirect_uris": []string{"https://example.com/"}})
	})
	created := n.fetched(t).Created
	n.use(t, time.Hour)
	n.asked(t, 1)
	for range 3 {
		n.clock.Advance(10 * time.Minute)
		if client := n.found(t, true); !client.Created.Equal(created) || client.Name != "Example" {
			t.Errorf("%+v", client)
		}
		n.asked(t, 1)
		n.found(t, true)
		n.asked(t, 0)
	}
	n.start(new(loopback)) // the validator is in the store
	n.clock.Advance(10 * time.Minute)
	n.found(t, true)
	n.asked(t, 1)
	if sent != 1 {
		t.Errorf("sent %d times", sent)
	}
}

// A client whose server is down stays for a day.
func TestServerDown(t *testing.T) {
	n := newNode(t)
	n.fetched(t)
	n.use(t, 30*24*time.Hour)
	n.asked(t, 1)
	n.fail()
	n.clock.Advance(time.Hour)
	n.found(t, true)
	n.asked(t, 1)
	n.found(t, true)
	n.asked(t, 0) // it backs off
	n.clock.Advance(time.Minute)
	n.fetched(t)
	n.asked(t, 1)
	n.clock.Advance(24*time.Hour - time.Minute - 1)
	n.found(t, true)
	n.clock.Advance(1)
	n.found(t, false)
	_ = refusal(t, second(n.Fetch(t.Context(), n.id())))

	n.serve(nil)
	n.clock.Advance(2 * time.Hour)
	if client := n.found(t, true); !client.Created.Equal(testclock.Epoch) {
		t.Errorf("created %s", client.Created)
	}
}

// A client that nobody uses yet has no day: the person is told that its document cannot be read.
func TestServerDownBeforeUse(t *testing.T) {
	n := newNode(t)
	n.fetched(t)
	n.fail()
	n.clock.Advance(time.Hour)
	_ = refusal(t, second(n.Fetch(t.Context(), n.id())))
}

// A document is used as long as its server says, within limits.
func TestAge(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": time.Hour, "max-age=7200": 2 * time.Hour, "no-store": 5 * time.Minute, "max-age=0": 5 * time.Minute, "max-age=31536000": 24 * time.Hour,
	} {
		n := newNode(t)
		serve := n.handler
		n.handle(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", header)
			serve(w, r)
		})
		n.fetched(t)
		n.use(t, 48*time.Hour)
		n.clock.Advance(want - 1)
		n.found(t, true)
		n.asked(t, 1)
		n.clock.Advance(1)
		n.found(t, true)
		n.asked(t, 1)
	}
}

// Many who come at once make one request.
func TestSameURLAtOnce(t *testing.T) {
	n := newNode(t)
	var coming sync.WaitGroup
	for range 1000 {
		coming.Go(func() {
			if client, err := n.Fetch(t.Context(), n.id()); client == nil || err != nil {
				t.Errorf("%v, %v", client, err)
			}
		})
	}
	coming.Wait()
	n.asked(t, 1)
}

// A person who is signed in and invents URLs fills neither the memory nor the store, and nobody who has tokens notices.
func TestManyURLs(t *testing.T) {
	n := newNode(t)
	n.fetched(t)
	n.use(t, 48*time.Hour)
	written, fetched := n.store.Writes.Load(), 0
	for i := range 10_000 {
		n.clock.Advance(200 * time.Millisecond)
		client, err := n.Fetch(t.Context(), n.at(fmt.Sprintf("/%d", i)))
		if err == nil {
			fetched++
		} else if _ = refusal(t, err); client != nil {
			t.Fatal("a client and an error")
		}
	}
	if fetched < 500 || fetched > 1000 {
		t.Errorf("fetched %d", fetched)
	}
	if got := n.store.Writes.Load(); got != written || len(n.store.IDs(t, storage.KindDocument)) != 1 {
		t.Errorf("%d writes, %d records", got-written, len(n.store.IDs(t, storage.KindDocument)))
	}
	if n.cache.recent.Len() > maxRemembered || len(n.cache.byID) != n.cache.recent.Len() {
		t.Errorf("%d in memory", n.cache.recent.Len())
	}
	n.requests.Store(0)
	n.clock.Advance(time.Hour - 2000*time.Second)
	n.found(t, true)
	n.asked(t, 1)
}

func TestMemoryIsBounded(t *testing.T) {
	m, now := newCache(), testclock.Epoch
	put := func(i, size int) {
		m.put(&document{Document: storage.Document{ID: fmt.Sprint(i), Body: make([]byte, size), Fetched: now}})
	}
	for i := range 10_000 {
		put(i, 1<<10)
		m.get("0", now) // what is used stays
	}
	if m.recent.Len() != maxRemembered || len(m.byID) != maxRemembered || m.bytes != maxRemembered<<10 || m.get("0", now) == nil {
		t.Errorf("%d documents, %d bytes", m.recent.Len(), m.bytes)
	}
	for i := range 10_000 {
		put(i, maxDocument)
	}
	if m.bytes > maxBytes || len(m.byID) != maxBytes/maxDocument {
		t.Errorf("%d documents, %d bytes", len(m.byID), m.bytes)
	}
	put(9999, 1)
	if m.bytes != maxBytes-maxDocument+1 {
		t.Errorf("%d bytes after one was replaced", m.bytes)
	}
	if m.get("9999", now.Add(unusedLife)) != nil || m.get("9998", now.Add(unusedLife-1)) == nil {
		t.Error("a document that nobody uses is forgotten after a day, and not before")
	}
}

// Each request to a client's server is a line in the log, and what was no request is none.
func TestLog(t *testing.T) {
	n := newNode(t)
	n.fail()
	for range 3 {
		_ = refusal(t, second(n.Fetch(t.Context(), n.id())))
	}
	n.serve(nil)
	n.clock.Advance(time.Minute)
	n.fetched(t)
	n.fetched(t)
	var lines []string
	for _, entry := range n.logs.All() {
		fields := entry.ContextMap()
		if fields["issuer"] != "shop" || fields["cimd"] != n.id() || entry.Level != zapcore.InfoLevel {
			t.Errorf("%v", fields)
		}
		lines = append(lines, fmt.Sprint(entry.Message, " ", fields["status"], " ", fields["reason"]))
	}
	if want := []string{"client metadata document refused 500 status", "client metadata document fetched 200 <nil>"}; !slices.Equal(lines, want) {
		t.Errorf("%q", lines)
	}
}

// A caller that leaves takes nobody with it.
func TestCallerLeaves(t *testing.T) {
	n := newNode(t)
	entered, answer, serve := make(chan struct{}), make(chan struct{}), n.handler
	n.handle(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-answer
		serve(w, r)
	})
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() { left <- second(n.Fetch(ctx, n.id())) }()
	<-entered
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the one who left: %v", err)
	}
	close(answer)
	n.fetched(t)
	n.asked(t, 1)
}
