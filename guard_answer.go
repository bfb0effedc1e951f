package caddyoauth

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/request"
	"github.com/caddy-oauth/caddy-oauth/internal/routes"
)

// CORS says which scripts of other origins may call a guarded route.
type CORS struct {
	// The origins of the scripts, such as `https://app.example.com`. Default: all. A script needs a token in any case, and
	// cookies play no part.
	Origins []string `json:"origins,omitempty"`
}

// rules returns the rules for the answer to a request: those of this guard, or else of another that the request is to pass.
func (g *Guard) rules(r *http.Request) *bearer.CORS {
	if g.cors != nil || r.Header.Get("Origin") == "" {
		return g.cors
	}
	for other := range g.place.besides(r) {
		if other.cors != nil {
			return other.cors
		}
	}
	return nil
}

// preflight answers a preflight, which has no token, by the rules or as the site has it. It reports false if neither says
// anything about it: the request is refused like any other, and the log says once what is missing.
func (g *Guard) preflight(w http.ResponseWriter, r *http.Request, rules *bearer.CORS) (answered bool, _ error) {
	if rules != nil {
		rules.Preflight(w, r)
		return true, nil
	}
	if route := preflightRoute(g.place.routes, r); route != nil {
		nobody := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
		return true, route.Compile(nobody).ServeHTTP(w, r)
	}
	g.place.preflights.Do(func() {
		g.place.log.Warn("a script of another origin may not call a guarded route; if it should, add cors to the guard",
			zap.String("origin", r.Header.Get("Origin")), zap.String("path", request.Original(r).Path))
	})
	return false, nil
}

// preflightRoute returns the route in which the site itself answers a preflight: the first that matches, is for OPTIONS and no
// other method, and has an answer. No other route gets a request without a token.
func preflightRoute(routes caddyhttp.RouteList, r *http.Request) *caddyhttp.Route {
	for _, route := range routes {
		if matches, err := route.MatcherSets.AnyMatchWithError(r); !matches || err != nil {
			continue
		}
		if onlyForOptions(route) && answers(route) {
			return &route
		}
		for _, h := range route.Handlers {
			if block, ok := h.(*caddyhttp.Subroute); ok {
				if found := preflightRoute(block.Routes, r); found != nil {
					return found
				}
			}
		}
	}
	return nil
}

func onlyForOptions(route caddyhttp.Route) bool {
	options := func(matcher any) bool {
		m, ok := matcher.(*caddyhttp.MatchMethod)
		return ok && slices.Equal(*m, []string{http.MethodOptions})
	}
	return len(route.MatcherSets) > 0 && !slices.ContainsFunc(route.MatcherSets, func(set caddyhttp.MatcherSet) bool {
		return !slices.ContainsFunc(set, options)
	})
}

// answers reports whether a route has a handler that answers: `respond`, or a proxy that is no login.
func answers(route caddyhttp.Route) bool {
	return slices.ContainsFunc(route.Handlers, func(h caddyhttp.MiddlewareHandler) bool {
		switch h := h.(type) {
		case *caddyhttp.StaticResponse:
			return true
		case *reverseproxy.Handler:
			return !routes.IsLogin(h)
		case *caddyhttp.Subroute:
			return slices.ContainsFunc(h.Routes, answers)
		}
		return false
	})
}

// answer is the response to a request that a guard has let pass.
type answer struct {
	caddyhttp.ResponseWriterWrapper
	request *http.Request
	cors    *bearer.CORS // nil: none
	watch   *watch       // nil: there was no token
	wrote   bool
}

// start is called before the header or anything after it is written.
func (a *answer) start(status int) {
	if a.wrote {
		return
	}
	a.wrote = true
	h := a.Header()
	if a.watch != nil && isStream(status, h) {
		a.watch.stream.Store(true)
	}
	if a.cors != nil && h.Get("Access-Control-Allow-Origin") == "" { // otherwise the site has rules of its own
		a.cors.Allow(h, a.request, "*")
	}
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if status >= http.StatusOK || status == http.StatusSwitchingProtocols { // other 1xx come before the response
		a.start(status)
	}
	a.ResponseWriterWrapper.WriteHeader(status)
}

// ended reports whether the guard has cut the request. A deadline alone would not do: Caddy sets a new one with each write.
func (a *answer) ended() bool { return a.watch != nil && a.watch.ended.Load() }

// Write implements http.ResponseWriter.
func (a *answer) Write(b []byte) (int, error) {
	a.start(http.StatusOK)
	if a.ended() {
		return 0, errTokenEnded
	}
	return a.ResponseWriterWrapper.Write(b)
}

