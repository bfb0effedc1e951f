package authserver

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
)

// TokenSource says what an access token is worth: a Server for its own, a RemoteIssuer for those of another.
type TokenSource interface {
	// AccessToken returns the claims of a token that is good now. What is wrong with it is an jwt.InvalidToken; with
	// any other error, that is not known. Nobody may change the claims.
	AccessToken(ctx context.Context, token string) (*jwt.Claims, error)
}

// Resource is what a protected resource asks of access tokens (RFC 6750).
type Resource struct {
	Source   TokenSource
	Audience []string // a token must be for one of them
	Scopes   []string // a token must have all of them
	Header   string   // the header that carries the token; "" is Authorization: Bearer

	// Anonymous accepts tokens that do not say whom they are for.
	Anonymous bool

	MetadataURL string // of the resource (RFC 9728)

	Watch *Watch // nil for none
}

// BearerError is a refusal by a resource.
type BearerError struct {
	Status    int
	Code      string // "" if there was no token (RFC 6750 §3.1)
	Challenge string // the WWW-Authenticate header; "" for none
	Cause     error

	RetryAfter time.Duration // 0 if that is not known
	ID         string        // the same as in the log; "" for none
}

func (e *BearerError) Error() string {
	if e.Cause == nil {
		return "no access token"
	}
	return e.Cause.Error()
}

func (e *BearerError) Unwrap() error { return e.Cause }

// The error codes of RFC 6750 §3.1 beside invalid_request.
const (
	invalidToken      = "invalid_token"
	insufficientScope = "insufficient_scope"
)

// Check returns the claims of the request's access token. Every error is a *BearerError.
func (p *Resource) Check(r *http.Request) (*jwt.Claims, error) {
	claims, err := p.check(r)
	if p.Watch == nil {
		return claims, err
	}
	return claims, p.Watch.saw(r, err)
}

func (p *Resource) check(r *http.Request) (*jwt.Claims, error) {
	token, err := p.token(r)
	if err != nil {
		return nil, p.refuse(http.StatusBadRequest, grants.InvalidRequest, err)
	}
	if token == "" {
		return nil, p.refuse(http.StatusUnauthorized, "", nil)
	}
	claims, err := p.Source.AccessToken(r.Context(), token)
	switch _, invalid := errors.AsType[jwt.InvalidToken](err); {
	case invalid:
		return nil, p.refuse(http.StatusUnauthorized, invalidToken, err)
	case err != nil:
		return nil, &BearerError{
			Status: http.StatusServiceUnavailable, Code: grants.TemporarilyUnavailable, Cause: err,
			RetryAfter: wire.DefaultRetryAfter, ID: wire.NewErrorID(),
		}
	case !p.isFor(claims):
		return nil, p.refuse(http.StatusUnauthorized, invalidToken, jwt.ErrAudience)
	case !p.allows(claims):
		return nil, p.refuse(http.StatusForbidden, insufficientScope, errors.New("the token lacks a scope"))
	}
	return claims, nil
}

// token returns the token of a request, "" if there is none. One in the query is never taken (RFC 9700 §4.3.2), and
// two are an error (RFC 6750 §2).
func (p *Resource) token(r *http.Request) (string, error) {
	var tokens []string
	for _, value := range r.Header.Values("Authorization") {
		if scheme, token, _ := strings.Cut(value, " "); strings.EqualFold(scheme, "Bearer") {
			tokens = append(tokens, strings.TrimSpace(token))
		}
	}
	if p.Header != "" {
		tokens = append(tokens, r.Header.Values(p.Header)...)
	}
	inQuery := strings.ContainsAny(r.URL.RawQuery, "_%") && r.URL.Query().Has("access_token")
	switch {
	case inQuery:
		return "", errors.New("an access token must not be in the URL")
	case len(tokens) > 1:
		return "", errors.New("more than one access token")
	case len(tokens) == 0:
		return "", nil
	case p.Header != "" && r.Header.Get(p.Header) == "":
		return "", nil // this resource takes tokens in its own header only
	case tokens[0] == "":
		return "", errors.New("an empty access token")
	}
	return tokens[0], nil
}

func (p *Resource) isFor(claims *jwt.Claims) bool {
	if p.Anonymous && len(claims.Audience) == 0 {
		return true
	}
	return slices.ContainsFunc(claims.Audience, func(aud string) bool { return slices.Contains(p.Audience, aud) })
}

func (p *Resource) allows(claims *jwt.Claims) bool {
	return !slices.ContainsFunc(p.Scopes, func(scope string) bool { return !hasScope(claims.Scope, scope) })
}

// hasScope reports whether a scope is one of a space-separated list.
func hasScope(list, scope string) bool {
	for name := range strings.SplitSeq(list, " ") {
		if name == scope {
			return true
		}
	}
	return false
}

// refuse returns a refusal with its challenge (RFC 6750 §3). It names the scopes that are needed, and where the resource
// describes itself (RFC 9728 §5.1).
func (p *Resource) refuse(status int, code string, cause error) error {
	var params []string
	add := func(name, value string) {
		if value != "" {
			params = append(params, name+`="`+value+`"`)
		}
	}
	add("error", code)
	if code == invalidToken || code == grants.InvalidRequest {
		add("error_description", quotable(cause.Error()))
	}
	if code != grants.InvalidRequest {
		add("scope", strings.Join(p.Scopes, " "))
	}
	add("resource_metadata", p.MetadataURL)
	challenge := strings.TrimSpace("Bearer " + strings.Join(params, ", "))
	return &BearerError{Status: status, Code: code, Challenge: challenge, Cause: cause}
}

// quotable returns a text that needs no escaping within quotes.
func quotable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, s)
}
