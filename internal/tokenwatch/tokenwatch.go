// Package tokenwatch ends a request together with its access token. A guard begins with [Begin], and gives the handlers after it a [Response].
package tokenwatch

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
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/request"
)

// Response is the response to a request that a guard has let pass.
type Response struct {
	caddyhttp.ResponseWriterWrapper
	request *http.Request
	cors    *bearer.CORS // nil: none
	watch   *Watch       // nil: there was no token
	wrote   bool
}

// NewResponse returns the writer for the response to a request. watch is that of the request, nil if it has no token. Scripts of other
// origins may read the response as cors says, nil: the guard does not say.
func NewResponse(w http.ResponseWriter, r *http.Request, cors *bearer.CORS, watch *Watch) *Response {
	return &Response{ResponseWriterWrapper: caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, request: r, cors: cors, watch: watch}
}

// start is called before the header or anything after it is written.
func (a *Response) start(status int) {
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
func (a *Response) WriteHeader(status int) {
	if status >= http.StatusOK || status == http.StatusSwitchingProtocols { // other 1xx come before the response
		a.start(status)
	}
	a.ResponseWriterWrapper.WriteHeader(status)
}

// ended reports whether the guard has cut the request. A deadline alone would not do: Caddy sets a new one with each write.
func (a *Response) ended() bool { return a.watch != nil && a.watch.ended.Load() }

// Write implements http.ResponseWriter.
func (a *Response) Write(b []byte) (int, error) {
	a.start(http.StatusOK)
	if a.ended() {
		return 0, errTokenEnded
	}
	return a.ResponseWriterWrapper.Write(b)
}

// ReadFrom implements io.ReaderFrom.
func (a *Response) ReadFrom(r io.Reader) (int64, error) {
	a.start(http.StatusOK)
	if a.ended() {
		return 0, errTokenEnded
	}
	return a.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError is what http.ResponseController calls.
func (a *Response) FlushError() error {
	a.start(http.StatusOK)
	if a.ended() {
		return errTokenEnded
	}
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Hijack is what http.ResponseController calls for a connection that the handler takes over.
func (a *Response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if a.watch != nil {
		a.watch.stream.Store(true)
	}
	return http.NewResponseController(a.ResponseWriter).Hijack()
}

// interval is how often a guard looks at the token of a request that lasts.
const interval = time.Second

// errTokenEnded is what writing a response gives after the guard has cut it.
var errTokenEnded = errors.New("the access token of the request has ended")

// Watch ends a request that outlives its token. A stream, such as server-sent events or a WebSocket, ends when its token expires.
// Any other response may still be completed then: it is one answer to a request that was allowed. All end when the token is
// revoked. A watch costs a timer and, once a second, a check of the token. It is the context of the request, which it makes one that
// can be cut when somebody begins to wait for its end.
type Watch struct {
	context.Context // of the request before the guard

	resource *bearer.Resource
	log      *zap.Logger
	token    string
	claims   *jwt.Claims
	leeway   time.Duration // with which the token was valid at the start

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

// Begin begins to watch a request with a token that the resource has let pass. Its context ends when the request is cut. Call Stop when
// the request has been answered.
func Begin(
	w http.ResponseWriter, r *http.Request, resource *bearer.Resource, token string, claims *jwt.Claims, log *zap.Logger,
) *Watch {
	watched := &Watch{Context: r.Context(), resource: resource, log: log, token: token, claims: claims, writer: request.Innermost(w)}
	if !time.Now().Before(claims.Expires) {
		watched.leeway = resource.Leeway
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
func (w *Watch) pause() time.Duration {
	if left := time.Until(w.claims.Expires.Add(w.leeway)); w.stream.Load() && left > 0 {
		return min(left, interval)
	}
	return interval
}

// look checks the token, and cuts the request if it has ended.
func (w *Watch) look() {
	err := w.resource.Recheck(context.Background(), w.token, w.leeway)
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
func (w *Watch) cut(cause error) {
	w.end()
	control, past := http.NewResponseController(w.writer), time.Unix(1, 0)
	_ = control.SetReadDeadline(past) // what cannot be done here, Write does
	_ = control.SetWriteDeadline(past)
	w.log.Info("request ended together with its access token",
		zap.String("client_id", w.claims.ClientID), zap.NamedError("cause", cause))
}

// end ends the context of the request.
func (w *Watch) end() {
	w.ended.Store(true)
	if end := w.awaited.Load(); end != nil {
		end.cancel()
	}
}

// Done implements context.Context.
func (w *Watch) Done() <-chan struct{} {
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
func (w *Watch) Err() error {
	if w.ended.Load() {
		return context.Canceled
	}
	return w.Context.Err()
}

// Value implements context.Context. A context that somebody waits for has its own value for contexts below this one: they end with it
// without a goroutine of their own.
func (w *Watch) Value(key any) any {
	if end := w.awaited.Load(); end != nil {
		return end.Value(key)
	}
	return w.Context.Value(key)
}

// Stop ends the watch, when the request has been answered.
func (w *Watch) Stop() {
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
