package caddyoauth_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

func init() {
	caddy.RegisterModule(new(frailStore))
}

// frail is whether all frailStores fail.
var frail atomic.Bool

// frailStore is a store in memory that fails at times.
type frailStore struct{ storage.Store }

func (*frailStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "oauth.stores.frail", New: func() caddy.Module { return new(frailStore) }}
}

func (*frailStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return nil
}

func (*frailStore) Open(string) (storage.Store, error) {
	return &frailStore{memory.New()}, nil
}

func (s *frailStore) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	if frail.Load() {
		return nil, syscall.EIO
	}
	return s.Store.Get(ctx, key)
}

func (s *frailStore) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	if frail.Load() {
		return syscall.ENOSPC
	}
	return s.Store.Put(ctx, key, value, expires)
}

func (s *frailStore) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	if frail.Load() {
		return syscall.ENOSPC
	}
	return s.Store.Update(ctx, key, change)
}

// runFrail runs the shop on a frailStore with opaque tokens, and returns one of them.
func runFrail(t *testing.T, more string) (*server, string) {
	t.Helper()
	s := newServer(t)
	s.run(t, strings.Replace(shop, "store memory", "store frail\naccess_token {\nformat opaque\n}", 1),
		`http://shop.localhost:PORT {
		vars person alice
		oauth {
			user {vars.person}
		}
		oauth_guard /api
		respond "inside"
		`+more+`
	}`)
	t.Cleanup(func() { frail.Store(false) })
	return s, s.signIn(t, s.url("shop.localhost")).AccessToken
}

// A guard that cannot check a token answers 503, which the site can style, and logs it once.
func TestGuardWithoutAStore(t *testing.T) {
	for name, tt := range map[string]struct{ more, body string }{
		"plain":                {"", ""},
		"styled":               {"handle_errors {\nrespond \"styled {err.status_code} {err.id}\"\n}", "styled 503 "},
		"other errors styled":  {"handle_errors 4xx {\nrespond styled\n}", ""},
		"errors of other ways": {"handle_errors {\nrespond /elsewhere styled\n}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, token := runFrail(t, tt.more)
			frail.Store(true)
			ids := make(map[string]bool)
			for range 5 {
				answer := s.get(t, s.url("shop.localhost")+"/api", "Authorization", "Bearer "+token)
				if answer.status != http.StatusServiceUnavailable || answer.header.Get("Retry-After") != "2" ||
					answer.header.Get("WWW-Authenticate") != "" || !strings.HasPrefix(answer.body, tt.body) || tt.body == "" && answer.body != "" {
					t.Errorf("%d %v %q", answer.status, answer.header, answer.body)
				}
				ids[strings.TrimPrefix(answer.body, tt.body)] = true
			}
			// Whoever meets the outage first logs it: a request, or work in the background.
			failures := s.logged(t, "store failing")
			inBackground := s.logEntries(t, func(entry map[string]any) bool {
				message, _ := entry["msg"].(string)
				return entry["level"] == "error" && strings.HasSuffix(message, " failed; will try again")
			})
			if len(failures) > 1 || len(failures)+len(inBackground) == 0 {
				t.Errorf("the log has %v and %v", failures, inBackground)
			}
			for _, failure := range failures {
				if failure["level"] != "error" || tt.body != "" && !ids[failure["error_id"].(string)] {
					t.Errorf("the log has %v", failure)
				}
			}
			errs := s.logEntries(t, func(entry map[string]any) bool { return entry["level"] == "error" })
			if len(errs) != len(failures)+len(inBackground) {
				t.Errorf("the errors in the log are %v", errs)
			}
			frail.Store(false)
			answer := s.get(t, s.url("shop.localhost")+"/api", "Authorization", "Bearer "+token)
			if answer.status != http.StatusOK || answer.body != "inside" {
				t.Errorf("when the store works again: %d %s", answer.status, answer.body)
			}
		})
	}
}

// The admin API answers 503 as well.
func TestAdminWithoutAStore(t *testing.T) {
	s, _ := runFrail(t, "")
	frail.Store(true)
	for _, ask := range [][3]string{
		{http.MethodGet, "/users/alice/grants", ""},
		{http.MethodPost, "/revoke", `{"sub": "alice"}`},
		{http.MethodPost, "/clients", stock},
	} {
		answer := s.api(t, ask[0], ask[1], ask[2], http.StatusServiceUnavailable)
		if answer["error"] == nil {
			t.Errorf("%s: %v", ask[1], answer)
		}
	}
	// A request for the keys uses what the work in the background reads at the same time, which may have begun before the failure.
	eventually(t, "503 for the keys", func() bool {
		return s.askAdmin(t, http.MethodGet, "/oauth/default/keys", "").status == http.StatusServiceUnavailable
	})
}
