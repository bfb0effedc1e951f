package bearer

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/dpop"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
)

// Only a request from this machine can come with a proof that was at another port, and only while the first request with it is in progress.
func TestOneProofAtTwoPorts(t *testing.T) {
	for _, tt := range []struct {
		name, peer string
		local      [2]net.Addr
		passes     bool
	}{
		{"from elsewhere", "192.0.2.1:5000", [2]net.Addr{tcp("198.51.100.1:443"), tcp("198.51.100.1:8443")}, false},
		{"from elsewhere, of one port", "192.0.2.1:5000", [2]net.Addr{tcp("198.51.100.1:443"), tcp("198.51.100.1:443")}, false},
		{"from elsewhere, then from here", "192.0.2.1:5000", [2]net.Addr{tcp("198.51.100.1:443"), &net.UnixAddr{Name: "/run/inner", Net: "unix"}}, true},
		{"from the address of this machine", "198.51.100.1:5000", [2]net.Addr{tcp("[::ffff:198.51.100.1]:443"), tcp("198.51.100.1:8443")}, true},
		{"from loopback", "127.0.0.1:5000", [2]net.Addr{tcp("127.0.0.1:443"), tcp("127.0.0.1:8443")}, true},
		{"from loopback, of one port", "127.0.0.1:5000", [2]net.Addr{tcp("127.0.0.1:443"), tcp("127.0.0.2:443")}, false},
		{"by HTTP/3", "[::1]:5000", [2]net.Addr{&net.UDPAddr{IP: net.IPv6loopback, Port: 443}, tcp("[::1]:8443")}, true},
		{"by HTTP/3, of one port", "[::1]:5000", [2]net.Addr{&net.UDPAddr{IP: net.IPv6loopback, Port: 443}, tcp("[::1]:443")}, false},
		{"from here, then from elsewhere", "192.0.2.1:5000", [2]net.Addr{&net.UnixAddr{Name: "/run/inner", Net: "unix"}, tcp("198.51.100.1:443")}, false},
		{"of servers that do not say", "127.0.0.1:5000", [2]net.Addr{}, false},
	} {
		p := jwttest.NewProver(t, "ES256", time.Now)
		claims := &jwt.Claims{Audience: []string{"https://api.example"}, Bound: jwt.Confirmation{Thumbprint: p.Thumbprint}}
		resource := &Resource{
			Source: fakeSource{claims: claims}, Audience: claims.Audience, Proofs: &dpop.Checker{Memory: dpop.NewMemory(), Now: time.Now},
			Target: func(*http.Request) string { return "https://api.example/orders" },
		}
		for _, ended := range []bool{false, true} {
			testTwoPorts(t, resource, tt.name, p.Prove(t, http.MethodGet, "https://api.example/orders", "good"), tt.peer, tt.local, ended, tt.passes && !ended)
		}
	}
}

// testTwoPorts sends two requests with one proof. The first one has ended before the second one, or is in progress.
func testTwoPorts(t *testing.T, resource *Resource, name, proof, peer string, locals [2]net.Addr, ended, passes bool) {
	t.Helper()
	for n, local := range locals {
		ctx, end := context.WithCancel(t.Context())
		defer end()
		if local != nil {
			ctx = context.WithValue(ctx, http.LocalAddrContextKey, local)
		}
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "https://api.example/orders", nil)
		r.RemoteAddr = peer
		r.Header.Set("Authorization", "DPoP good")
		r.Header.Set(dpop.Header, proof)
		if _, err := resource.Check(r, new(Tokens), ""); (err == nil) != (n == 0 || passes) {
			t.Errorf("%s, the first one has ended: %t: request %d: %v", name, ended, n+1, err)
		}
		if ended {
			end()
		}
	}
}

func tcp(address string) net.Addr {
	a, _ := net.ResolveTCPAddr("tcp", address)
	return a
}
