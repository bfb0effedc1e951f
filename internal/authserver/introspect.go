package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// introspectEndpoint is the introspection endpoint (RFC 7662).
type introspectEndpoint struct{ *core }

// serve describes a token to clients that may see it. For a token that is invalid, unknown or not for the client to see, the
// answer says only that it is not active (§2.2).
func (e *introspectEndpoint) serve(c *call) error {
	token, err := e.presented(c)
	if err != nil {
		return err
	}
	if !c.authenticated() { // §2.1: it has not authenticated
		return clients.ErrFailed.Explain("no secret", "a client with a secret or a key, as only such a client can authenticate", "client "+c.client.ID)
	}
	answer, err := e.describe(c.ctx, c.client, token)
	if err != nil {
		return err
	}
	if wantsJWT(c.r) && e.signsFor(c.client) {
		return e.writeIntrospectionJWT(c, answer)
	}
	return wire.WriteJSON(c.w, http.StatusOK, "application/json", answer)
}

// describe returns the members of the answer about a token.
func (e *introspectEndpoint) describe(ctx context.Context, client *storage.Client, token string) (map[string]any, error) {
	inactive := map[string]any{"active": false}
	claims, err := e.accessTokens.check(ctx, token, 0) // RFC 7662 §2.2: an expired token is not active
	var invalid jwt.InvalidToken
	switch {
	case errors.As(err, &invalid):
		return e.describeRefresh(ctx, client, token)
	case err != nil:
		return nil, err
	case !mayIntrospect(client, claims):
		e.log.Debug("the token is active, but not for this client to see",
			zap.String("issuer", e.config.Name), zap.String("endpoint", "introspect"), zap.String("client_id", client.ID),
			zap.String("sent", "a token of client "+claims.ClientID), zap.String("expected", list(claims.Audience)+", one of them"),
			zap.String("setting", "client "+client.ID+": introspects"))
		return inactive, nil
	}
	answer := make(map[string]any, len(claims.Raw)+3)
	maps.Copy(answer, claims.Raw)
	answer["active"] = true
	answer["token_type"] = "Bearer"
	if claims.Bound.Thumbprint != "" {
		answer["token_type"] = wire.TypeDPoP
	}
	if !claims.Machine() {
		answer["username"] = claims.Raw["sub"]
	}
	return answer, nil
}

// mayIntrospect reports whether a client may see the claims of a token: its own tokens, and, as a resource server, those
// for its resources.
func mayIntrospect(client *storage.Client, claims *jwt.Claims) bool {
	return claims.ClientID == client.ID || slices.ContainsFunc(client.Introspects, func(resource string) bool {
		return resource == "*" || slices.Contains(claims.Audience, resource)
	})
}

// describeRefresh is describe for a refresh token, which only its own client may introspect.
func (e *introspectEndpoint) describeRefresh(ctx context.Context, client *storage.Client, token string) (map[string]any, error) {
	inactive := map[string]any{"active": false}
	id, f, err := e.findFamily(ctx, client, token)
	if err != nil {
		return nil, err
	}
	if f == nil || f.Client != client.ID {
		return inactive, nil
	}
	if err := e.cutoffs.Load(ctx); err != nil {
		return nil, err
	}
	body := strings.TrimPrefix(token, client.RefreshToken.Prefix)
	if f.TokenStatus(body, e.now(), 0) != storage.TokenCurrent || e.cutoffs.VoidsFamily(id, f) {
		return inactive, nil
	}
	subject := e.pairwise.subject(client, f.Subject)
	answer := map[string]any{
		"active": true, "client_id": f.Client, "sub": subject, "username": subject, "iss": e.config.URL,
		"scope": strings.Join(f.Scopes, " "), "aud": audience(f.Audience), "iat": numericDate(f.Started),
	}
	if !f.Bound.IsZero() {
		answer["cnf"] = f.Bound
	}
	if end := f.Expires(e.now(), 0); !end.IsZero() {
		answer["exp"] = numericDate(end)
	}
	return answer, nil
}

const introspectionType = "token-introspection+jwt" // RFC 9701 §5

func wantsJWT(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "application/"+introspectionType)
}

// signsFor reports whether a client can verify what this server signs: not with a secret of this server, and under FAPI 2.0 only with the
// algorithms of the profile.
func (e *introspectEndpoint) signsFor(client *storage.Client) bool {
	alg := e.keys.Algorithm()
	return jwt.Asymmetric(alg) && (!client.FAPI || slices.Contains(jwt.FAPIAlgorithms(), alg))
}

// writeIntrospectionJWT writes the answer as a JWT for the client (RFC 9701 §5).
func (e *introspectEndpoint) writeIntrospectionJWT(c *call, answer map[string]any) error {
	payload, err := json.Marshal(map[string]any{
		"iss": e.config.URL, "aud": c.client.ID, "iat": e.now().Unix(), "token_introspection": answer,
	})
	if err != nil {
		return err
	}
	signer, err := e.keys.Load(c.ctx)
	if err != nil {
		return err
	}
	token, err := signer.SignAs(introspectionType, payload)
	if err != nil {
		return err
	}
	wire.WriteBody(c.w, http.StatusOK, "application/"+introspectionType, []byte(token))
	return nil
}

// audience returns the value of an aud member: one string for a single resource, else a list, or nil for none (RFC 7519 §4.1.3).
func audience(resources []string) any {
	switch len(resources) {
	case 0:
		return nil
	case 1:
		return resources[0]
	}
	return resources
}
