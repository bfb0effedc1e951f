package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/revocation"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// AccessToken returns the claims of an access token of this issuer that is good now: signature or record, type,
// issuer, time, and not revoked. What is wrong with it is a jwt.InvalidToken; with any other error, that is not known.
func (s *Server) AccessToken(ctx context.Context, token string) (*jwt.Claims, error) {
	if err := s.loadCutoffs(ctx); err != nil {
		return nil, err
	}
	key := cacheKeyOf(token)
	claims := s.cache.get(key, s.now())
	if claims == nil || !claims.Opaque && !s.keys.Has(token) {
		var err error
		if claims, err = s.readAccessToken(ctx, token); err != nil {
			return nil, err
		}
		s.cache.put(key, claims)
	}
	ended, err := s.clients.Ended(ctx, claims.ClientID)
	if err != nil {
		return nil, err
	}
	if ended || s.cutoffs.VoidsToken(revocable(claims)) {
		return nil, jwt.ErrRevoked
	}
	return claims, nil
}

// revocable returns what a revocation can name of a token.
func revocable(c *jwt.Claims) revocation.Token {
	t := revocation.Token{ID: c.ID, Family: c.Family, Subject: c.Subject, Client: c.ClientID, Issued: c.IssuedAt}
	if !c.FamilyIssuedAt.IsZero() {
		t.Issued = c.FamilyIssuedAt
	}
	return t
}

func (s *Server) readAccessToken(ctx context.Context, token string) (*jwt.Claims, error) {
	if !strings.Contains(token, ".") {
		return s.readOpaque(ctx, token)
	}
	payload, err := s.keys.Verify(ctx, token)
	if err != nil {
		return nil, err
	}
	claims, err := jwt.ParseClaims(payload)
	if err != nil {
		return nil, err
	}
	// Only access tokens are signed with these keys; minimal ones have no issuer.
	if claims.Issuer != s.config.URL && (claims.Issuer != "" || !s.config.AccessToken.Minimal) {
		return nil, jwt.ErrIssuer
	}
	return claims, claims.CheckTime(s.now())
}

// readOpaque returns what an opaque token stands for.
func (s *Server) readOpaque(ctx context.Context, token string) (*jwt.Claims, error) {
	body, ok := strings.CutPrefix(token, s.config.AccessToken.Prefix)
	key, valid := storage.AccessKey(body)
	if !ok || !valid {
		return nil, jwt.ErrMalformed
	}
	record, err := s.config.Store.Get(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, jwt.ErrExpired
	}
	if err != nil {
		return nil, err
	}
	a, err := storage.DecodeAccess(record)
	if err != nil {
		return nil, err
	}
	return s.opaqueClaims(a, key), nil
}

// opaqueClaims returns the claims that the JWT would have had.
func (s *Server) opaqueClaims(a *storage.Access, key storage.Key) *jwt.Claims {
	claims := &jwt.Claims{
		Issuer: s.config.URL, Subject: a.Subject, ClientID: a.Client, Scope: strings.Join(a.Scopes, " "),
		Audience: a.Audience, Expires: a.Expires, IssuedAt: a.IssuedAt, Family: a.Family, ID: key.ID,
		FamilyIssuedAt: a.Started,
		Raw:            make(map[string]any, len(a.Claims)+8),
		Opaque:         true,
	}
	maps.Copy(claims.Raw, a.Claims)
	maps.Copy(claims.Raw, map[string]any{
		"iss": claims.Issuer, "sub": a.Subject, "client_id": a.Client, "scope": claims.Scope, "aud": a.Audience,
		"exp": numericDate(a.Expires), "iat": numericDate(a.IssuedAt), "jti": key.ID,
	})
	if !a.AuthTime.IsZero() {
		claims.Raw["auth_time"] = numericDate(a.AuthTime)
	}
	return claims
}

// numericDate is a time as it stands in a JWT (RFC 7519 §2).
func numericDate(t time.Time) json.Number { return json.Number(strconv.FormatInt(t.Unix(), 10)) }
