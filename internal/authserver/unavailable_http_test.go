package authserver

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
)

// needsStore is a request that needs the store, and the answer it gets if the store fails.
type needsStore struct {
	name  string
	cold  bool // it needs the store only before anything is loaded
	send  func(t *testing.T, s *testServer, h issued) answer
	check func(t *testing.T, a answer) // checks the answer while the store fails
	page  bool                         // a cold server answers with a page, since it cannot open the sealed request
	good  func(a answer) bool          // reports whether the answer is right when the store works again
}

// issued has the code, tokens and forms of clients and people from before the store failed.
type issued struct {
	code, refresh, access string
	form                  string // sealed in a consent page
	apps                  string // sealed in the page of apps
}

func newIssued(t *testing.T, s *testServer) issued {
	t.Helper()
	s.site.user = &User{Subject: "bob"}
	form := s.get(t, asks("webapp")).sealed(t)
	s.site.user = &User{Subject: "alice"}
	tokens, more := s.tokens(t), s.tokens(t)
	page, _ := s.openApps(t, "?client=webapp")
	return issued{
		code: s.code(t, asks("webapp")), form: form, apps: page.sealed(t),
		refresh: tokens["refresh_token"].(string), access: more["access_token"].(string),
	}
}

func unavailableInJSON(t *testing.T, a answer) {
	t.Helper()
	a.check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
	checkJSONHeaders(t, a)
	mustRetryAfter(t, a.Header())
	if id, _ := a.json(t)["error_id"].(string); len(id) != 8 {
		t.Errorf("no error id: %s", a.Body)
	}
}

// RFC 6749 §4.1.2.1: a redirect cannot have status 503.
func unavailableInRedirect(t *testing.T, a answer) {
	t.Helper()
	a.check(t, http.StatusSeeOther, "temporarily_unavailable")
	if to := a.Header().Get("Location"); !strings.HasPrefix(to, webRedirect) || a.location().Get("state") != "xyz" {
		t.Errorf("the answer goes to %q", to)
	}
	if after := a.Header().Get("Retry-After"); after != "" { // RFC 9110 §10.2.3: there it has another meaning
		t.Errorf("Retry-After %s with a redirect", after)
	}
}

func unavailableOnPage(t *testing.T, a answer) {
	t.Helper()
	if a.page == nil || a.page.ID == "" {
		t.Fatalf("no page: %d %s", a.Code, a.Body)
	}
	a.check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
	mustRetryAfter(t, a.Header())
}

func mustRetryAfter(t *testing.T, h http.Header) {
	t.Helper()
	if after := h.Get("Retry-After"); after != "2" {
		t.Errorf("Retry-After %q", after)
	}
}

func ok(a answer) bool { return a.Code == http.StatusOK }

func redirected(a answer) bool {
	return a.Code == http.StatusSeeOther && a.location().Get("error") == ""
}

