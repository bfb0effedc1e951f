package authserver

import (
	"encoding/json"
	"errors"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/dpop"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
)

// userinfoEndpoint is the userinfo endpoint (OpenID Connect Core §5.3): it tells a client who has signed in, and what the person has
// approved of the claims. The access token has all of that, so that no record is read for a JWT.
type userinfoEndpoint struct{ *core }

var userinfoMethods = []string{http.MethodGet, http.MethodHead, http.MethodPost}

func (e *userinfoEndpoint) serve(c *call) error {
	token, scheme, err := e.token(c)
	if err != nil {
		return err
	}
	c.setDeadline(e.config.StoreTimeout)
	claims, err := e.check(c, token, scheme)
	if err != nil {
		return err
	}
	return e.answer(c, e.describe(claims))
}

// check returns the claims of an access token that signs a person in.
func (e *userinfoEndpoint) check(c *call, token, scheme string) (*jwt.Claims, error) {
	claims, err := e.accessTokens.check(c.ctx, token, 0)
	if err == nil {
		err = e.proveToken(c, claims, token, scheme)
	}
	if invalid, ok := errors.AsType[jwt.InvalidToken](err); ok {
		return nil, e.refuseToken(c, invalid, err)
	}
	if err != nil {
		return nil, err
	}
	client, err := e.clients.Find(c.ctx, claims.ClientID)
	switch {
	case err != nil:
		return nil, err
	case client == nil || client.OpenID == nil || claims.Machine():
		return nil, e.refuseToken(c, jwt.ErrClaims, jwt.ErrClaims.Explain(
			"a token of the client "+claims.ClientID, "a token of a person, for a client with the scope openid", "client "+claims.ClientID+": scopes"))
	case !slices.Contains(strings.Fields(claims.Scope), grants.OpenID):
		return nil, &grants.Error{
			Code: insufficientScope, Description: "the token has not the scope openid", Status: http.StatusForbidden,
			Sent: claims.Scope, Expected: grants.OpenID, Setting: "client " + claims.ClientID + ": scopes",
		}
	}
	if err := checkProfileOf(c.proof, client); err != nil {
		return nil, unauthorized(err)
	}
	c.client = client
	return claims, nil
}

// The error codes of RFC 6750 §3.1 beside invalid_request.
const (
	invalidToken      = "invalid_token"
	insufficientScope = "insufficient_scope"
)

// errNoToken is the refusal of a request without a token. Its challenge has no error (RFC 6750 §3.1).
var errNoToken = &grants.Error{
	Code: invalidToken, Description: "an access token is missing", Status: http.StatusUnauthorized,
	Expected: "Authorization: Bearer, or access_token in a form",
}

// refuseToken counts an invalid token. After too many of one address it returns another refusal.
func (e *userinfoEndpoint) refuseToken(c *call, invalid jwt.InvalidToken, cause error) error {
	refusal := &grants.Error{Code: invalidToken, Description: invalid.Error(), Status: http.StatusUnauthorized, Cause: cause}
	if more, ok := errors.AsType[*jwt.Refusal](cause); ok {
		refusal.Sent, refusal.Expected, refusal.Setting = more.Sent, more.Expected, more.Setting
	}
	if wait := e.limiter.Invalid(throttle.Token, "", c.peer.Address); wait > 0 {
		return &grants.Error{
			Code: grants.TemporarilyUnavailable, Description: "too many invalid tokens from this address, try again later",
			Status: http.StatusTooManyRequests, RetryAfter: wait, Cause: refusal,
		}
	}
	return refusal
}

// token returns the access token of a request and the scheme that it came with. It is in the header or in a form, and only once (RFC 6750
// §2).
func (e *userinfoEndpoint) token(c *call) (token, scheme string, err error) {
	var tokens []string
	for _, value := range c.r.Header.Values("Authorization") {
		if name, token, _ := strings.Cut(value, " "); strings.EqualFold(name, "Bearer") || strings.EqualFold(name, wire.TypeDPoP) {
			tokens, scheme = append(tokens, strings.TrimSpace(token)), name
		}
	}
	if isForm(c.r) {
		form, err := wire.ReadForm(c.w, c.r)
		if err != nil {
			return "", "", err
		}
		if form.Has("access_token") {
			tokens, scheme = append(tokens, form.Get("access_token")), "Bearer"
		}
	}
	switch {
	case strings.ContainsAny(c.r.URL.RawQuery, "_%") && c.r.URL.Query().Has("access_token"): // RFC 9700 §4.3.2
		return "", "", grants.Refuse(grants.InvalidRequest, "an access token must not be in the URL")
	case len(tokens) > 1:
		return "", "", grants.Refuse(grants.InvalidRequest, "more than one access token")
	case len(tokens) == 0 || tokens[0] == "":
		return "", "", errNoToken
	}
	return tokens[0], scheme, nil
}

// isForm reports whether a request has parameters in its body.
func isForm(r *http.Request) bool {
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return r.Method == http.MethodPost && mediaType == "application/x-www-form-urlencoded"
}

// describe returns what a token says of the person: its subject, and the claims that are not the server's own, under the names that
// they have at the site.
func (e *userinfoEndpoint) describe(claims *jwt.Claims) map[string]any {
	own := slices.Collect(maps.Values(e.config.AccessToken.Rename))
	answer := make(map[string]any, len(claims.Raw))
	for name, value := range claims.Raw {
		if !slices.Contains(ReservedClaims, name) && !slices.Contains(own, name) {
			answer[name] = value
		}
	}
	for name, renamed := range e.config.AccessToken.Rename {
		if value, ok := claims.Raw[renamed]; ok {
			answer[name] = value
		}
	}
	answer["sub"] = claims.Raw["sub"]
	return answer
}

// answer writes the answer, signed if the client has asked for that (§5.3.2).
func (e *userinfoEndpoint) answer(c *call, claims map[string]any) error {
	alg := c.client.OpenID.UserinfoAlgorithm
	if alg == "" {
		return wire.WriteJSON(c.w, http.StatusOK, "application/json", claims)
	}
	claims["iss"], claims["aud"] = e.config.URL, c.client.ID
	payload, err := json.Marshal(claims)
	if err != nil {
		return err
	}
	signer, err := e.keys.LoadFor(c.ctx, alg)
	if err != nil {
		return err
	}
	token, err := signer.SignWith(alg, "JWT", payload)
	if err != nil {
		return err
	}
	wire.WriteBody(c.w, http.StatusOK, "application/jwt", []byte(token))
	return nil
}

// bearerChallenge is the challenge to a client whose token, or whose lack of one, was refused (RFC 6750 §3).
func bearerChallenge(r *http.Request, realm string, refusal *grants.Error) string {
	scheme := "Bearer"
	if sent, _, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(sent, wire.TypeDPoP) {
		scheme = wire.TypeDPoP + ` algs="` + strings.Join(dpop.Algorithms(), " ") + `",`
	}
	challenge := scheme + " realm=" + strconv.Quote(realm)
	if errors.Is(refusal, errNoToken) {
		return challenge
	}
	challenge += `, error="` + refusal.Code + `", error_description="` + describable(refusal.Description) + `"`
	if refusal.Code == insufficientScope {
		challenge += `, scope="` + refusal.Expected + `"`
	}
	return challenge
}

// isBearerError reports whether a refusal is about the token, and comes with a challenge.
func isBearerError(refusal *grants.Error) bool {
	switch refusal.HTTPStatus() {
	case http.StatusBadRequest:
		return refusal.Code == grants.InvalidRequest
	case http.StatusUnauthorized, http.StatusForbidden:
		return true
	}
	return false
}
