package authserver

import (
	"errors"
	"net/http"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// revokeEndpoint is the revocation endpoint (RFC 7009).
type revokeEndpoint struct{ *core }

// serve revokes a token of the client. A token that is unknown or another client's is left alone, and the answer is the same
// (§2.1, §2.2).
func (e *revokeEndpoint) serve(c *call) error {
	token, err := e.presented(c)
	if err != nil {
		return err
	}
	if err := e.revokePresented(c, token); err != nil {
		return err
	}
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// revokePresented revokes a token of the client. A refresh token revokes its family (§2.1), an access token only itself. The form
// of the token tells its type, so token_type_hint is ignored.
func (e *revokeEndpoint) revokePresented(c *call, token string) error {
	ctx, client := c.ctx, c.client
	id, f, err := e.findFamily(ctx, client, token)
	if err != nil {
		return err
	}
	switch {
	case f == nil || f.Client != client.ID:
	case !f.Revoked.IsZero():
		return e.revoker.finishFamily(ctx, id, f)
	default:
		return e.revoker.RevokeFamily(ctx, id, reasonClient, c.peer.Address)
	}
	claims, err := e.accessTokens.check(ctx, token, jwt.MaxLeeway)
	var invalid jwt.InvalidToken
	switch {
	case errors.As(err, &invalid):
		return nil
	case err != nil:
		return err
	case claims.ClientID != client.ID:
		return nil
	}
	return e.revoker.revokeToken(ctx, claims, reasonClient, c.peer.Address)
}