// guarded sends a request through a guard.
func guarded(t *testing.T, s *testServer, token string) answer {
	t.Helper()
	a := answer{recorder: newRecorder()}
	r := httptest.NewRequest(http.MethodGet, "/orders", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	guard := &bearer.Resource{Source: s, Audience: []string{testIssuer}, Monitor: s.Monitor()}
	_, err := guard.Check(r, new(bearer.Tokens), "")
	if refusal, ok := errors.AsType[*bearer.Error](err); ok {
		a.Header().Set("Retry-After", strconv.FormatFloat(refusal.RetryAfter.Seconds(), 'f', -1, 64))
		a.Code = refusal.Status
	}
	return a
}

func unavailableAtGuard(t *testing.T, a answer) {
	t.Helper()
	if a.Code != http.StatusServiceUnavailable {
		t.Errorf("%d at the guard", a.Code)
	}
	mustRetryAfter(t, a.Header())
}

var needStore = []needsStore{
	{
		name: "code", check: unavailableInJSON, good: ok,
		send: func(t *testing.T, s *testServer, h issued) answer { t.Helper(); return s.token(t, redeems(h.code)) },
	},
	{
		name: "refresh", check: unavailableInJSON, good: ok,
		send: func(t *testing.T, s *testServer, h issued) answer {
			t.Helper()
			return s.token(t, refreshes(h.refresh))
		},
	},
	{
		name: "client_credentials", cold: true, check: unavailableInJSON, good: ok,
		send: func(t *testing.T, s *testServer, _ issued) answer { t.Helper(); return s.token(t, asBilling()) },
	},
	{
		name: "client that is not in the configuration", cold: true, check: unavailableInJSON,
		good: func(a answer) bool { return a.Code == http.StatusUnauthorized },
		send: func(t *testing.T, s *testServer, _ issued) answer {
			t.Helper()
			return s.token(t, asBilling("client_id", "unheard-of"))
		},
	},
	{
		name: "authorize", check: unavailableInRedirect, good: redirected,
		send: func(t *testing.T, s *testServer, _ issued) answer { t.Helper(); return s.get(t, asks("webapp")) },
	},
	{
		name: "authorize for an app that may have been added at another node", cold: true, check: unavailableOnPage,
		good: func(a answer) bool { return a.Code == http.StatusBadRequest },
		send: func(t *testing.T, s *testServer, _ issued) answer {
			t.Helper()
			return s.get(t, asks("webapp", "client_id", "unheard-of"))
		},
	},
	{
		name: "consent", check: unavailableInRedirect, page: true, good: redirected,
		send: func(t *testing.T, s *testServer, h issued) answer {
			t.Helper()
			s.site.user = &User{Subject: "bob"}
			defer func() { s.site.user = &User{Subject: "alice"} }()
			return s.post(t, url.Values{"request": {h.form}, "decision": {"allow"}})
		},
	},
	{
		name: "introspect", check: unavailableInJSON, good: ok,
		send: func(t *testing.T, s *testServer, h issued) answer {
			t.Helper()
			return s.do(t, s.asks("/oauth/introspect", url.Values{"token": {h.access}}))
		},
	},
	{
		name: "guard", check: unavailableAtGuard, good: ok,
		send: func(t *testing.T, s *testServer, h issued) answer { t.Helper(); return guarded(t, s, h.access) },
	},
	{
		name: "apps", check: unavailableOnPage, good: ok,
		send: func(t *testing.T, s *testServer, _ issued) answer {
			t.Helper()
			return s.do(t, httptest.NewRequest(http.MethodGet, "/oauth/apps", nil))
		},
	},
	{
		name: "disconnecting an app", check: unavailableOnPage, good: redirected,
		send: func(t *testing.T, s *testServer, h issued) answer {
			t.Helper()
			return s.do(t, postRequest("/oauth/apps", url.Values{"request": {h.apps}, "client": {"unheard-of"}}.Encode()))
		},
	},
	{
		name: "jwks", cold: true, good: ok, // scripts of all sites may read it
		check: func(t *testing.T, a answer) {
			t.Helper()
			a.check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
			mustRetryAfter(t, a.Header())
			if a.Header().Get("Cache-Control") != "no-store" || a.Header().Get("ETag") != "" {
				t.Errorf("the failure can be cached: %v", a.Header())
			}
		},
		send: func(t *testing.T, s *testServer, _ issued) answer { t.Helper(); return s.fetch(t, "/oauth/jwks") },
	},
	{ // RFC 7009 §2.2.1; last, since it revokes tokens that the others need
		name: "revoke", check: unavailableInJSON, good: ok,
		send: func(t *testing.T, s *testServer, h issued) answer {
			t.Helper()
			return s.do(t, s.asks("/oauth/revoke", url.Values{"token": {h.refresh}}))
		},
	},
}

const testTimeout = 100 * time.Millisecond

// During any fault of the store, each endpoint answers in time with temporarily_unavailable in its own form. The same request succeeds
// when the store works again.
func TestUnavailable(t *testing.T) {
	always := func(f fault) func(*testing.T) fault { return func(*testing.T) fault { return f } }
	for name, wrong := range map[string]func(t *testing.T) fault{
		"full": always(full), "panics": always(panics), "hangs": always(hangs), "hangs and does not listen": deaf,
		"answers too late": always(slow(time.Minute)),
	} {
		for _, cold := range []bool{false, true} {
			state := map[bool]string{false: " warm", true: " cold"}[cold]
			t.Run(name+state, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testUnavailable(t, wrong(t), cold) })
			})
		}
	}
}

func testUnavailable(t *testing.T, wrong fault, cold bool) {
	t.Helper()
	s, store := newFaultyServer(t, testTimeout, opaque("", 0))
	h := newIssued(t, s)
	if cold {
		s.restart(t, s.config)
	}
	store.fail(wrong)
	for _, tt := range needStore {
		if tt.cold && !cold {
			continue
		}
		check, began := tt.check, time.Now()
		if cold && tt.page {
			check = unavailableOnPage
		}
		check(t, tt.send(t, s, h))
		if took := time.Since(began); took > testTimeout {
			t.Errorf("%s: an answer took %v", tt.name, took)
		}
	}
	if a := s.fetch(t, wellKnown); a.Code != http.StatusOK {
		t.Errorf("the metadata, which are not in the store: %d", a.Code)
	}
	loggedOnce(t, s)
	store.mend()
	for _, tt := range needStore {
		if a := tt.send(t, s, h); !tt.good(a) {
			t.Errorf("%s, when the store works again: %d %s %s", tt.name, a.Code, a.Header().Get("Location"), a.Body)
		}
	}
}

