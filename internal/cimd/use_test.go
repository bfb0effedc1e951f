package cimd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/registration"
	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

const day = 24 * time.Hour

// A client that is in use is known after a restart and on every node, without a fetch.
func TestInUse(t *testing.T) {
	n := newNode(t)
	created := n.fetched(t).Created
	if len(n.store.IDs(t, storage.KindDocument)) != 0 {
		t.Error("a client that is not in use is stored")
	}
	n.use(t, 10*time.Minute)
	n.asked(t, 1)
	n.server.Close()
	for range 2 {
		n.start(new(loopback))
		if client := n.found(t, true); client.ID != n.id() || !client.Created.Equal(created) {
			t.Errorf("%+v", client)
		}
		n.fetched(t)
	}
	if err := n.InUse(t.Context(), n.at("/unknown.json"), time.Time{}); err == nil {
		t.Error("a client that nobody fetched is in use")
	}
}

// The record of a client lives as long as its tokens, and 90 days after its last code. It is written once a day.
func TestExpiryOfRecords(t *testing.T) {
	for _, c := range []struct {
		name       string
		life, want time.Duration // 0: for ever
	}{
		{"a code", 10 * time.Minute, 91 * day},
		{"tokens", 30 * day, 91 * day},
		{"tokens for long", 365 * day, 366 * day},
		{"tokens for ever", 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t)
			n.fetched(t)
			until := n.clock.Now().Add(c.life)
			if c.life == 0 {
				until = time.Time{}
			}
			for range 3 {
				if err := n.InUse(t.Context(), n.id(), until); err != nil {
					t.Fatal(err)
				}
			}
			expires := n.store.Expiry(storage.DocumentKey(n.id()))
			if c.want == 0 && !expires.IsZero() || c.want > 0 && !expires.Equal(n.clock.Now().Add(c.want)) {
				t.Errorf("expires %s", expires)
			}
			if writes := n.store.Writes.Load(); writes != 1 {
				t.Errorf("%d writes", writes)
			}
			n.fail()
			n.clock.Advance(91 * day)
			record, err := n.records.load(t.Context(), n.id())
			if err != nil || (record != nil) != (c.want == 0 || c.want > 91*day) {
				t.Errorf("after 91 days: %v, %v", record, err)
			}
		})
	}
}

// Each refresh extends the life of a family, but not each writes.
func TestOneWriteADay(t *testing.T) {
	n := newNode(t)
	n.fetched(t)
	for range 10 * 24 {
		n.use(t, 14*day)
		if end := n.store.Expiry(storage.DocumentKey(n.id())); end.Before(n.clock.Now().Add(14 * day)) {
			t.Fatalf("the record expires %s", end)
		}
		n.clock.Advance(time.Hour)
	}
	if writes := n.store.Writes.Load(); writes != 10 {
		t.Errorf("%d writes in 10 days", writes)
	}
}

// What one node fetches the others need not fetch.
func TestNodes(t *testing.T) {
	a := newNode(t)
	a.fetched(t)
	a.use(t, 30*day)
	b := a.another()
	b.found(t, true)
	a.asked(t, 1)
	a.clock.Advance(time.Hour)
	b.found(t, true)
	a.asked(t, 1)
	a.found(t, true)
	a.asked(t, 0)

	// Both have looked at a client before one uses it: its use is known to the other.
	c := newNode(t)
	c.fetched(t)
	d := c.another()
	d.clock.Advance(time.Minute)
	d.fetched(t)
	c.use(t, 30*day)
	d.use(t, time.Hour)
	record, err := c.records.load(t.Context(), c.id())
	if err != nil || !record.Created.Equal(testclock.Epoch) || !record.Live.Equal(c.clock.Now().Add(31*day)) {
		t.Errorf("%+v, %v", record, err)
	}
}

