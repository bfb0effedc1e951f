package caddyoauth

import (
	"context"
	"maps"
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oauth/caddy-oauth/internal/wire"
)

// restartedKey is the key of the request target as the client sent it, in the context of a request that was restarted.
type restartedKey struct{}

// restart answers a request from its start if Caddy's logs would have a secret of it, and reports whether it did. Caddy copies each
// request, as it came, for the access log and for the logs of errors, and nothing can change that copy. So the first request is not
// logged, and the second is. That has no secret in what Caddy logs of it: its RequestURI and its Referer. Its URL, which
// matchers, placeholders and handlers use, is the same.
//
// With codes, the response can have an authorization code in its Location, which is another in the log.
func restart(w http.ResponseWriter, r *http.Request, codes bool) bool {
	ctx := r.Context()
	sent, ok := ctx.Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok || !codes && !wire.MayHaveSecrets(sent.RequestURI) && r.Referer() == "" { // as most requests, at every handler of a site
		return false
	}
	if target, again := ctx.Value(restartedKey{}).(string); again {
		ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Set("http.request.orig_uri", target)
		return false
	}
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || ctx.Value(caddyhttp.ErrorCtxKey) != nil { // a site that has failed is not asked again
		return false
	}
	codes = codes && server.Logs != nil
	target, referer := wire.HideSecrets(sent.RequestURI), wire.HideSecrets(r.Referer())
	if target == sent.RequestURI && referer == r.Referer() && !codes {
		return false
	}
	second := secondRequest(context.WithValue(ctx, restartedKey{}, sent.RequestURI), r, &sent)
	second.RequestURI = target
	if referer != "" {
		second.Header.Set("Referer", referer)
	}
	w = beginAgain(w, r)
	if codes {
		w = &locationHider{ResponseWriter: w, header: make(http.Header)}
	}
	server.ServeHTTP(w, second)
	return true
}

// secondRequest returns the request as the client sent it, with another context.
func secondRequest(ctx context.Context, r, sent *http.Request) *http.Request {
	if found, ok := caddyhttp.GetVar(r.Context(), identityVar).(*identity); ok {
		ctx = found.tokens.Again(ctx)
	}
	second := r.Clone(ctx)
	second.Method, second.RequestURI = sent.Method, sent.RequestURI
	*second.URL = *sent.URL
	return second
}

// beginAgain leaves the first request out of the access log, and returns the writer for the response to the second one. The handlers
// before this one see the response to the second request as that. Nothing of the first one remains.
func beginAgain(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
	w = innermost(w)
	clear(w.Header())
	return w
}

// locationHider is the writer for a response whose Location has a secret. When the response has begun, its own header, which Caddy
// logs, has the Location without the secret.
type locationHider struct {
	http.ResponseWriter

	header http.Header
	began  bool
}

// Header implements http.ResponseWriter.
func (h *locationHider) Header() http.Header { return h.header }

// WriteHeader implements http.ResponseWriter.
func (h *locationHider) WriteHeader(status int) {
	if h.began {
		return
	}
	header := h.ResponseWriter.Header()
	clear(header)
	maps.Copy(header, h.header)
	h.ResponseWriter.WriteHeader(status)
	if status < http.StatusOK && status != http.StatusSwitchingProtocols { // the response is yet to come
		return
	}
	h.began = true
	if location := h.header.Get("Location"); location != "" {
		h.header = maps.Clone(h.header)
		h.header.Set("Location", wire.HideSecrets(location))
	}
}

// Write implements http.ResponseWriter.
func (h *locationHider) Write(b []byte) (int, error) {
	h.WriteHeader(http.StatusOK)
	return h.ResponseWriter.Write(b)
}

// FlushError is what http.ResponseController calls.
func (h *locationHider) FlushError() error {
	h.WriteHeader(http.StatusOK)
	return http.NewResponseController(h.ResponseWriter).Flush()
}

// Unwrap is what http.ResponseController calls for all else.
func (h *locationHider) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// innermost returns the writer of net/http, whose deadlines any goroutine may set. Those of Caddy's writers around it are for the
// goroutine of the handler only.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		outer, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = outer.Unwrap()
	}
}

// originalURL returns the URL as the client sent it, whatever rewrites there were since.
func originalURL(r *http.Request) *url.URL {
	if sent, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && sent.URL != nil {
		return sent.URL
	}
	return r.URL
}

// withOriginalURL returns the request with the URL as the client sent it.
func withOriginalURL(r *http.Request) *http.Request {
	sent := originalURL(r)
	if *sent == *r.URL {
		return r
	}
	restored, u := *r, *sent
	restored.URL, restored.RequestURI = &u, u.RequestURI()
	return &restored
}
