package request

import (
	"context"
	"maps"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oauth/caddy-oauth/internal/wire"
)

// restartedKey is the key of the request target as the client sent it, in the context of a request that was restarted.
type restartedKey struct{}

// HideSecretsFromLogs answers a request from its start if Caddy's logs would have a secret of it, and reports whether it did. Caddy copies each
// request, as it came, for the access log and for the logs of errors, and nothing can change that copy. So the first request is not
// logged, and the second is. That has no secret in what Caddy logs of it: its RequestURI and its Referer. Its URL, which
// matchers, placeholders and handlers use, is the same.
//
// With secretLocation, the Location of the response can have a secret, such as an authorization code. The log then has the Location without the secret.
func HideSecretsFromLogs(w http.ResponseWriter, r *http.Request, secretLocation bool) bool {
	ctx := r.Context()
	sent, ok := ctx.Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok || !secretLocation && !wire.MayHaveSecrets(sent.RequestURI) && r.Referer() == "" { // as most requests, at every handler of a site
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
	secretLocation = secretLocation && server.Logs != nil
	target, referer := wire.HideSecrets(sent.RequestURI), wire.HideSecrets(r.Referer())
	if target == sent.RequestURI && referer == r.Referer() && !secretLocation {
		return false
	}
	second := secondRequest(context.WithValue(ctx, restartedKey{}, sent.RequestURI), r, &sent)
	second.RequestURI = target
	if referer != "" {
		second.Header.Set("Referer", referer)
	}
	w = beginAgain(w, r)
	if secretLocation {
		w = &locationHider{ResponseWriter: w, header: make(http.Header)}
	}
	server.ServeHTTP(w, second)
	return true
}

// StartAgain answers a request from its start, with another context, after a handler has changed its headers. It reports whether it did.
func StartAgain(ctx context.Context, w http.ResponseWriter, r *http.Request) bool {
	server, ok1 := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	sent, ok2 := ctx.Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok1 || !ok2 {
		return false
	}
	server.ServeHTTP(beginAgain(w, r), secondRequest(ctx, r, &sent))
	return true
}

// StateVar is the variable of a request in which the guards of a site keep a [State].
const StateVar = "oauth_guard.state"

// State is what the guards of a site know of a request.
type State interface {
	// Again returns a context with what they are to know of the request when it has started again.
	Again(ctx context.Context) context.Context
}

// secondRequest returns the request as the client sent it, with another context.
func secondRequest(ctx context.Context, r, sent *http.Request) *http.Request {
	if state, ok := caddyhttp.GetVar(r.Context(), StateVar).(State); ok {
		ctx = state.Again(ctx)
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
	w = Innermost(w)
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