// What a person has approved is void if the document describes another client. Whatever else changes is no matter.
func TestChangedDocument(t *testing.T) {
	base := func(d map[string]any) {
		d["redirect_uris"] = []string{"https://app.example.com/callback", "http://127.0.0.1/callback"}
		d["jwks"] = map[string]any{"keys": []any{map[string]any{"kty": "EC", "kid": "1"}}}
		d["token_endpoint_auth_methods_supported"] = []string{"none", "private_key_jwt"}
	}
	for _, c := range []struct {
		name   string
		change func(d map[string]any)
		want   bool
	}{
		{"nothing", func(map[string]any) {}, false},
		{"name", func(d map[string]any) { d["client_name"] = "Other" }, false},
		{"path of a redirect", func(d map[string]any) {
			d["redirect_uris"] = []string{"http://127.0.0.1:8080/other", "https://app.example.com/other"}
		}, false},
		{"order of methods", func(d map[string]any) {
			d["token_endpoint_auth_methods_supported"] = []string{"private_key_jwt", "none", "none"}
		}, false},
		{"scope", func(d map[string]any) { d["scope"] = "orders" }, false},
		{"host of a redirect", func(d map[string]any) {
			d["redirect_uris"] = []string{"https://evil.example.com/callback", "http://127.0.0.1/callback"}
		}, true},
		{"another redirect", func(d map[string]any) {
			d["redirect_uris"] = []string{"https://app.example.com/callback", "http://127.0.0.1/callback", "com.example.app:/callback"}
		}, true},
		{"a redirect less", func(d map[string]any) { d["redirect_uris"] = []string{"https://app.example.com/callback"} }, true},
		{"key", func(d map[string]any) {
			d["jwks"] = map[string]any{"keys": []any{map[string]any{"kty": "EC", "kid": "2"}}}
		}, true},
		{"URL of keys", func(d map[string]any) { delete(d, "jwks"); d["jwks_uri"] = "https://example.com/jwks" }, true},
		{"no keys", func(d map[string]any) { delete(d, "jwks") }, true},
		{"method", func(d map[string]any) { d["token_endpoint_auth_method"] = "private_key_jwt" }, true},
		{"methods", func(d map[string]any) { d["token_endpoint_auth_methods_supported"] = []string{"private_key_jwt"} }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t)
			n.serve(base)
			n.fetched(t)
			n.use(t, 30*day)
			n.serve(func(d map[string]any) { base(d); c.change(d) })
			n.clock.Advance(time.Hour)
			other := n.another()
			for _, node := range []*node{n, other} {
				client := node.found(t, true)
				if changed := client.Created.Equal(n.clock.Now()); changed != c.want || !changed && !client.Created.Equal(testclock.Epoch) {
					t.Errorf("created %s", client.Created.Sub(testclock.Epoch))
				}
			}
			// The change stays one, also when the client is as it was.
			n.serve(base)
			n.clock.Advance(time.Hour)
			if client := other.found(t, true); client.Created.Equal(n.clock.Now()) != c.want {
				t.Errorf("created %s after it was changed back", client.Created.Sub(testclock.Epoch))
			}
		})
	}
}

// A client that was forgotten is another one when it comes again: nobody knows what it was.
func TestForgottenClient(t *testing.T) {
	n := newNode(t)
	n.fetched(t)
	n.use(t, time.Hour)
	n.clock.Advance(92 * day)
	n.found(t, false)
	if client := n.fetched(t); !client.Created.Equal(n.clock.Now()) {
		t.Errorf("created %s", client.Created)
	}
}

// A store that cannot be written does not stop a client that is known.
func TestStoreFails(t *testing.T) {
	n := newNode(t)
	n.fetched(t)
	n.use(t, 30*day)
	n.store.WriteErr = storage.ErrReadOnly
	n.serve(func(d map[string]any) { d["client_name"] = "Other" })
	n.clock.Advance(time.Hour)
	if client := n.found(t, true); client.Name != "Other" {
		t.Errorf("%+v", client)
	}
	n.asked(t, 2)
	n.clock.Advance(day)
	if err := n.InUse(t.Context(), n.id(), n.clock.Now().Add(30*day)); !errors.Is(err, storage.ErrReadOnly) {
		t.Errorf("in use: %v", err)
	}
}

func TestDamagedRecord(t *testing.T) {
	for _, value := range []string{"{", "{}", `{"client_id":"https://example.com/other.json","document":{}}`} {
		n := newNode(t)
		key := storage.DocumentKey(n.id())
		if err := n.store.Put(t.Context(), key, []byte(value), time.Time{}); err != nil {
			t.Fatal(err)
		}
		n.found(t, false)
		n.found(t, false)
		n.fetched(t)
		n.use(t, 30*day)
		n.start(new(loopback))
		n.found(t, true)
		n.asked(t, 1)
	}
	n := newNode(t)
	_ = n.store.Put(t.Context(), storage.DocumentKey(n.id()), []byte("{"), time.Time{})
	for range 3 {
		n.found(t, false)
	}
	if lines := n.logs.FilterLevelExact(zapcore.ErrorLevel).Len(); lines != 1 {
		t.Errorf("%d lines in the log", lines)
	}
}