// ReadFrom implements io.ReaderFrom.
func (a *answer) ReadFrom(r io.Reader) (int64, error) {
	a.start(http.StatusOK)
	if a.ended() {
		return 0, errTokenEnded
	}
	return a.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError is what http.ResponseController calls.
func (a *answer) FlushError() error {
	a.start(http.StatusOK)
	if a.ended() {
		return errTokenEnded
	}
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Hijack is what http.ResponseController calls for a connection that the handler takes over.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if a.watch != nil {
		a.watch.stream.Store(true)
	}
	return http.NewResponseController(a.ResponseWriter).Hijack()
}

// watchInterval is how often a guard looks at the token of a request that lasts.
const watchInterval = time.Second

// errTokenEnded is what writing a response gives after the guard has cut it.
var errTokenEnded = errors.New("the access token of the request has ended")

// watch ends a request that outlives its token. A stream, such as server-sent events or a WebSocket, ends when its token expires.
// Any other response may still be completed then: it is one answer to a request that was allowed. All end when the token is
// revoked. A watch costs a timer and, once a second, a check of the token. It is the context of the request, which it makes one that
// can be cut when somebody begins to wait for its end.
type watch struct {
	context.Context // of the request before the guard

	guard  *Guard
	token  string
	claims *jwt.Claims
	leeway time.Duration // with which the token was valid at the start

	writer http.ResponseWriter // of net/http
	stream atomic.Bool         // the response is a stream
	ended  atomic.Bool         // the request was cut

	awaited atomic.Pointer[awaited] // nil until somebody waits for the end

	mu    sync.Mutex // held while the request is cut, so that it does not return meanwhile
	timer *time.Timer
	done  bool
}

// awaited is a context that ends when its request is cut.
type awaited struct {
	context.Context

	cancel context.CancelFunc
}

// watch begins to watch a request. Its context ends when the request is cut.
func (g *Guard) watch(w http.ResponseWriter, r *http.Request, token string, claims *jwt.Claims) *watch {
	watched := &watch{Context: r.Context(), guard: g, token: token, claims: claims, writer: request.Innermost(w)}
	if !time.Now().Before(claims.Expires) {
		watched.leeway = g.resource.Leeway
	}
	watched.stream.Store(r.Method == http.MethodConnect) // a WebSocket over HTTP/2 (RFC 8441)
	// In place: placeholders and error routes have this very request. They need its context after the handlers have returned, so
	// that it ends with its parent.
	*r = *r.WithContext(watched)
	watched.mu.Lock()
	defer watched.mu.Unlock()
	watched.timer = time.AfterFunc(watched.pause(), watched.look)
	return watched
}

// pause returns how long to wait until the next look.
func (w *watch) pause() time.Duration {
	if left := time.Until(w.claims.Expires.Add(w.leeway)); w.stream.Load() && left > 0 {
		return min(left, watchInterval)
	}
	return watchInterval
}

// look checks the token, and cuts the request if it has ended.
func (w *watch) look() {
	err := w.guard.resource.Recheck(context.Background(), w.token, w.leeway)
	_, invalid := errors.AsType[jwt.InvalidToken](err)
	expired := errors.Is(err, jwt.ErrExpired)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.done:
	case invalid && (!expired || w.stream.Load()):
		w.cut(err)
	default: // valid, or nobody knows at the moment
		w.timer.Reset(w.pause())
	}
}

// cut ends the request: a proxy goes by its context, and whatever else reads or writes gets an error.
func (w *watch) cut(cause error) {
	w.end()
	control, past := http.NewResponseController(w.writer), time.Unix(1, 0)
	_ = control.SetReadDeadline(past) // what cannot be done here, Write does
	_ = control.SetWriteDeadline(past)
	w.guard.place.log.Info("request ended together with its access token",
		zap.String("client_id", w.claims.ClientID), zap.NamedError("cause", cause))
}

// end ends the context of the request.
func (w *watch) end() {
	w.ended.Store(true)
	if end := w.awaited.Load(); end != nil {
		end.cancel()
	}
}

// Done implements context.Context.
func (w *watch) Done() <-chan struct{} {
	if end := w.awaited.Load(); end != nil {
		return end.Done()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	end := w.awaited.Load()
	if end == nil {
		ctx, cancel := context.WithCancel(w.Context)
		end = &awaited{ctx, cancel}
		w.awaited.Store(end)
	}
	if w.ended.Load() {
		end.cancel()
	}
	return end.Done()
}

// Err implements context.Context.
func (w *watch) Err() error {
	if w.ended.Load() {
		return context.Canceled
	}
	return w.Context.Err()
}

// Value implements context.Context. A context that somebody waits for has its own value for contexts below this one: they end with it
// without a goroutine of their own.
func (w *watch) Value(key any) any {
	if end := w.awaited.Load(); end != nil {
		return end.Value(key)
	}
	return w.Context.Value(key)
}

// stop ends the watch, when the request has been answered.
func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = true
	w.timer.Stop()
}

// streams are the media types of responses that have no end of their own.
var streams = []string{
	"text/event-stream", "multipart/x-mixed-replace", "application/x-ndjson", "application/jsonl", "application/json-seq",
}

// isStream reports whether a response is a stream.
func isStream(status int, h http.Header) bool {
	media, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	media = strings.ToLower(strings.TrimSpace(media))
	return status == http.StatusSwitchingProtocols || caddyhttp.IsIncremental(h) ||
		slices.Contains(streams, media) || strings.HasPrefix(media, "application/grpc")
}
