package authserver

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// revoke is the revocation endpoint (RFC 7009): a client gives a token back. What it does not know, or is not the
// client's, is left alone, and the answer is the same (§2.1, §2.2).
func (s *Server) revoke(c *call) error {
	token, err := s.presented(c)
	if err != nil {
		return err
	}
	if err := s.revokePresented(c, token); err != nil {
		return err
	}
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// presented authenticates the client of a request about a token, as the token endpoint does, and returns the token.
func (s *Server) presented(c *call) (string, error) {
	form, err := wire.ReadForm(c.w, c.r)
	if err != nil {
		return "", err
	}
	if _, err = s.authenticate(c, form); err != nil {
		return "", err
	}
	c.setDeadline(s.config.StoreTimeout)
	if !form.Has("token") {
		return "", grants.Refuse(grants.InvalidRequest, "token is missing")
	}
	return form.Get("token"), nil
}

// revokePresented ends what a token of the client's is part of: with a refresh token the family (§2.1), with an access
// token that token. The token says by its form what it is, so a token_type_hint has nothing to add.
func (s *Server) revokePresented(c *call, token string) error {
	ctx, client := c.ctx(), c.client
	id, f, err := s.findFamily(ctx, client, token)
	if err != nil {
		return err
	}
	if f != nil && f.Client == client.ID {
		return s.revoker.RevokeFamily(ctx, id, reasonClient, c.address)
	}
	claims, err := s.AccessToken(ctx, token)
	var invalid jwt.InvalidToken
	switch {
	case errors.As(err, &invalid):
		return nil
	case err != nil:
		return err
	case claims.ClientID != client.ID:
		return nil
	}
	return s.revoker.RevokeToken(ctx, claims, reasonClient, c.address)
}

// findFamily returns the family that a refresh token belongs to, used or not, and the ID of its record; nil for a text
// that is no refresh token of a live family.
func (s *Server) findFamily(ctx context.Context, client *storage.Client, token string) (string, *storage.Family, error) {
	body, ok := strings.CutPrefix(token, client.RefreshToken.Prefix)
	key, valid := storage.RefreshKey(body)
	if !ok || !valid || strings.Contains(body, ".") {
		return "", nil, nil
	}
	record, err := s.config.Store.Get(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	f, err := storage.DecodeFamily(record)
	if err != nil {
		return "", nil, err
	}
	if !f.Revoked.IsZero() || f.Classify(body, s.now(), client.RefreshToken.Retry) == storage.Foreign {
		return "", nil, nil
	}
	return key.ID, f, nil
}
