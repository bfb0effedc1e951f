package authserver

import (
	"context"
	"net/http"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/bounded"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// A guard asks this file: Server is the bearer.Source of its issuer's own tokens.

var _ bearer.Source = (*Server)(nil)

// AccessToken implements bearer.Source.
func (s *Server) AccessToken(ctx context.Context, token string) (*jwt.Claims, error) {
	return s.accessTokens.check(ctx, token)
}

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
