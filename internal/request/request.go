// Package request tells what Caddy knows of a request: the URL, the scheme and the address of the client, as they were before any
// handler has changed them. It also keeps secrets of requests out of Caddy's logs, see [HideSecretsFromLogs], drops headers that only a trusted program may
// send, see [DropHeader], and keeps the headers of a response from being changed, see [KeepHeaders].
package request

import (
	"net"
	"net/http"
	"net/url"
	"strconv"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// Original returns the URL as the client sent it, whatever rewrites there were since.
func Original(r *http.Request) *url.URL {
	if sent, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && sent.URL != nil {
		return sent.URL
	}
	return r.URL
}

// WithOriginal returns the request with the URL as the client sent it.
func WithOriginal(r *http.Request) *http.Request {
	sent := Original(r)
	if *sent == *r.URL {
		return r
	}
	restored, u := *r, *sent
	restored.URL, restored.RequestURI = &u, u.RequestURI()
	return &restored
}

// Innermost returns the writer of net/http, whose deadlines any goroutine may set. Those of Caddy's writers around it are for the
// goroutine of the handler only.
func Innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		outer, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = outer.Unwrap()
	}
}

// Scheme returns the scheme by which a client has sent a request. A proxy before Caddy may have decrypted it.
func Scheme(r *http.Request) string {
	if r.TLS != nil || fromTrustedProxy(r) && r.Header.Get("X-Forwarded-Proto") == "https" {
		return "https"
	}
	return "http"
}

// AtOwnPort reports whether a host names the port at which the request has arrived, or none. Another program may be at another port of the
// same host.
func AtOwnPort(r *http.Request, host string) bool {
	_, port, err := net.SplitHostPort(host)
	if err != nil {
		return true
	}
	switch local := r.Context().Value(http.LocalAddrContextKey).(type) {
	case *net.TCPAddr:
		return port == strconv.Itoa(local.Port)
	case *net.UDPAddr: // HTTP/3
		return port == strconv.Itoa(local.Port)
	}
	return false
}

// Log adds fields to a request in the access log, if there is one. Without it, the log lines of other modules, which have these fields too,
// lack them.
func Log(r *http.Request, fields ...zap.Field) {
	if server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && server.Logs == nil {
		return
	}
	if extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		for _, field := range fields {
			extra.Set(field)
		}
	}
}
