package caddyoauth

import (
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oauth/caddy-oauth/internal/wire"
)

// restart answers a request from the start, without the secrets that were in its URL. Caddy keeps a copy of each request, as it
// came, for the access log and for the logs of errors, and nothing can change that copy. So the first request is not logged, and
// the one without the secrets is: it is refused for the same reason.
type restart struct {
	server *caddyhttp.Server
	r      *http.Request
}

// withoutSecrets returns the restart of a request, nil if there is no secret in its URL or in that of the page it came from.
func withoutSecrets(r *http.Request) *restart {
	sent, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok {
		return nil
	}
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return nil
	}
	target, referer := wire.HideSecrets(sent.RequestURI), wire.HideSecrets(r.Referer())
	if target == sent.RequestURI && referer == r.Referer() {
		return nil
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return nil
	}
	again := r.Clone(r.Context())
	again.Method, again.URL, again.RequestURI = sent.Method, u, target
	if referer != "" {
		again.Header.Set("Referer", referer)
	}
	return &restart{server, again}
}

// run answers the request.
func (s *restart) run(w http.ResponseWriter) {
	caddyhttp.SetVar(s.r.Context(), caddyhttp.LogSkipVar, true)
	s.server.ServeHTTP(w, s.r)
}