// At most 1000 clients are in use. Those without tokens make room, the least recently used first.
func TestRoom(t *testing.T) {
	n := newNode(t)
	store := func(i int, live time.Duration, endless bool) string {
		d := &storage.Document{
			ID: fmt.Sprintf("https://a%d.example/client.json", i), Body: []byte(`{}`), Fetched: n.clock.Now(),
			Used: n.clock.Now().Add(time.Duration(i) * time.Second), Live: n.clock.Now().Add(live), Endless: endless,
		}
		value, err := d.Encode()
		if err == nil {
			err = n.store.Put(t.Context(), storage.DocumentKey(d.ID), value, expiry(d))
		}
		if err != nil {
			t.Fatal(err)
		}
		return d.ID
	}
	for i := range maxStored {
		store(i, time.Hour, i%2 == 0)
	}
	n.fetched(t)
	for range 3 {
		e := refusal(t, n.InUse(t.Context(), n.id(), n.clock.Now().Add(time.Hour)))
		if !strings.Contains(e.Description, "too many") {
			t.Error(e)
		}
	}
	if lines := n.logs.FilterLevelExact(zapcore.ErrorLevel).Len(); lines != 1 {
		t.Errorf("%d lines in the log", lines)
	}
	n.clock.Advance(fullTime)
	live := store(1, 2*time.Hour, false)
	n.clock.Advance(time.Hour)
	n.fetched(t)
	n.use(t, time.Hour)
	if got := len(n.store.IDs(t, storage.KindDocument)); got != maxStored-evicted+1 {
		t.Errorf("%d records", got)
	}
	for i, want := range map[int]bool{0: true, 3: false, 5: false, 2*evicted + 1: false, 2*evicted + 3: true, 999: true, 998: true} {
		if record, err := n.records.load(t.Context(), fmt.Sprintf("https://a%d.example/client.json", i)); err != nil || (record != nil) != want {
			t.Errorf("%d: %v, %v", i, record != nil, err)
		}
	}
	if record, err := n.records.load(t.Context(), live); err != nil || record == nil {
		t.Errorf("a client with tokens is gone: %v", err)
	}
}

// A node with other settings than before reads what is stored with those.
func TestSettingsChange(t *testing.T) {
	n := newNode(t)
	n.fetched(t)
	n.use(t, 30*day)
	n.start(new(loopback))
	n.Describe = func(string, *registration.Metadata) (*storage.Client, error) { return nil, errors.New("not any more") }
	n.found(t, false)
	_ = refusal(t, second(n.Fetch(t.Context(), n.id())))
	n.asked(t, 1)
}

// The owner sees the clients in use, also one that the settings do not allow any more, and none that somebody has only looked at.
func TestDescribed(t *testing.T) {
	n := newNode(t)
	described := func() (list []clients.Described) {
		t.Helper()
		for client, err := range n.Described(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, client)
		}
		return list
	}
	n.fetched(t)
	if list := described(); len(list) != 0 {
		t.Errorf("a client that is not in use: %+v", list)
	}
	n.use(t, 30*day)
	now := n.clock.Now()
	_ = n.store.Put(t.Context(), storage.DocumentKey("https://damaged.example/client.json"), []byte("{"), time.Time{})
	n.Policy = Policy{Deny: []string{"example.com"}}
	n.start(new(loopback))
	n.asked(t, 1)
	want := clients.Described{
		ID: n.id(), Origin: storage.OriginDocument, Name: "Example", RedirectURIs: []string{"https://app.example.com/callback"},
		Created: now, Used: now, Until: now.Add(30*day + slack),
	}
	list := described()
	if len(list) != 1 || fmt.Sprint(list[0]) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", list, want)
	}
	n.asked(t, 0)
	n.clock.Advance(92 * day)
	if list := described(); len(list) != 0 {
		t.Errorf("a client that was forgotten: %+v", list)
	}
}

// To block a redirect host voids the tokens of the clients whose documents name it.
func TestBlockHost(t *testing.T) {
	n := newNode(t)
	n.fetched(t)
	n.use(t, 30*day)
	n.start(new(loopback))
	var revoked []string
	directory := clients.New(clients.Config{
		Store: n.store, Now: n.clock.Now, Timeout: time.Minute, Logger: n.Logger,
		Sources:   map[storage.ClientOrigin]clients.Source{storage.OriginDocument: n},
		Tombstone: func() time.Duration { return day },
		Revoke: func(_ context.Context, client, _ string) error {
			revoked = append(revoked, client)
			return nil
		},
		Changed: func(context.Context, string, string) error { return nil },
	})
	if err := directory.BlockHost(t.Context(), "app.example.com"); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(revoked, []string{n.id()}) {
		t.Errorf("revoked the tokens of %q", revoked)
	}
	if client, err := directory.Find(t.Context(), n.id()); client != nil || err != nil {
		t.Errorf("found %v, %v", client, err)
	}
	if list, _, err := directory.Described(t.Context()); err != nil || len(list) != 1 || !list[0].Blocked {
		t.Errorf("described %+v, %v", list, err)
	}

	// The log says why it is unknown.
	if expected := directory.Missing(n.id()); !strings.HasPrefix(expected, "a client that somebody has signed in to") {
		t.Errorf("expected %s", expected)
	}
	if expected := directory.Missing("app"); expected != "the ID of a client" {
		t.Errorf("expected %s", expected)
	}
	if err := directory.Block(t.Context(), n.id()); err != nil {
		t.Fatal(err)
	}
	if expected := directory.Missing(n.id()); expected != "a client that is not blocked" {
		t.Errorf("expected %s", expected)
	}
	if err := directory.Unblock(t.Context(), n.id()); err != nil {
		t.Fatal(err)
	}
	if expected := directory.Missing(n.id()); !strings.HasPrefix(expected, "a client that somebody has signed in to") {
		t.Errorf("expected %s", expected)
	}
}