// loggedOnce checks that the log has one error for each cause, with the fields that an operator needs.
func loggedOnce(t *testing.T, s *testServer) {
	t.Helper()
	errs := s.logs.FilterLevelExact(zap.ErrorLevel).All()
	if len(errs) < 1 || len(errs) > 2 { // reading and writing
		t.Errorf("%d errors in the log", len(errs))
	}
	for _, line := range errs {
		fields := line.ContextMap()
		if id, _ := fields["error_id"].(string); len(id) != 8 || fields["cause"] == nil || fields["issuer"] != "default" ||
			fields["what"] == nil || fields["trouble"] == nil {
			t.Errorf("the log has %s %v", line.Message, fields)
		}
	}
}

// A slow store that answers in time is not a failure.
func TestSlowStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, store := newFaultyServer(t, 5*time.Second)
		h := newIssued(t, s)
		store.fail(slow(20 * time.Millisecond))
		for _, tt := range needStore {
			if a := tt.send(t, s, h); !tt.good(a) {
				t.Errorf("%s: %d %s", tt.name, a.Code, a.Body)
			}
		}
		if n := s.logs.FilterLevelExact(zap.ErrorLevel).Len(); n != 0 {
			t.Errorf("%d errors in the log", n)
		}
	})
}

// Only the time of store operations counts against the deadline of a request, not that of a slow body or a slow password check.
func TestOnlyTheStoreHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passwords := &testPasswords{hold: make(chan struct{})}
		s := newPasswordServer(t, passwords, func(c *Config) { c.StoreTimeout = time.Second })
		form := url.Values{"grant_type": {"password"}, "username": {"bob"}, "password": {wonderland}}.Encode()
		body, sends := io.Pipe()
		r := postRequest("/oauth/token", "")
		r.SetBasicAuth("webapp", url.QueryEscape(webSecret))
		r.Body, r.ContentLength = body, int64(len(form))
		go func() {
			for i := range form {
				time.Sleep(time.Second)
				_, _ = io.WriteString(sends, form[i:i+1])
			}
			_ = sends.Close()
			time.Sleep(time.Minute)
			close(passwords.hold)
		}()
		s.do(t, r).check(t, http.StatusOK, "")
	})
}

// The deadline is for all operations of a request together.
func TestDeadlineIsForAllOperations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each = 60 * time.Millisecond
		s, store := newFaultyServer(t, 2*each+each/2)
		h := newIssued(t, s)
		s.restart(t, s.config) // so that the request needs many operations
		store.fail(slow(each))
		unavailableInJSON(t, s.token(t, refreshes(h.refresh)))
		if n := s.logs.FilterLevelExact(zap.ErrorLevel).Len(); n != 1 {
			t.Errorf("%d errors in the log", n)
		}
	})
}

// Requests that wait for the same load wait at the same time, not one after another.
func TestWaitsDoNotAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, store := newFaultyServer(t, testTimeout)
		h := newIssued(t, s)
		s.restart(t, s.config)
		store.fail(deaf(t))
		began := time.Now()
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				w := httptest.NewRecorder()
				r := postRequest("/oauth/token", refreshes(h.refresh, "client_id", "webapp", "client_secret", webSecret).Encode())
				if err := s.ServeHTTP(w, r, s.site); err != nil || w.Code != http.StatusServiceUnavailable {
					t.Errorf("%d %v", w.Code, err)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took > 2*testTimeout {
			t.Errorf("50 requests took %v", took)
		}
		if n := store.calls.Load(); n > 300 {
			t.Errorf("the store was asked %d times", n)
		}
	})
}

// A client that disconnects while the store is slow is not a failure of the store.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, store := newFaultyServer(t, time.Minute)
		h := newIssued(t, s)
		store.fail(hangs)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		s.token(t, refreshes(h.refresh), func(r *http.Request) { *r = *r.WithContext(ctx) })
		if n := s.logs.FilterLevelExact(zap.ErrorLevel).Len(); n != 0 {
			t.Errorf("%d errors in the log", n)
		}
		lines := s.logs.FilterMessage("request given up by the client").All()
		if len(lines) != 1 || lines[0].Level != zap.InfoLevel {
			t.Errorf("the log has %v", lines)
		}
		for _, count := range s.metrics.Requests() {
			if count.Result == "temporarily_unavailable" {
				t.Errorf("counted as %+v", count)
			}
		}
		if n := s.outages.Open(); n != 0 {
			t.Errorf("%d outages of the store", n)
		}
		store.mend()
		s.token(t, refreshes(h.refresh)).check(t, http.StatusOK, "")
	})
}
