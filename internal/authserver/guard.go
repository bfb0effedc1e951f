package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/bounded"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/revocation"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// A guard asks this file: Server is the bearer.Source of its issuer's own tokens.

var _ bearer.Source = (*Server)(nil)

// AccessToken returns the claims of an access token of this issuer that is valid now: its signature or record, type,
// issuer and time, and that it is not revoked. If the token is wrong, the error is a jwt.InvalidToken; with any other
// error the store failed, and the token may be valid.
func (s *Server) AccessToken(ctx context.Context, token string) (*jwt.Claims, error) {
	if err := s.loadCutoffs(ctx); err != nil {
		return nil, err
	}
	claims := s.cache.Get(token, s.now())
	if claims == nil || !claims.Opaque && !s.keys.Has(token) {
		var err error
		if claims, err = s.readAccessToken(ctx, token); err != nil {
			return nil, err
		}
		s.cache.Put(token, claims)
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

// readAccessToken returns the claims of a token that is not cached.
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
	// A minimal token has no issuer. It is one of ours nevertheless: these keys sign no other access tokens.
	if claims.Issuer != s.config.URL && (claims.Issuer != "" || !s.config.AccessToken.Minimal) {
		return nil, jwt.ErrIssuer
	}
	if err := claims.CheckTime(s.now()); err != nil {
		return nil, err
	}
	return claims, nil
}

// readOpaque returns the claims of an opaque token, from its record.
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

// opaqueClaims returns the claims that a JWT would have instead of the record.
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

// numericDate returns a time as in a JWT (RFC 7519 §2).
func numericDate(t time.Time) json.Number { return json.Number(strconv.FormatInt(t.Unix(), 10)) }

// Monitor returns the monitor of a guard of this issuer. address returns the address of a client, as the site trusts it.
func (s *Server) Monitor(address func(r *http.Request) string) *bearer.Monitor {
	return &bearer.Monitor{Limiter: s.limiter, Metrics: &s.metrics.Guard, Address: address, Failed: s.logGuardFailure}
}

// logGuardFailure logs that a token could not be checked, as a rule because the store failed.
func (s *Server) logGuardFailure(r *http.Request, refusal *bearer.Error) {
	level, message := s.severity(r.Context(), refusal, refusal.Status)
	s.log.Log(level, message, append(bounded.Fields(refusal),
		zap.String("issuer", s.config.Name), zap.String("endpoint", "guard"), zap.String("error_id", refusal.ID),
		zap.String("error", refusal.Code), zap.Int("status", refusal.Status), zap.NamedError("cause", refusal.Cause))...)
}
