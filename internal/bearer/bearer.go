// Package bearer checks the access tokens that requests bring to a protected resource (RFC 6750), whether an issuer of
// this process made them or one elsewhere.
//
// Start reading at [Resource.Check]. A [Source] tells the claims of a token: [RemoteIssuer] for an issuer elsewhere, whose
// keys [RemoteKeys] fetches; for an issuer of this process, its server. [Metadata] describes a resource to clients.
package bearer

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/dpop"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/metrics"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
)

// Source validates access tokens of one issuer.
type Source interface {
	// AccessToken returns the claims of a token that is valid now, or that has expired within the leeway. If the token is
	// wrong, the error is a [jwt.InvalidToken]; with any other error the token may be valid. Callers must not change the
	// claims. The server of an issuer of this process also knows what is revoked; a RemoteIssuer does not.
	AccessToken(ctx context.Context, token string, leeway time.Duration) (*jwt.Claims, error)
}

// Rechecker is a Source whose tokens can be checked again much later. The configuration may have been replaced by then, and what
// was revoked since is known to a successor of the Source only.
type Rechecker interface {
	Recheck(ctx context.Context, token string, leeway time.Duration) error
}

// Resource is what a protected resource requires of access tokens.
type Resource struct {
	Source   Source
	Audience []string // a token must be for one of them
	Scopes   []string // a token must have all of them
	Header   string   // the header that carries the token; "" is Authorization: Bearer

	ACR    []string      // how well the user must have been authenticated: the token must have one of them (RFC 9470); empty: any
	MaxAge time.Duration // for how long after signing in a user passes (RFC 9470); 0: for ever

	Leeway time.Duration // for how long an expired JWT is accepted

	// Needs returns all scopes that a request needs, for the challenge of a refusal: those of this resource and of others
	// that the request is to pass. Nil means Scopes.
	Needs func(r *http.Request) []string

	// KeepScopes adds the scopes that a token has to the challenge of a token that lacks some. A client that asks for just the
	// scopes of the challenge then keeps those it had.
	KeepScopes bool

	// Proofs checks the proofs for tokens that are bound to a key (DPoP, RFC 9449 §7). Target returns the URL of a request that a proof
	// must name, without query: never with a host that only the client has chosen.
	Proofs *dpop.Checker
	Target func(r *http.Request) string

	// Certificate returns the certificate of the client of a request, for tokens that are bound to one (RFC 8705 §3), nil if there is none,
	// or an error that says what is wrong with what was sent for it.
	Certificate func(r *http.Request) (*mtls.Certificate, error)

	// AllowNoAudience accepts tokens without an audience too.
	AllowNoAudience bool

	MetadataURL string // of the resource (RFC 9728)

	Monitor *Monitor // may be nil
}

// Error is a refusal by a resource.
type Error struct {
	Status    int
	Code      string // "" if there was no token (RFC 6750 §3.1)
	Challenge string // the WWW-Authenticate header; "" for none
	Offer     string // a second WWW-Authenticate header, for another scheme; "" for none
	Cause     error

	RetryAfter time.Duration // 0 if unknown
	ID         string        // the same as in the log; "" for none

	// Help for the operator, for the log only and never secret: what the request had, what was expected, and the setting that decides.
	Sent, Expected, Setting string
	Claims                  *jwt.Claims // of the token; nil if nobody can tell that the issuer has made it
}

