package authserver

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
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
	send := func(path, body, secret string) (status int) {
		r := postRequest(path, unescape.Replace(body)+"&padding="+padding)
		if secret != "" {
			r.SetBasicAuth("webapp", url.QueryEscape(secret))
		}
		w := newRecorder()
		_ = s.ServeHTTP(w, r, s.site)
		return w.Code
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
		name   string
		status int
		send   func(n int) (status int)
	}{
		{"refresh", http.StatusOK, func(n int) int {
			return send("/oauth/token", refreshes(tokens[n], "scope", "orders").Encode(), webSecret)
		}},
		{"wrong refresh token", http.StatusBadRequest, func(n int) int {
			return send("/oauth/token", refreshes(fmt.Sprint("wrong", n)).Encode(), webSecret)
		}},
		{"unknown grant", http.StatusBadRequest, func(int) int {
			return send("/oauth/token", "grant_type=wrong", webSecret)
		}},
		{"wrong secret in the body", http.StatusUnauthorized, func(n int) int {
			return send("/oauth/token", fmt.Sprint("grant_type=refresh_token&client_id=client", n, "&client_secret=wrong"), "")
		}},
		{"pushed request that is too long", http.StatusRequestEntityTooLarge, func(int) int {
			return send("/oauth/par", asks("webapp", "scope", "orders").Encode(), webSecret)
		}},
		{"code", http.StatusOK, func(n int) int {
			s.site.user = &User{Subject: fmt.Sprint("another", n)} // of whom no use is known
			query := unescape.Replace(asks("webapp", "scope", "orders").Encode()) + "&padding=" + padding
			w := newRecorder()
			_ = s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/oauth/authorize?"+query, nil), s.site)
			location, _ := url.Parse(w.Header().Get("Location"))
			return send("/oauth/token", redeems(location.Query().Get("code")).Encode(), webSecret)
		}},
		{"introspection", http.StatusOK, func(n int) int { return send("/oauth/introspect", "token="+tokens[n], webSecret) }},
		{"revocation", http.StatusOK, func(n int) int { return send("/oauth/revoke", "token="+tokens[n], webSecret) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := heap()
			for n := range requests {
				if status := c.send(n); status != c.status && status != http.StatusTooManyRequests {
					t.Fatalf("request %d: status %d", n, status)
				}
			}
			if grown := heap() - before; grown > requests*int64(len(padding))/4 {
				t.Errorf("%d requests have left %d KB in memory", requests, grown>>10)
			}
		})
	}
	runtime.KeepAlive(s)
}
