package caddyoauth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(new(listener))
	caddy.RegisterModule(new(slowListener))
}

// listener is an event handler that keeps the data of events, by their names.
type listener struct{}

var received struct {
	sync.Mutex
	events map[string][]map[string]any
}

func (*listener) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.test_listener", New: func() caddy.Module { return new(listener) }}
}

func (*listener) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (*listener) Handle(_ context.Context, e caddy.Event) error {
	received.Lock()
	defer received.Unlock()
	if received.events == nil {
		received.events = make(map[string][]map[string]any)
	}
	data := map[string]any{"origin": string(e.Origin().CaddyModule().ID)}
	maps.Copy(data, e.Data)
	received.events[e.Name()] = append(received.events[e.Name()], data)
	return nil
}

// slowListener is a listener that takes its time.
type slowListener struct{ listener }

var letSlowListeners chan struct{} // closed: they go on

func (*slowListener) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.test_slow_listener", New: func() caddy.Module { return new(slowListener) }}
}

func (l *slowListener) Handle(ctx context.Context, e caddy.Event) error {
	<-letSlowListeners
	time.Sleep(100 * time.Millisecond) // longer than Caddy takes to stop all else
	return l.listener.Handle(ctx, e)
}

// receive returns the data of the only event of a name since the last call.
func receive(t *testing.T, name string) map[string]any {
	t.Helper()
	var data map[string]any
	eventually(t, "the event "+name, func() bool {
		received.Lock()
		defer received.Unlock()
		events := received.events[name]
		if len(events) > 1 {
			t.Fatalf("%d events %s", len(events), name)
		}
		if len(events) == 1 {
			data = events[0]
			delete(received.events, name)
		}
		return data != nil
	})
	return data
}

func TestEventsOfCaddy(t *testing.T) {
	s := newServer(t)
	s.run(t, shop+`
	events {
		on token_issued test_listener
		on token_refused test_listener
		on reuse_detected test_listener
		on key_made test_listener
	}`, shopSite)
	issuer := s.url("shop.localhost")
	if made := receive(t, "key_made"); made["origin"] != "oauth" || made["kid"] != s.kid(t, issuer) || made["issuer"] != "default" {
		t.Errorf("%v", made)
	}
	first := s.signIn(t, issuer)
	issued := receive(t, "token_issued")
	for name, want := range map[string]any{
		"client_id": "app", "sub": "alice", "grant_type": "authorization_code", "scope": "orders", "client_ip": "127.0.0.1",
		"jti": claims(t, first.AccessToken)["jti"], "family": claims(t, first.AccessToken)["family"],
	} {
		if issued[name] != want {
			t.Errorf("%s is %v, want %v", name, issued[name], want)
		}
	}
	second := s.refresh(t, issuer, first.RefreshToken)
	receive(t, "token_issued")
	s.refresh(t, issuer, second.RefreshToken)
	receive(t, "token_issued")
	s.refresh(t, issuer, first.RefreshToken)
	if reuse := receive(t, "reuse_detected"); reuse["family"] != issued["family"] || reuse["error_id"] == "" {
		t.Errorf("%v", reuse)
	}
	s.refresh(t, issuer, "garbage")
	if refused := receive(t, "token_refused"); refused["error"] != "invalid_grant" || refused["client_id"] != "app" {
		t.Errorf("%v", refused)
	}
}

