package caddyoauth_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
)

// route is a route of a Caddy in this process, and a request to it.
type route struct {
	name    string
	handler http.Handler
	request func(n int) *http.Request
}

// serve answers a request.
func (r *route) serve(tb testing.TB, n int) {
	tb.Helper()
	w := httptest.NewRecorder()
	if r.handler.ServeHTTP(w, r.request(n)); w.Code != http.StatusOK {
		tb.Fatalf("%s: %d %v", r.name, w.Code, w.Header())
	}
}

// guardedRoutes returns a route without a guard, and others with one, all with the same token but for the last.
func guardedRoutes(tb testing.TB) []route {
	tb.Helper()
	s := newServer(tb)
	s.run(tb, strings.Replace(shop, "scope orders", "scope orders\nclient billing {\nsecret billing-secret\nscopes orders\n}", 1), `http://shop.localhost:PORT {
		oauth
		respond /open ok
		handle /guarded {
			oauth_guard {
				scopes orders
			}
			respond ok
		}
		handle /mcp {
			oauth_guard {
				scopes orders
				resource http://shop.localhost:PORT
				cors
				mcp
			}
			respond ok
		}
	}`)
	root := s.url("shop.localhost")
	app, err := caddy.ActiveContext().App("http")
	if err != nil {
		tb.Fatal(err)
	}
	handler := app.(*caddyhttp.App).Servers["srv0"]
	get := func(path string, header ...string) func(int) *http.Request {
		return func(int) *http.Request {
			r := httptest.NewRequestWithContext(tb.Context(), http.MethodGet, root+path, nil)
			for n := 0; n < len(header); n += 2 {
				r.Header.Set(header[n], header[n+1])
			}
			return r
		}
	}
	token := func(header ...string) string {
		answer := s.do(tb, http.MethodPost, root+"/oauth/token", "application/x-www-form-urlencoded", asBilling.Encode(), header...)
		var got tokens
		if err := json.Unmarshal([]byte(answer.body), &got); err != nil || got.AccessToken == "" {
			tb.Fatalf("%d %s", answer.status, answer.body)
		}
		return got.AccessToken
	}
	bearer := "Bearer " + token()
	p := jwttest.NewProver(tb, "ES256", time.Now)
	bound := token("DPoP", p.Prove(tb, http.MethodPost, root+"/oauth/token", ""))
	var proofs []string
	return []route{
		{"open", handler, get("/open", "Authorization", bearer)},
		{"guard", handler, get("/guarded", "Authorization", bearer)},
		{"cors and mcp", handler, get("/mcp", "Authorization", bearer)},
		{"DPoP", handler, func(n int) *http.Request {
			for len(proofs) <= n {
				proofs = append(proofs, p.Prove(tb, http.MethodGet, root+"/guarded", bound))
			}
			return get("/guarded", "Authorization", "DPoP "+bound, "DPoP", proofs[n])(n)
		}},
	}
}

// BenchmarkGuard measures routes of a Caddy, without the network, with a token that was seen before.
func BenchmarkGuard(b *testing.B) {
	for _, r := range guardedRoutes(b) {
		n := 0
		b.Run(r.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if r.name == "DPoP" { // a new proof each time
					b.StopTimer()
					r.request(n)
					b.StartTimer()
				}
				r.serve(b, n)
				n++
			}
		})
	}
}
