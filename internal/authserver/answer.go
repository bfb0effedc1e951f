package authserver

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/bounded"
	"github.com/caddy-oauth/caddy-oauth/internal/metrics"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls"
	"github.com/caddy-oauth/caddy-oauth/internal/pages"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// PageError is a failure that a person is to see, as a page with the status.
type PageError struct {
	Status int
	ID     string // the same as in the log, or "" if there is nothing to look up
	Err    *grants.Error
}

func (e *PageError) Error() string { return e.Err.Error() }

func (e *PageError) Unwrap() error { return e.Err }

// WritePage writes the built-in page for the failure.
func (s *Server) WritePage(w http.ResponseWriter, r *http.Request, e *PageError) error {
	page := pages.ErrorPage{Failure: failureOf(e.Err), ID: e.ID}
	if page.Failure == pages.BadRequest || page.Failure == pages.UnknownApp {
		page.Detail = e.Err.Description
	}
	return s.pages.Error(w, r, e.Status, page)
}

// failureOf returns what a person needs to know of a failure.
func failureOf(refusal *grants.Error) pages.Failure {
	switch status := refusal.HTTPStatus(); {
	case refusal == errDenied:
		return pages.Denied
	case refusal == errStale, refusal == errOtherSite:
		return pages.Stale
	case refusal.Code == grants.InvalidClient:
		return pages.UnknownApp
	case status == http.StatusUnauthorized:
		return pages.SignIn
	case status == http.StatusForbidden && refusal.Code == grants.AccessDenied:
		return pages.Account
	case status == http.StatusTooManyRequests:
		return pages.Busy
	case status >= 500:
		return pages.Broken
	}
	return pages.BadRequest
}

// Outcome is what a request was about, for the access log. Client and grant type are IDs that the server knows, and not text from the
// request.
type Outcome struct {
	Client    string // "": no client that the server knows, and the rest is not set
	GrantType string // "": none
	Code      bool   // the client got an authorization code
}

// ServeHTTP answers a request of a peer at one of the server's endpoints. It returns a *PageError for the caller to show, and has answered
// everything else itself.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request, e *Endpoint, peer mtls.Peer, site Site) (Outcome, error) {
	s.running.requests.Add(1)
	defer s.running.requests.Add(-1)
	wire.LimitTime(w, r)
	ctx, span := metrics.StartSpan(r.Context(), "oauth."+e.name)
	c := &call{w: w, r: r, site: site, peer: peer, ctx: ctx}
	defer c.end()
	defer func() { // after a panic, too
		span.End("issuer", s.config.Name, "client_id", c.outcome().Client, "grant_type", c.grant, "result", c.result)
	}()
	var err error
	if s.config.Trail.Watched() {
		err = s.answerWatched(c, e)
	} else {
		err = s.answerAt(c, e)
	}
	return c.outcome(), err
}

func (c *call) outcome() Outcome {
	if c.client == nil {
		return Outcome{}
	}
	return Outcome{Client: c.client.ID, GrantType: c.grant, Code: c.code}
}

// answerAt answers a request at an endpoint.
func (s *Server) answerAt(c *call, e *Endpoint) error {
	if e.cors { // there are no cookies here that could go along
		wire.AllowOrigin(c.w.Header(), "*")
	}
	switch {
	case e.cors && c.r.Method == http.MethodOptions:
		wire.AllowRequest(c.w.Header(), c.r, strings.Join(e.methods, ", "))
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	case !slices.Contains(e.methods, c.r.Method):
		allowed := strings.Join(e.methods, ", ")
		c.w.Header().Set("Allow", allowed)
		return s.fail(c, e, &grants.Error{
			Code:        grants.InvalidRequest,
			Description: "this endpoint takes " + strings.Join(e.methods, " and "),
			Status:      http.StatusMethodNotAllowed,
			Sent:        c.r.Method, Expected: allowed,
		})
	}
	if err := e.serve(c); err != nil {
		return s.fail(c, e, err)
	}
	c.result = "ok"
	s.metrics.Request(e.name, c.grant, "ok")
	if entry := s.log.Check(zap.DebugLevel, "request answered"); entry != nil {
		entry.Write(s.fields(c, e)...)
	}
	return nil
}

