package caddyoauth

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// watchInterval is how often a guard looks at the token of a request that lasts.
const watchInterval = time.Second

// errTokenEnded is what writing a response gives after the guard has cut it.
var errTokenEnded = errors.New("the access token of the request has ended")

// watch ends a request that outlives its token. A stream, such as server-sent events or a WebSocket, ends when its token expires.
// Any other response may still be completed then: it is one answer to a request that was allowed. All end when the token is
// revoked. A watch costs a timer and a context, and, once a second, a check of the token.
type watch struct {
	guard  *Guard
	token  string
	claims *jwt.Claims
	leeway time.Duration // with which the token was valid at the start

	cancel  context.CancelFunc // of the request
	control *http.ResponseController
	stream  atomic.Bool // the response is a stream
	ended   atomic.Bool // the request was cut

	mu    sync.Mutex // held while the request is cut, so that it does not return meanwhile
	timer *time.Timer
	done  bool
}

// watch begins to watch a request. Its context ends when the request is cut.
func (g *Guard) watch(w http.ResponseWriter, r *http.Request, token string, claims *jwt.Claims) *watch {
	watched := &watch{guard: g, token: token, claims: claims, control: http.NewResponseController(innermost(w))}
	if !time.Now().Before(claims.Expires) {
		watched.leeway = g.resource.Leeway
	}
	watched.stream.Store(r.Method == http.MethodConnect) // a WebSocket over HTTP/2 (RFC 8441)
	ctx, cancel := context.WithCancel(r.Context())
	watched.cancel = cancel
	// In place: placeholders and error routes have this very request. They need its context after the handlers have returned, so
	// that it ends with its parent.
	*r = *r.WithContext(ctx)
	watched.mu.Lock()
	defer watched.mu.Unlock()
	watched.timer = time.AfterFunc(watched.pause(), watched.look)
	return watched
}

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
	w.ended.Store(true)
	w.cancel()
	past := time.Unix(1, 0)
	_ = w.control.SetReadDeadline(past) // what cannot be done here, Write does
	_ = w.control.SetWriteDeadline(past)
	w.guard.place.log.Info("request ended together with its access token",
		zap.String("client_id", w.claims.ClientID), zap.NamedError("cause", cause))
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
	media, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return status == http.StatusSwitchingProtocols || caddyhttp.IsIncremental(h) ||
		err == nil && (slices.Contains(streams, media) || strings.HasPrefix(media, "application/grpc"))
}