func (e *Error) Error() string {
	if e.Cause == nil {
		return "no access token"
	}
	return e.Cause.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// The error codes of RFC 6750 §3.1 beside invalid_request.
const (
	invalidToken      = "invalid_token"
	insufficientScope = "insufficient_scope"
)

// insufficientAuthentication is the error code of RFC 9470 §3.
const insufficientAuthentication = "insufficient_user_authentication"

// Tokens are the access tokens that a request came with. They belong to one request, which may pass several resources: those
// of /api/* and of /api/admin/*. The zero value is ready for use.
type Tokens struct {
	taken map[string][]string // headers that Take has removed from the request

	source Source // of the token that was valid last
	token  string
	leeway time.Duration // with which the token was valid
	claims *jwt.Claims

	proven *proven // nil: no proof was needed yet
}

// values returns the values that a header of the request had.
func (t *Tokens) values(r *http.Request, header string) []string {
	if taken, ok := t.taken[header]; ok {
		return taken
	}
	return r.Header.Values(header)
}

// Take removes from the request the header with the token, so that nobody after the resource gets it.
func (p *Resource) Take(r *http.Request, t *Tokens) {
	header := http.CanonicalHeaderKey(cmp.Or(p.Header, "Authorization"))
	values := r.Header.Values(header)
	if len(values) == 0 || p.Header == "" && !slices.ContainsFunc(values, hasToken) {
		return
	}
	t.take(r, header, values)
	if proofs := r.Header[dpop.Header]; len(proofs) > 0 {
		t.take(r, dpop.Header, proofs)
	}
}

func (t *Tokens) take(r *http.Request, header string, values []string) {
	if t.taken == nil {
		t.taken = make(map[string][]string, 1)
	}
	t.taken[header] = values
	r.Header.Del(header)
}

// hasToken reports whether an Authorization header has an access token.
func hasToken(authorization string) bool {
	return isScheme(authorization, "Bearer") || isScheme(authorization, schemeDPoP)
}

func isScheme(authorization, name string) bool {
	scheme, _, _ := strings.Cut(authorization, " ")
	return strings.EqualFold(scheme, name)
}

// Check returns the claims of the access token of a request from an address. Every error is an *Error.
func (p *Resource) Check(r *http.Request, t *Tokens, address string) (*jwt.Claims, error) {
	claims, err := p.check(r, t)
	if p.Monitor == nil {
		return claims, err
	}
	return claims, p.Monitor.observe(r, address, err)
}

func (p *Resource) check(r *http.Request, t *Tokens) (*jwt.Claims, error) {
	token, scheme, err := p.token(r, t)
	if err != nil {
		return nil, p.refuse(r, t, http.StatusBadRequest, grants.InvalidRequest, err)
	}
	if token == "" {
		return nil, p.refuse(r, t, http.StatusUnauthorized, "", nil).
			explain("no access token", cmp.Or(p.Header, "Authorization: Bearer"), "oauth_guard: optional, token_header")
	}
	claims, err := p.claims(r, t, token)
	if err == nil {
		err = p.checkBound(r, t, claims, token, scheme)
	}
	switch _, invalid := errors.AsType[jwt.InvalidToken](err); {
	case invalid:
		return nil, p.refuse(r, t, http.StatusUnauthorized, invalidToken, err)
	case isProofError(err):
		return nil, p.refuseProof(err)
	case err != nil:
		return nil, &Error{
			Status: http.StatusServiceUnavailable, Code: grants.TemporarilyUnavailable, Cause: err,
			RetryAfter: wire.DefaultRetryAfter, ID: wire.NewErrorID(),
		}
	case !p.isFor(claims):
		return nil, p.refuse(r, t, http.StatusUnauthorized, invalidToken, jwt.ErrAudience.Explain(
			"aud "+strings.Join(claims.Audience, " "), strings.Join(p.Audience, " or "), "oauth_guard: audience, resource").Of(claims))
	}
	if err := p.checkLogin(r, t, claims); err != nil { // before the scopes: its challenge has them too
		return nil, err
	}
	if missing := p.missing(claims); len(missing) > 0 {
		refusal := p.refuse(r, t, http.StatusForbidden, insufficientScope, errors.New("the token lacks "+strings.Join(missing, " ")), p.kept(claims)...).
			explain("scope "+claims.Scope, strings.Join(p.Scopes, " "), "oauth_guard: scopes")
		refusal.Claims = claims
		return nil, refusal
	}
	return claims, nil
}

// checkLogin returns the refusal of a token whose user has not signed in as well, or as recently, as the resource needs (RFC 9470 §3). A
// token that says nothing of the login is refused.
func (p *Resource) checkLogin(r *http.Request, t *Tokens, claims *jwt.Claims) error {
	acr, _ := claims.Raw["acr"].(string)
	authTime, known := claims.AuthTime()
	weak := len(p.ACR) > 0 && !slices.Contains(p.ACR, acr)
	old := p.MaxAge > 0 && (!known || time.Since(authTime) > p.MaxAge || time.Until(authTime) > time.Minute)
	if !weak && !old {
		return nil
	}
	sent, expected, cause := "acr "+cmp.Or(acr, "none"), "acr "+strings.Join(p.ACR, " or "), "another way of signing in is required"
	if !weak {
		sent, expected, cause = "no auth_time", "auth_time within "+p.MaxAge.String(), "a more recent login is required"
		if known {
			sent = "auth_time " + authTime.UTC().Format(time.RFC3339)
		}
	}
	refusal := p.refuse(r, t, http.StatusUnauthorized, insufficientAuthentication, errors.New(cause)).
		explain(sent, expected, "oauth_guard: acr, max_age")
	refusal.Claims = claims
	if len(p.ACR) > 0 {
		refusal.Challenge += `, acr_values="` + strings.Join(p.ACR, " ") + `"`
	}
	if p.MaxAge > 0 {
		refusal.Challenge += `, max_age="` + strconv.FormatInt(int64(p.MaxAge/time.Second), 10) + `"`
	}
	return refusal
}

// Admits reports whether Check would return claims. It does not count: a Check is to follow.
func (p *Resource) Admits(r *http.Request, t *Tokens) bool {
	_, err := p.check(r, t)
	return err == nil
}

// Last returns the token that was valid last.
func (t *Tokens) Last() string { return t.token }

// Recheck returns a [jwt.InvalidToken] if a token that was valid is not any more, and another error if that cannot be told now.
func (p *Resource) Recheck(ctx context.Context, token string, leeway time.Duration) error {
	if source, ok := p.Source.(Rechecker); ok {
		return source.Recheck(ctx, token, leeway)
	}
	_, err := p.Source.AccessToken(ctx, token, leeway)
	return err
}

// claims returns the claims of a token. It does not ask the source again about a token that was valid a moment ago.
func (p *Resource) claims(r *http.Request, t *Tokens, token string) (*jwt.Claims, error) {
	if t.claims != nil && t.source == p.Source && t.token == token && t.leeway <= p.Leeway {
		return t.claims, nil
	}
	claims, err := p.Source.AccessToken(r.Context(), token, p.Leeway)
	if err == nil {
		t.source, t.token, t.leeway, t.claims = p.Source, token, p.Leeway, claims
	}
	return claims, err
}

// token returns the token of a request, or "" if there is none, and the scheme that it came with, "" for a header of its own. It never
// accepts one in the query (RFC 9700 §4.3.2), nor two tokens (RFC 6750 §2).
func (p *Resource) token(r *http.Request, t *Tokens) (token, scheme string, err error) {
	var tokens []string
	for _, value := range t.values(r, "Authorization") {
		if hasToken(value) {
			scheme, token, _ = strings.Cut(value, " ")
			tokens = append(tokens, strings.TrimSpace(token))
		}
	}
	var own []string
	if p.Header != "" {
		own = t.values(r, http.CanonicalHeaderKey(p.Header))
		tokens = append(tokens, own...)
	}
	inQuery := strings.ContainsAny(r.URL.RawQuery, "_%") && r.URL.Query().Has("access_token")
	switch {
	case inQuery:
		return "", "", errors.New("an access token must not be in the URL")
	case len(tokens) > 1:
		return "", "", errors.New("more than one access token")
	case len(tokens) == 0:
		return "", "", nil
	case p.Header != "" && (len(own) == 0 || own[0] == ""):
		return "", "", nil // this resource takes tokens in its own header only
	case tokens[0] == "":
		return "", "", errors.New("an empty access token")
	case p.Header != "":
		return tokens[0], "", nil
	}
	return tokens[0], scheme, nil
}

func (p *Resource) isFor(claims *jwt.Claims) bool {
	if p.AllowNoAudience && len(claims.Audience) == 0 {
		return true
	}
	return slices.ContainsFunc(claims.Audience, func(aud string) bool { return slices.Contains(p.Audience, aud) })
}

// missing returns the scopes that a token lacks.
func (p *Resource) missing(claims *jwt.Claims) (scopes []string) {
	for _, scope := range p.Scopes {
		if !hasScope(claims.Scope, scope) {
			scopes = append(scopes, scope)
		}
	}
	return scopes
}

// kept returns the scopes of a token that a challenge names beside those that the request needs.
func (p *Resource) kept(claims *jwt.Claims) []string {
	if !p.KeepScopes {
		return nil
	}
	return strings.Fields(claims.Scope)
}

// hasScope reports whether a scope is in a space-separated list.
func hasScope(list, scope string) bool {
	for name := range strings.SplitSeq(list, " ") {
		if name == scope {
			return true
		}
	}
	return false
}

// refuse returns a refusal with its challenge (RFC 6750 §3), which names the required scopes and the URL of the resource's
// metadata (RFC 9728 §5.1). It names more scopes after these.
func (p *Resource) refuse(r *http.Request, t *Tokens, status int, code string, cause error, more ...string) *Error {
	scopes := p.Scopes
	if p.Needs != nil {
		scopes = p.Needs(r)
	}
	scopes = Union(scopes, more)
	var params []string
	add := func(name, value string) {
		if value != "" {
			params = append(params, name+`="`+value+`"`)
		}
	}
	add("error", code)
	if code == invalidToken || code == grants.InvalidRequest || code == insufficientAuthentication {
		add("error_description", quotable(cause.Error()))
	}
	if code != grants.InvalidRequest {
		add("scope", strings.Join(scopes, " "))
	}
	add("resource_metadata", p.MetadataURL)
	refusal := &Error{Status: status, Code: code, Cause: cause}
	if p.usesDPoP(r, t) {
		add("algs", algorithms)
		refusal.Challenge = schemeDPoP + " " + strings.Join(params, ", ")
	} else {
		refusal.Challenge = strings.TrimSpace("Bearer " + strings.Join(params, ", "))
		refusal.Offer = p.offer(status)
	}
	if more, ok := errors.AsType[*jwt.Refusal](cause); ok {
		refusal.Claims = more.Claims
		return refusal.explain(more.Sent, more.Expected, more.Setting)
	}
	return refusal
}

// explain adds what only the log says.
func (e *Error) explain(sent, expected, setting string) *Error {
	e.Sent, e.Expected, e.Setting = sent, expected, setting
	return e
}

// quotable removes from a text what would need escaping in a quoted string.
func quotable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, s)
}

