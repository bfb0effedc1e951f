package authserver

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// tokenClaims are the claims of an access token (RFC 9068 §2.2).
type tokenClaims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
	Expires  int64    `json:"exp"`
	IssuedAt int64    `json:"iat"`
	ID       string   `json:"jti"`
	ClientID string   `json:"client_id"`
	Scope    string   `json:"scope,omitempty"`
	AuthTime int64    `json:"auth_time,omitempty"`

	// Family names the family's record, for a revocation of the family to reach its access tokens.
	Family string `json:"family,omitempty"`
}

// ReservedClaims are the claims that no configuration may set: the server's own, and those by which
// others would take the token for something else (RFC 7519 §4.1, RFC 9068 §2.2).
var ReservedClaims = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope", "auth_time", "family",
	"cnf", "act", "may_act", "acr", "amr", "azp", "nonce", "at_hash",
}

// audience is one string where there is one (RFC 7519 §4.1.3).
type audience []string

// MarshalJSON implements json.Marshaler.
func (a audience) MarshalJSON() ([]byte, error) {
	if len(a) == 1 {
		return json.Marshal(a[0])
	}
	return json.Marshal([]string(a))
}

// accessToken makes an access token: a JWT of the profile of RFC 9068.
func (s *Server) accessToken(
	ctx context.Context, client *storage.Client, auth *grants.Authorization, now time.Time,
) (string, error) {
	own := tokenClaims{
		Issuer:   s.config.URL,
		Subject:  auth.Subject,
		Audience: auth.Audience,
		Expires:  now.Add(client.AccessTokenLifetime).Unix(),
		IssuedAt: now.Unix(),
		ID:       newTokenID(),
		ClientID: client.ID,
		Scope:    strings.Join(auth.Scopes, " "),
		Family:   auth.Family,
	}
	if !auth.AuthTime.IsZero() {
		own.AuthTime = auth.AuthTime.Unix()
	}
	payload, err := json.Marshal(own)
	if err != nil {
		return "", err
	}
	if len(auth.Claims) > 0 {
		more, err := json.Marshal(auth.Claims)
		if err != nil {
			return "", err
		}
		payload[len(payload)-1] = ','
		payload = append(payload, more[1:]...)
	}
	return s.keys.Sign(ctx, payload)
}

// newTokenID returns a jti: 128 random bits.
func newTokenID() string {
	var id [16]byte
	rand.Read(id[:])
	return base64.RawURLEncoding.EncodeToString(id[:])
}
