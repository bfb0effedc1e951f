package authserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/bounded"
	"github.com/caddy-oauth/caddy-oauth/internal/metrics"
	"github.com/caddy-oauth/caddy-oauth/internal/pages"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// endpoint is one of the server's endpoints, at one path or more.
type endpoint struct {
	name    string
	paths   []string
	methods []string
	cors    bool // scripts of other sites may call it (RFC 9700 §2.6)
	json    bool // it speaks to programs, not to people
	bearer  bool // whoever may call it has a Bearer token, and its errors are as RFC 6750 §3 and RFC 7591 §3.2.2 have them
	serve   func(c *call) error
}

// route fills the table of endpoints by path.
func (s *Server) route(issuer *url.URL) error {
	if err := s.publishMetadata(); err != nil {
		return err
	}
	get := []string{http.MethodGet, http.MethodHead}
	page := []string{http.MethodGet, http.MethodHead, http.MethodPost}
	post := []string{http.MethodPost}
	paths := s.config.Paths
	s.endpoints = make(map[string]*endpoint)
	all := []*endpoint{
		{name: "authorize", paths: []string{paths.Authorize}, methods: page, serve: s.authorize.serve},
		{name: "apps", paths: []string{paths.Apps}, methods: page, serve: (&appsEndpoint{s.core}).serve},
		{name: "par", paths: []string{paths.PAR}, methods: post, json: true, cors: true, serve: (&parEndpoint{s.authorize}).serve},
		{name: "device", paths: []string{paths.Device}, methods: page, serve: (&deviceEndpoint{s.core}).serve},
		{
			name: "device_authorization", paths: []string{paths.DeviceAuthorization}, methods: post, json: true, cors: true,
			serve: (&deviceAuthorizationEndpoint{s.core}).serve,
		},
		{name: "token", paths: []string{paths.Token}, methods: post, json: true, cors: true, serve: newTokenEndpoint(s.core).serve},
		{name: "introspect", paths: []string{paths.Introspect}, methods: post, json: true, serve: (&introspectEndpoint{s.core}).serve},
		{name: "revoke", paths: []string{paths.Revoke}, methods: post, json: true, cors: true, serve: (&revokeEndpoint{s.core}).serve},
		{name: "revoke_user", paths: []string{paths.RevokeUser}, methods: post, json: true, serve: (&revokeUserEndpoint{s.core}).serve},
		{name: "jwks", paths: []string{paths.JWKS}, methods: get, json: true, cors: true, serve: s.serveJWKS},
		{name: "metadata", paths: metadataPaths(issuer), methods: get, json: true, cors: true, serve: s.serveMetadata},
	}
	if s.registrations != nil {
		all = append(all, &endpoint{
			name: "register", paths: []string{paths.Register}, methods: registerMethods, json: true, cors: true, bearer: true,
			serve: (&registerEndpoint{s.core}).serve,
		})
	}
	if s.config.OpenID {
		all = append(all, &endpoint{
			name: "userinfo", paths: []string{paths.Userinfo}, methods: userinfoMethods, json: true, cors: true, bearer: true,
			serve: (&userinfoEndpoint{s.core}).serve,
		})
		all = append(all,
			&endpoint{name: "logout", paths: []string{paths.Logout}, methods: page, serve: (&logoutEndpoint{s.core}).serve},
			&endpoint{name: "sessions", paths: []string{paths.Sessions}, methods: post, json: true, serve: (&sessionsEndpoint{s.core}).serve})
	}
	for _, e := range all {
		for _, path := range e.paths {
			if other, taken := s.endpoints[path]; taken {
				return fmt.Errorf("%s is the path of both the %s and the %s endpoint", path, other.name, e.name)
			}
			s.endpoints[path] = e
		}
	}
	for path, e := range maps.Clone(s.endpoints) { // clients differ in whether they keep the slash at the end
		other := path + "/"
		if bare, ok := strings.CutSuffix(path, "/"); ok {
			other = bare
		}
		if _, taken := s.endpoints[other]; !taken && other != "" {
			s.endpoints[other] = e
		}
	}
	s.unknown = &endpoint{name: "metadata", methods: get, json: true, cors: true, serve: s.refuseUnknownIssuer}
	return nil
}

// Serves reports whether a request for the path is for this server.
func (s *Server) Serves(path string) bool {
	_, ok := s.endpoints[path]
	return ok
}

// ServesUnknown reports whether the path is that of the metadata of some issuer on this host. If no server on the host Serves
// it, this one says that there is no such issuer: clients take any other answer with 200 for metadata.
func (s *Server) ServesUnknown(path string) bool {
	return slices.ContainsFunc(wellKnownNames, func(name string) bool {
		rest, ok := strings.CutPrefix(path, name)
		return ok && (rest == "" || rest[0] == '/')
	})
}

