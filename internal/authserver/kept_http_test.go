package authserver

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/trail"
)

// Bodies have secrets and can be long. What the server remembers of a request must not be a part of its body, since that would keep all
// of it in memory.
func TestNoRequestStaysInMemory(t *testing.T) {
	const requests = 100
	s := newTestServer(t, withoutConsent("webapp"), func(c *Config) { c.Logger, c.Trail = zap.NewNop(), trail.New() })
	padding := strings.Repeat("x", maxBody-4096)
	unescape := strings.NewReplacer("%3A", ":", "%2F", "/") // of a value without escapes, url.ParseQuery makes no copy
	send := func(t *testing.T, path, body, secret string, statuses ...int) {
		t.Helper()
		r := postRequest(path, unescape.Replace(body)+"&padding="+padding)
		if secret != "" {
			r.SetBasicAuth("webapp", url.QueryEscape(secret))
		}
		w := newRecorder()
		_ = s.ServeHTTP(w, r, s.site)
		if !slices.Contains(statuses, w.Code) {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	var tokens []string
	for n := range requests {
		s.site.user = &User{Subject: fmt.Sprint("user", n)}
		tokens = append(tokens, s.tokens(t)["refresh_token"].(string))
	}
	s.clock.Advance(time.Minute)
	s.restart(t, s.config) // as one that has remembered nothing of these tokens
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for _, c := range []struct {
		name string
		send func(t *testing.T, n int)
	}{
		{"refresh", func(t *testing.T, n int) {
			send(t, "/oauth/token", refreshes(tokens[n], "scope", "orders").Encode(), webSecret, http.StatusOK)
		}},
		{"wrong refresh token", func(t *testing.T, n int) {
			send(t, "/oauth/token", refreshes(fmt.Sprint("wrong", n)).Encode(), webSecret, http.StatusBadRequest)
		}},
		{"unknown grant", func(t *testing.T, n int) {
			send(t, "/oauth/token", "grant_type=wrong", webSecret, http.StatusBadRequest)
		}},
		{"wrong secret in the body", func(t *testing.T, n int) {
			send(t, "/oauth/token", fmt.Sprint("grant_type=refresh_token&client_id=client", n, "&client_secret=wrong"), "",
				http.StatusUnauthorized, http.StatusTooManyRequests)
		}},
		{"pushed request that is too long", func(t *testing.T, n int) {
			send(t, "/oauth/par", asks("webapp", "scope", "orders").Encode(), webSecret, http.StatusRequestEntityTooLarge)
		}},
		{"code", func(t *testing.T, n int) {
			s.site.user = &User{Subject: fmt.Sprint("another", n)} // of whom no use is known
			query := unescape.Replace(asks("webapp", "scope", "orders").Encode()) + "&padding=" + padding
			r := httptest.NewRequest(http.MethodGet, "/oauth/authorize?"+query, nil)
			w := newRecorder()
			_ = s.ServeHTTP(w, r, s.site)
			location, _ := url.Parse(w.Header().Get("Location"))
			send(t, "/oauth/token", redeems(location.Query().Get("code")).Encode(), webSecret, http.StatusOK)
		}},
		{"introspection", func(t *testing.T, n int) {
			send(t, "/oauth/introspect", "token="+tokens[n], webSecret, http.StatusOK)
		}},
		{"revocation", func(t *testing.T, n int) {
			send(t, "/oauth/revoke", "token="+tokens[n], webSecret, http.StatusOK)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := heap()
			for n := range requests {
				c.send(t, n)
			}
			grown := heap() - before
			if grown > requests*int64(len(padding))/4 {
				t.Errorf("%d requests have left %d KB in memory", requests, grown>>10)
			}
		})
	}
	runtime.KeepAlive(s)
}
