package authserver

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
	"github.com/caddy-oauth/caddy-oauth/internal/metrics"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// These are for the owner of the site, who may look at and end whatever the server has issued.

// Clients returns the directory of clients, which adds and changes clients at run time.
func (s *Server) Clients() *clients.Directory { return s.clients }

// Keys returns the signing keys.
func (s *Server) Keys() *keyring.Ring { return s.keys }

// RotateKey makes a key that signs, see [keyring.Ring.RotateNow], and lets other nodes know.
func (s *Server) RotateKey(ctx context.Context, atOnce bool) (kid string, err error) {
	if kid, err = s.keys.RotateNow(ctx, atOnce); err != nil {
		return "", err
	}
	return kid, s.tell(ctx)
}

// RetireKey removes a key, see [keyring.Ring.RetireNow], and lets other nodes know.
func (s *Server) RetireKey(ctx context.Context, kid string) error {
	if err := s.keys.RetireNow(ctx, kid); err != nil {
		return err
	}
	return s.tell(ctx)
}

// UserConsents returns which clients have access to a user's account.
func (s *Server) UserConsents(ctx context.Context, subject string) (*storage.Consents, error) {
	return s.consents(ctx, &User{Subject: subject})
}

// What a token was that RevokeAny ended.
const (
	RevokedFamily = "family"
	RevokedToken  = "token"
	RevokedNone   = "nothing" // the text is no token that is good here
)

// RevokeAny ends what a token is part of: with a refresh token its family, with an access token that token.
func (s *Server) RevokeAny(ctx context.Context, token, reason string) (what string, err error) {
	all, _, err := s.clients.All(ctx)
	if err != nil {
		return "", err
	}
	tried := make(map[string]bool) // by the prefix of refresh tokens, where clients differ
	for _, client := range all {
		if prefix := client.RefreshToken.Prefix; tried[prefix] || !strings.HasPrefix(token, prefix) {
			continue
		}
		tried[client.RefreshToken.Prefix] = true
		id, f, err := s.findFamily(ctx, client, token)
		if err != nil {
			return "", err
		}
		if f != nil {
			return RevokedFamily, s.RevokeFamily(ctx, id, reason, "")
		}
	}
	claims, err := s.AccessToken(ctx, token)
	var invalid jwt.InvalidToken
	switch {
	case errors.As(err, &invalid):
		return RevokedNone, nil
	case err != nil:
		return "", err
	}
	return RevokedToken, s.RevokeToken(ctx, claims, reason, "")
}

// Stats are figures of this node, since the configuration was loaded.
type Stats struct {
	Since    time.Time              `json:"since"`
	Requests []metrics.RequestCount `json:"requests"`
	// Cutoffs is how many revocations are still of use.
	Cutoffs int `json:"cutoffs"`
	// Registered is how many clients were added at run time, Configured how many there are in the configuration.
	Registered int            `json:"registered_clients"`
	Configured int            `json:"configured_clients"`
	Keys       []keyring.Info `json:"keys"`
}

// Stats returns figures of this node.
func (s *Server) Stats(ctx context.Context) (*Stats, error) {
	keys, err := s.keys.List(ctx)
	if err != nil {
		return nil, err
	}
	registered, err := s.clients.Registered(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.loadCutoffs(ctx); err != nil {
		return nil, err
	}
	return &Stats{
		Since: s.started, Requests: s.metrics.Requests(), Cutoffs: s.cutoffs.Count(),
		Registered: len(registered), Configured: len(s.config.Clients), Keys: keys,
	}, nil
}