// Events from before all apps have started are emitted when they have.
func TestEventsBeforeTheStart(t *testing.T) {
	s := newServer(t)
	var config caddy.Config
	global := strings.Replace(shop, "store memory", "store caddy", 1) + "\nevents {\non key_made test_listener\n}"
	if err := json.Unmarshal(s.adapt(t, global, shopSite), &config); err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(&config)
	if err != nil {
		t.Fatal(err)
	}
	apps := make(map[string]any)
	for _, name := range []string{"oauth", "http", "events"} {
		if apps[name], err = ctx.App(name); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { // only this cancels the context of the configuration
		if err := apps["oauth"].(caddy.CleanerUpper).Cleanup(); err != nil {
			t.Error(err)
		}
	})
	w := httptest.NewRecorder()
	apps["http"].(*caddyhttp.App).Servers["srv0"].ServeHTTP(w, httptest.NewRequest(http.MethodGet, s.url("shop.localhost")+"/oauth/jwks", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	events := apps["events"].(*caddyevents.App)
	if err := events.Start(); err != nil {
		t.Fatal(err)
	}
	events.Emit(ctx, "started", nil)
	if made := receive(t, "key_made"); !strings.Contains(w.Body.String(), made["kid"].(string)) {
		t.Errorf("%v, and the keys are %s", made, w.Body)
	}
}

// No answer waits for the handler of an event, and when Caddy stops, handlers get the events that wait.
func TestSlowHandlersOfEvents(t *testing.T) {
	letSlowListeners = make(chan struct{})
	s := newServer(t)
	s.run(t, shop+`
	events {
		on code_issued test_slow_listener
		on token_issued test_slow_listener
	}`, shopSite)
	s.signIn(t, s.url("shop.localhost"))
	received.Lock()
	early := len(received.events["code_issued"])
	received.Unlock()
	if early > 0 {
		t.Fatal("the handler was not slow")
	}
	go close(letSlowListeners)
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	received.Lock()
	defer received.Unlock()
	for _, name := range []string{"code_issued", "token_issued"} {
		if n := len(received.events[name]); n != 1 {
			t.Errorf("%d events %s", n, name)
		}
		delete(received.events, name)
	}
}

func TestAuditLogIsALoggerOfItsOwn(t *testing.T) {
	s := newServer(t)
	s.run(t, shop, shopSite)
	s.signIn(t, s.url("shop.localhost"))
	entries := s.logged(t, "token issued")
	if len(entries) != 1 || entries[0]["logger"] != "oauth.audit" || entries[0]["client_id"] != "app" || entries[0]["level"] != "info" {
		t.Errorf("%v", entries)
	}
}

// The access log says which client a request was of, with which grant type, and whether a code was issued. It never has the code.
func TestAccessLogHasClientAndGrantType(t *testing.T) {
	s := newServer(t)
	s.run(t, shop, strings.Replace(shopSite, "oauth {", "log\noauth_guard /orders\noauth {", 1))
	issuer := s.url("shop.localhost")
	token := s.signIn(t, issuer).AccessToken
	s.do(t, http.MethodGet, issuer+"/orders", "", "", "Authorization", "Bearer "+token)
	s.do(t, http.MethodPost, issuer+"/oauth/token", "application/x-www-form-urlencoded", "client_id=<script>&client_secret=x")
	var got []string
	eventually(t, "four lines of the access log", func() bool {
		got = nil
		for _, entry := range s.logged(t, "handled request") {
			request, _ := entry["request"].(map[string]any)
			uri, _ := request["uri"].(string)
			client, _ := entry["client_id"].(string)
			grantType, _ := entry["grant_type"].(string)
			path, _, _ := strings.Cut(uri, "?")
			line := path + " " + client + " " + grantType
			if header, _ := entry["resp_headers"].(map[string]any); entry["code_issued"] == true {
				line += fmt.Sprint(entry["status"], header["Location"])
			}
			got = append(got, line)
		}
		return len(got) >= 4
	})
	slices.Sort(got)
	want := []string{
		"/oauth/authorize app 303 [" + callback + "?code=HIDDEN&iss=" + url.QueryEscape(issuer) + "]",
		"/oauth/token  ", "/oauth/token app authorization_code", "/orders app ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestThrottleSurvivesAReload(t *testing.T) {
	s := newServer(t)
	global := strings.Replace(shop, "scope orders", "scope orders\nthrottle {\nclients 3 1h\n}", 1)
	s.run(t, global, shopSite)
	wrong := func() answer {
		t.Helper()
		form := url.Values{"grant_type": {"authorization_code"}, "client_id": {"app"}, "client_secret": {"wrong"}}
		return s.do(t, http.MethodPost, s.url("shop.localhost")+"/oauth/token", "application/x-www-form-urlencoded", form.Encode())
	}
	for range 3 {
		if answer := wrong(); answer.status != http.StatusUnauthorized {
			t.Fatalf("%d %s", answer.status, answer.body)
		}
	}
	// A failed reload releases what it has acquired, and no more: the first one fails when it is started, the second when it is provisioned.
	failing := withUnknownIssuer(s.adapt(t, global, shopSite))
	alsoFailing := bytes.ReplaceAll(s.adapt(t, global, shopSite), []byte(`"url":"http://shop.localhost`), []byte(`"url":"ftp://shop.localhost`))
	for range 3 {
		for _, config := range [][]byte{failing, alsoFailing} {
			if err := caddy.Load(config, true); err == nil {
				t.Fatal("expected an error")
			}
		}
	}
	s.run(t, global, shopSite+"\nhttp://other.localhost:PORT {\n}")
	if answer := wrong(); answer.status != http.StatusTooManyRequests || answer.header.Get("Retry-After") == "" {
		t.Errorf("after the reload %d %s", answer.status, answer.body)
	}
	s.run(t, strings.Replace(global, "throttle {\nclients 3 1h\n}", "throttle off", 1), shopSite)
	eventually(t, "a server without a throttle, when the one before it has let go of the port", func() bool {
		return wrong().status == http.StatusUnauthorized
	})
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	s.run(t, global, shopSite)
	if answer := wrong(); answer.status != http.StatusUnauthorized {
		t.Errorf("after the end of all, %d %s", answer.status, answer.body)
	}
}
