package authserver

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
)

// The cost of a guard in a request.
func BenchmarkGuard(b *testing.B) {
	for _, algorithm := range []string{"ES256", "EdDSA"} {
		s := newBenchServer(b, algorithm)
		guard := &bearer.Resource{
			Source: s.Server, Audience: []string{testIssuer}, Scopes: []string{"orders"},
			Monitor: s.Monitor(),
		}
		r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/api/orders"}, Header: http.Header{"Authorization": {""}}}
		check := func(b *testing.B, authorization string) {
			b.Helper()
			r.Header["Authorization"][0] = authorization
			if claims, err := guard.Check(r, new(bearer.Tokens), ""); err != nil || claims.ClientID != "webapp" {
				b.Fatal(err)
			}
		}
		b.Run(algorithm+"/seen", func(b *testing.B) {
			authorization := "Bearer " + s.newAccessToken(b)
			check(b, authorization)
			b.ReportAllocs()
			for b.Loop() {
				check(b, authorization)
			}
		})
		b.Run(algorithm+"/new", func(b *testing.B) {
			fresh := func() string { return "Bearer " + s.newAccessToken(b) }
			benchBatches(b, fresh, func(authorization string) { check(b, authorization) })
		})
	}
}
