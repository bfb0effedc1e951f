package integration_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// claims are the claims of an access token that a resource server reads (RFC 9068 §2.2).
type claims struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	Audience string `json:"aud"`
	Expires  int64  `json:"exp"`
	IssuedAt int64  `json:"iat"`
	ID       string `json:"jti"`
	ClientID string `json:"client_id"`
	Scope    string `json:"scope"`
	Name     string `json:"name"`
}

// verified verifies an access token with the published keys, as a resource server does, and returns its claims.
func verified(t *testing.T, keys oidc.KeySet, accessToken string) claims {
	t.Helper()
	payload, err := keys.VerifySignature(t.Context(), accessToken)
	must(t, err)
	var c claims
	must(t, json.Unmarshal(payload, &c))
	return c
}

func publishedKeys(t *testing.T, s *integration.Server) oidc.KeySet {
	t.Helper()
	return oidc.NewRemoteKeySet(oidc.ClientContext(t.Context(), s.Client(t)), s.JWKSURL())
}

func withClient(t *testing.T, s *integration.Server) context.Context {
	t.Helper()
	return context.WithValue(t.Context(), oauth2.HTTPClient, s.Client(t))
}