// Monitor counts the decisions of a resource, and limits how many invalid tokens an address may send.
type Monitor struct {
	Limiter *throttle.Limiter
	Metrics *metrics.Guard
	Failed  func(r *http.Request, refusal *Error) // is called if a token cannot be checked
}

// NewMonitor returns the Monitor of a resource whose issuer is elsewhere.
func NewMonitor(issuer string, registry metrics.Registry) (*Monitor, error) {
	m, err := metrics.NewGuard(registry, issuer)
	if err != nil {
		return nil, err
	}
	limiter := throttle.New().Limiter(issuer, throttle.Limits{}, m.Throttled, time.Now)
	// RemoteKeys has logged already why a token cannot be checked.
	return &Monitor{Limiter: limiter, Metrics: m, Failed: func(*http.Request, *Error) {}}, nil
}

// observe counts a decision. It returns the refusal to answer with, nil if the request may pass.
func (m *Monitor) observe(r *http.Request, address string, err error) error {
	refusal, refused := errors.AsType[*Error](err)
	switch {
	case !refused:
		m.Metrics.Decision("ok")
	case refusal.Code == "":
		m.Metrics.Decision("no_token")
	case refusal.Code == invalidToken || refusal.Code == grants.InvalidDPoPProof:
		if wait := m.Limiter.Invalid(throttle.Token, "", address); wait > 0 {
			m.Metrics.Decision("throttled")
			tooMany := *refusal
			tooMany.Status, tooMany.Code, tooMany.Challenge, tooMany.Offer = http.StatusTooManyRequests, grants.TemporarilyUnavailable, "", ""
			tooMany.Cause, tooMany.RetryAfter = err, wait
			return &tooMany
		}
		m.Metrics.Decision(refusal.Code)
	case errors.Is(err, context.Canceled) && errors.Is(r.Context().Err(), context.Canceled):
		m.Metrics.Decision("canceled") // the client did not wait for the answer
	default:
		if refusal.Status >= http.StatusInternalServerError {
			m.Failed(r, refusal)
		}
		m.Metrics.Decision(refusal.Code)
	}
	return err
}