// refuseUnknownIssuer answers a request for the metadata of an issuer that is not here.
func (s *Server) refuseUnknownIssuer(c *call) error {
	return &grants.Error{
		Code: grants.InvalidRequest, Description: "there is no issuer with this URL here", Status: http.StatusNotFound,
		Sent: c.r.URL.Path, Expected: s.config.URL, Setting: "issuer",
	}
}

// NeedsPerson reports whether the endpoint at the path is a page for a person, who may have to sign in first.
func (s *Server) NeedsPerson(path string) bool {
	e := s.endpoints[path]
	return e != nil && !e.json
}

// MayHavePerson reports whether the endpoint at the path is a page also for people who are not signed in.
func (s *Server) MayHavePerson(path string) bool {
	e := s.endpoints[path]
	return e != nil && e.name == "logout"
}

// HasSecretLocation reports whether the Location of an answer of the endpoint at the path can have what no log may have: an
// authorization code, the code of a device, or an ID token.
func (s *Server) HasSecretLocation(path string) bool {
	e := s.endpoints[path]
	return e != nil && (e.name == "authorize" || e.name == "device" || e.name == "logout")
}

// GivesCodes reports whether the endpoint at the path sends authorization codes to clients.
func (s *Server) GivesCodes(path string) bool {
	e := s.endpoints[path]
	return e != nil && e.name == "authorize"
}

// WantsNoPage reports whether the authorization request with these parameters must be answered without a page (OpenID Connect Core
// §3.1.2.1, prompt=none). Of a pushed request, that is in its record.
func (s *Server) WantsNoPage(ctx context.Context, params url.Values) bool {
	prompt := promptOf(params)
	if uri := params.Get("request_uri"); storage.IsPushedURI(uri) {
		ctx, cancel := context.WithTimeout(ctx, s.config.StoreTimeout)
		defer cancel()
		p, err := s.findPushed(ctx, uri)
		if err != nil { // the endpoint finds the same, and has no redirect URI
			return false
		}
		prompt = p.Params.Get("prompt")
	}
	return slices.Contains(strings.Fields(prompt), "none")
}

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

// ServeHTTP answers a request for a path that the server Serves. It returns a *PageError for the caller to
// show, and has answered everything else itself.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request, site Site) error {
	e := s.endpoints[r.URL.Path]
	if e == nil && s.ServesUnknown(r.URL.Path) {
		e = s.unknown
	}
	if e == nil {
		return fmt.Errorf("authserver: no endpoint at this path")
	}
	wire.LimitTime(w, r)
	ctx, span := metrics.StartSpan(r.Context(), "oauth."+e.name)
	c := newCall(ctx, r, site.ClientIP(r))
	c.w, c.site = w, site
	defer c.end()
	s.running.requests.Add(1)
	defer s.running.requests.Add(-1)
	answer := s.answerAt
	if s.config.Trail.Watched() {
		answer = s.answerWatched
	}
	err := answer(c, e)
	if noter, ok := site.(Noter); ok && c.client != nil {
		noter.Note(r, c.client.ID, c.grant, c.code)
	}
	span.End("issuer", s.config.Name, "client_id", c.clientID(), "grant_type", c.grant, "result", c.result)
	return err
}

// answerAt answers a request at an endpoint.
func (s *Server) answerAt(c *call, e *endpoint) error {
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

// fail is the one place that turns an error into a response, a log line and a count.
func (s *Server) fail(c *call, e *endpoint, err error) error {
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
	case e.json:
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
func (s *Server) wait(c *call, e *endpoint, refusal *grants.Error) error {
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
	var ended *endedFamily
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
	case bounded.Unavailable(err):
		if first, _ := s.outages.Failed(bounded.Reading, err); first {
			return zap.ErrorLevel, "store failing"
		}
		return zap.DebugLevel, "store still failing"
	case status >= 500:
		return zap.ErrorLevel, "request failed"
	}
	if status >= http.StatusInternalServerError {
		return zap.DebugLevel, "request failed: a damaged record"
	}
	return zap.InfoLevel, "request refused"
}

// givenUp reports whether a request failed because nobody waited for the answer.
func givenUp(ctx context.Context, err error) bool {
	return errors.Is(err, context.Canceled) && errors.Is(ctx.Err(), context.Canceled)
}

// fields returns the fields that every line of the log about a request has.
func (s *Server) fields(c *call, e *endpoint) []zap.Field {
	fields := []zap.Field{
		zap.String("issuer", s.config.Name),
		zap.String("endpoint", e.name),
		zap.String("client_ip", c.address),
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