// fail turns an error of an endpoint into a response, a log line and a count. Only a program that polls gets its answer elsewhere, by wait.
// Failures of guards are logged by logGuardFailure here and by package guard.
func (s *Server) fail(c *call, e *Endpoint, err error) error {
	refusal := asRefusal(err)
	if isPending(refusal) {
		return s.wait(c, e, refusal)
	}
	id := wire.NewErrorID()

	c.result, c.errorID = refusal.Code, id
	if givenUp(c.r.Context(), err) {
		c.result = "canceled"
	}
	s.metrics.Request(e.name, c.grant, c.result)
	level, message := s.severity(c.r.Context(), err, refusal.HTTPStatus())
	expected := refusal.Code == grants.UseDPoPNonce // this is how a client gets a nonce (RFC 9449 §8)
	if expected {
		level, message = zap.DebugLevel, "request refused until it has a nonce"
	}
	fields := append(s.fields(c, e),
		zap.String("error_id", id),
		zap.String("error", refusal.Code),
		zap.String("description", refusal.Description),
		zap.Int("status", refusal.HTTPStatus()),
	)
	fields = append(fields, explanation(refusal)...)
	s.config.Trail.Log(s.log, level, message, append(fields, bounded.Fields(err)...)...)
	if !expected {
		s.events.refused(c, e.name, err, refusal.Code, id)
	}
	if refusal == errDenied {
		id = "" // nothing has failed that anybody looks up
	}
	var redirect *redirectError
	switch {
	case errors.As(err, &redirect) && !uris.IsOutOfBand(redirect.to.redirectURI):
		return s.authorize.respond(c, redirect.to,
			[2]string{"error", refusal.Code}, [2]string{"error_description", refusal.Description}, [2]string{"error_id", id})
	case e.bearer:
		challenge := bearerChallenge(c.r, s.config.URL, refusal)
		if isBearerError(refusal) {
			c.w.Header().Set("WWW-Authenticate", challenge)
		}
		return new(wire.ErrorShape).Write(c.w, refusal, id, challenge)
	case e.Login == LoginNone:
		return s.config.Wire.Errors.Write(c.w, refusal, id, wire.Challenge(c.r, s.config.URL))
	}
	c.w.Header().Set("Cache-Control", "no-store")
	wire.SetRetryAfterOf(c.w.Header(), refusal)
	return &PageError{Status: refusal.HTTPStatus(), ID: id, Err: refusal}
}

// isPending reports whether an error only says that a person has not decided yet (RFC 8628 §3.5). Programs poll, so that it is no
// failure.
func isPending(refusal *grants.Error) bool {
	return refusal.Code == grants.AuthorizationPending || refusal.Code == grants.SlowDown
}

// wait answers a program that polls. It is not in the audit log, and no failure to look up.
func (s *Server) wait(c *call, e *Endpoint, refusal *grants.Error) error {
	c.result = refusal.Code
	s.metrics.Request(e.name, c.grant, c.result)
	if entry := s.log.Check(zap.DebugLevel, "request answered"); entry != nil {
		entry.Write(append(s.fields(c, e), zap.String("error", refusal.Code))...)
	}
	return s.config.Wire.Errors.Write(c.w, refusal, "", "")
}

// severity returns the level and the message of a failure in the log. A refusal is logged at info, a possible theft at warn,
// and an error of the server at error. A failure of the store is logged at error once per outage, and then at debug.
func (s *Server) severity(ctx context.Context, err error, status int) (zapcore.Level, string) {
	var ended *revokedNow
	switch {
	case errors.As(err, &ended):
		return ended.outcome()
	case givenUp(ctx, err):
		return zap.InfoLevel, "request given up by the client"
	case errors.Is(err, storage.ErrReadOnly):
		if first, _ := s.outages.Failed(bounded.Writing, err); first {
			return zap.InfoLevel, readOnlyMessage
		}
		return zap.DebugLevel, readOnlyMessage
	case errors.Is(err, storage.ErrDamaged):
		if first, _ := s.outages.Failed(bounded.Reading, err); first {
			return zap.ErrorLevel, "damaged record in the store"
		}
		if status >= 500 { // otherwise it is a refusal like any other: the client can get a new token
			return zap.DebugLevel, "request failed: a damaged record"
		}
	case bounded.IsStoreFailure(err):
		if first, _ := s.outages.Failed(bounded.Reading, err); first {
			return zap.ErrorLevel, "store failing"
		}
		return zap.DebugLevel, "store still failing"
	case status >= 500:
		return zap.ErrorLevel, "request failed"
	}
	return zap.InfoLevel, "request refused"
}

// givenUp reports whether a request failed because nobody waited for the answer.
func givenUp(ctx context.Context, err error) bool {
	return errors.Is(err, context.Canceled) && errors.Is(ctx.Err(), context.Canceled)
}

// fields returns the fields that every line of the log about a request has.
func (s *Server) fields(c *call, e *Endpoint) []zap.Field {
	fields := []zap.Field{
		zap.String("issuer", s.config.Name),
		zap.String("endpoint", e.name),
		zap.String("client_ip", c.peer.Address),
	}
	switch {
	case c.client != nil:
		fields = append(fields, zap.String("client_id", c.client.ID))
	case c.named.ID != "":
		fields = append(fields, zap.String("client_id", wire.Loggable(c.named.ID)))
	}
	if c.grant != "" {
		fields = append(fields, zap.String("grant_type", c.grant))
	}
	return fields
}

// explanation returns what the operator needs to mend a refusal: what was sent, what was expected, which setting decides, whose
// code or refresh token it is about, and the cause. What is not known is left out.
func explanation(refusal *grants.Error) []zap.Field {
	var fields []zap.Field
	for _, field := range [...]struct{ name, value string }{
		{"sent", refusal.Sent},
		{"expected", refusal.Expected},
		{"setting", refusal.Setting},
		{"family", refusal.Family},
		{"sub", refusal.Subject},
	} {
		if field.value != "" {
			fields = append(fields, zap.String(field.name, wire.Loggable(field.value)))
		}
	}
	if refusal.Cause != nil {
		fields = append(fields, zap.NamedError("cause", refusal.Cause))
	}
	return fields
}
