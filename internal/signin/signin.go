// Package signin runs the login of a site before an endpoint that needs a person, and knows what the logins of Caddy say of the person.
//
// Start reading at Login. Result is for the warnings about a login whose placeholders cannot name anybody.
package signin

import (
	"cmp"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oauth/caddy-oauth/internal/request"
	"github.com/caddy-oauth/caddy-oauth/internal/routes"
)

// Login finds out who a person is, before an endpoint answers.
type Login struct {
	Routes caddyhttp.RouteList // its handlers
	Beside []Beside            // run instead, if there are none
}

// IsZero reports whether there are no handlers to run.
func (l Login) IsZero() bool { return len(l.Routes) == 0 && len(l.Beside) == 0 }

// Run runs the handlers, and then answer.
func (l Login) Run(w http.ResponseWriter, r *http.Request, answer caddyhttp.HandlerFunc) error {
	if len(l.Routes) == 0 {
		return l.runBeside(w, r, answer)
	}
	// Change the URL in place: the replacer reads placeholders from this *http.Request.
	rewritten, target, method := *r.URL, r.RequestURI, r.Method
	*r.URL = *request.Original(r)
	r.RequestURI = r.URL.RequestURI()
	defer func() { *r.URL, r.RequestURI = rewritten, target }()

	again := KeepBody(r)
	return l.Routes.Compile(caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		r.Body, r.Method = again(), method
		return answer(w, r)
	})).ServeHTTP(w, r)
}

var errLoginFailed = errors.New("the login has failed")

// Ask is Run for an endpoint that also serves people who are not signed in. If the handlers refuse the request, Ask discards their
// response and calls nobody. If the login fails, Ask returns an error.
func (l Login) Ask(w http.ResponseWriter, r *http.Request, answer, nobody caddyhttp.HandlerFunc) error {
	g := &discarding{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}}
	before, again, method := w.Header().Clone(), KeepBody(r), r.Method
	err := l.Run(g, r, func(w http.ResponseWriter, r *http.Request) error {
		g.answers = true
		return answer(w, r)
	})
	refusal, refused := errors.AsType[caddyhttp.HandlerError](err)
	status := cmp.Or(refusal.StatusCode, g.status)
	switch {
	case g.answers:
		return err
	case err != nil && !refused:
		return caddyhttp.Error(http.StatusServiceUnavailable, err)
	case status == http.StatusTooManyRequests: // rate limited: whether the person is signed in is unknown
		return caddyhttp.Error(http.StatusServiceUnavailable, cmp.Or(refusal.Err, errLoginFailed))
	case refusal.StatusCode >= http.StatusInternalServerError:
		return err
	case status >= http.StatusInternalServerError:
		return caddyhttp.Error(status, errLoginFailed)
	}
	clear(w.Header())
	maps.Copy(w.Header(), before)
	r.Body, r.Method = again(), method
	return nobody(w, r)
}

// discarding is a ResponseWriter that discards the response of the login handlers until the endpoint answers.
type discarding struct {
	*caddyhttp.ResponseWriterWrapper

	answers bool // the endpoint does
	status  int  // of the response that was discarded
}

// WriteHeader implements http.ResponseWriter.
func (g *discarding) WriteHeader(status int) {
	if g.answers {
		g.ResponseWriterWrapper.WriteHeader(status)
		return
	}
	g.status = status
}

// Write implements http.ResponseWriter.
func (g *discarding) Write(b []byte) (int, error) {
	if g.answers {
		return g.ResponseWriterWrapper.Write(b)
	}
	return len(b), nil
}

// ReadFrom implements io.ReaderFrom.
func (g *discarding) ReadFrom(r io.Reader) (int64, error) {
	if g.answers {
		return g.ResponseWriterWrapper.ReadFrom(r)
	}
	return io.Copy(io.Discard, r)
}

// FlushError is what http.ResponseController calls.
func (g *discarding) FlushError() error {
	if g.answers {
		return http.NewResponseController(g.ResponseWriterWrapper.ResponseWriter).Flush()
	}
	return nil
}

// Beside is a login of the site that stands beside the directive oauth, and runs for its pages too.
type Beside struct {
	matchers caddyhttp.MatcherSets // of its route
	handler  caddyhttp.MiddlewareHandler
}

// After returns the logins that stand after a handler in a list of routes.
func After(list caddyhttp.RouteList, h caddyhttp.MiddlewareHandler) (logins []Beside) {
	var found bool
	for _, route := range list {
		for _, handler := range route.Handlers {
			if found && routes.IsLogin(handler) {
				logins = append(logins, Beside{route.MatcherSets, handler})
			}
			found = found || handler == h
		}
	}
	return logins
}

// runBeside runs those of the logins beside whose own matchers match, and then answer.
func (l Login) runBeside(w http.ResponseWriter, r *http.Request, answer caddyhttp.HandlerFunc) error {
	next := answer
	for _, login := range slices.Backward(l.Beside) {
		then := next
		next = func(w http.ResponseWriter, r *http.Request) error {
			matches, err := login.matchers.AnyMatchWithError(r)
			switch {
			case err != nil:
				return err
			case !matches:
				return then(w, r)
			}
			return login.handler.ServeHTTP(w, r, then)
		}
	}
	return next(w, r)
}
