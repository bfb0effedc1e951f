package authserver

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// tokenClaims are the claims that the server sets in an access token (RFC 9068 §2.2), in this order.
type tokenClaims struct {
	Issuer         string `json:"iss,omitempty"`
	Subject        string `json:"sub"`
	Audience       any    `json:"aud,omitempty"` // see audience
	Expires        int64  `json:"exp"`
	IssuedAt       int64  `json:"iat"`
	ID             string `json:"jti,omitempty"`
	ClientID       string `json:"client_id,omitempty"`
	Scope          string `json:"scope,omitempty"`
	AuthTime       int64  `json:"auth_time,omitempty"`
	Family         string `json:"family,omitempty"`     // its ID: a revocation of the family voids its access tokens
	FamilyIssuedAt int64  `json:"family_iat,omitempty"` // a cutoff voids families that started before it
}

// AccessTokenShape is where access tokens differ from RFC 9068.
type AccessTokenShape struct {
	Opaque bool   // a reference to a record instead of a JWT
	Prefix string // of an opaque token
	Length int    // of an opaque token, without the prefix; 0 means the default

	Minimal bool              // a JWT has only exp, iat, sub and the configured claims
	Rename  map[string]string // other names for claims; sub stays, and is repeated under its other name
}

// ReservedClaims are the claims that no configuration may set: those that the server sets, and those that would make a
// resource take the token for something else (RFC 7519 §4.1, RFC 9068 §2.2).
var ReservedClaims = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope", "auth_time", "family", "family_iat",
	"cnf", "act", "may_act", "acr", "amr", "azp", "nonce", "at_hash",
}

// audience returns the value of an aud claim: one string for a single resource, else a list, or nil for none (RFC 7519
// §4.1.3).
func audience(resources []string) any {
	switch len(resources) {
	case 0:
		return nil
	case 1:
		return resources[0]
	}
	return resources
}

// accessToken makes an access token: a JWT as in RFC 9068, or what the configured shape has instead. It also returns the
// ID by which the token can be revoked, "" if it has none.
func (s *Server) accessToken(
	ctx context.Context, client *storage.Client, auth *grants.Authorization, now time.Time,
) (token, id string, err error) {
	shape := s.config.AccessToken
	more := renameClaims(auth, shape.Rename)
	if shape.Opaque {
		return s.opaqueToken(ctx, client, auth, more, now)
	}
	own := tokenClaims{
		Subject:  auth.Subject,
		Expires:  now.Add(client.AccessTokenLifetime).Unix(),
		IssuedAt: now.Unix(),
	}
	if !shape.Minimal {
		own.Issuer = s.config.URL
		own.Audience = audience(auth.Audience)
		own.ID = rand.Text()
		own.ClientID = client.ID
		own.Scope = strings.Join(auth.Scopes, " ")
		own.Family = auth.Family
		if !auth.Started.IsZero() {
			own.FamilyIssuedAt = auth.Started.Unix()
		}
		if !auth.AuthTime.IsZero() {
			own.AuthTime = auth.AuthTime.Unix()
		}
	}
	payload, err := joinClaims(&own, more)
	if err != nil {
		return "", "", err
	}
	token, err = s.keys.Sign(ctx, payload)
	return token, own.ID, err
}

// joinClaims returns the server's own claims and more claims as one JSON object.
func joinClaims(own *tokenClaims, more map[string]any) ([]byte, error) {
	payload, err := json.Marshal(own)
	if err != nil || len(more) == 0 {
		return payload, err
	}
	members, err := json.Marshal(more)
	if err != nil {
		return nil, err
	}
	payload[len(payload)-1] = ','
	return append(payload, members[1:]...), nil
}

// renameClaims returns the configured claims of an authorization under their configured names. None can replace a claim
// that the server sets.
func renameClaims(auth *grants.Authorization, names map[string]string) map[string]any {
	if len(auth.Claims) == 0 && len(names) == 0 {
		return nil
	}
	claims := make(map[string]any, len(auth.Claims)+1)
	for name, value := range auth.Claims {
		if _, ok := names[name]; !ok && !slices.Contains(ReservedClaims, name) {
			claims[name] = value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) { // a renamed claim replaces one that already has its new name
		if value, ok := auth.Claims[name]; ok && !slices.Contains(ReservedClaims, names[name]) {
			claims[names[name]] = value
		}
	}
	if name, ok := names["sub"]; ok {
		claims[name] = auth.Subject
	}
	return claims
}

// opaqueToken makes an access token that is a reference to a record with the claims.
func (s *Server) opaqueToken(
	ctx context.Context, client *storage.Client, auth *grants.Authorization, claims map[string]any, now time.Time,
) (token, id string, err error) {
	shape := s.config.AccessToken
	a := &storage.Access{
		Client:   client.ID,
		Subject:  auth.Subject,
		Scopes:   auth.Scopes,
		Audience: auth.Audience,
		Claims:   claims,
		AuthTime: auth.AuthTime,
		IssuedAt: now,
		Expires:  now.Add(client.AccessTokenLifetime),
		Family:   auth.Family,
		Started:  auth.Started,
	}
	token, key := a.IssueToken(shape.Length)
	record, err := a.Encode()
	if err != nil {
		return "", "", err
	}
	if err := s.config.Store.Put(ctx, key, record, a.Expires); err != nil {
		return "", "", err
	}
	return shape.Prefix + token, key.ID, nil
}
