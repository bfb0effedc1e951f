package authserver

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
)

// idTokenType is the typ of ID tokens. Core has none; it keeps an ID token from being taken for an access token.
const idTokenType = "JWT"

// idTokenClaims are the claims that the server sets in an ID token (OpenID Connect Core §2, §3.1.3.6).
type idTokenClaims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience string   `json:"aud"`
	Expires  int64    `json:"exp"`
	IssuedAt int64    `json:"iat"`
	AuthTime int64    `json:"auth_time,omitempty"`
	Nonce    string   `json:"nonce,omitempty"`
	ACR      string   `json:"acr,omitempty"`
	AMR      []string `json:"amr,omitempty"`
	Session  string   `json:"sid,omitempty"`
	AtHash   string   `json:"at_hash"`
}

// idToken returns the ID token for an authorization, "" if it signs nobody in. A refresh gets one without a nonce (Core §12.2).
func (e *tokenEndpoint) idToken(c *call, signer keyring.Signer, auth *grants.Authorization, accessToken string, now time.Time) (string, error) {
	policy := c.client.OpenID
	if policy == nil || !slices.Contains(auth.Scopes, grants.OpenID) {
		return "", nil
	}
	own := idTokenClaims{
		Issuer:   e.config.URL,
		Subject:  e.pairwise.subject(c.client, auth.Subject),
		Audience: c.client.ID,
		Expires:  now.Add(c.client.AccessTokenLifetime).Unix(),
		IssuedAt: now.Unix(),
		Nonce:    auth.Nonce,
		ACR:      auth.Session.ACR,
		AMR:      auth.Session.AMR,
		Session:  e.pairwise.session(c.client, auth.Session.ID),
		AtHash:   tokenHash(policy.IDTokenAlgorithm, accessToken),
	}
	if !auth.AuthTime.IsZero() {
		own.AuthTime = auth.AuthTime.Unix()
	}
	granted := make(map[string]any)
	if policy.ClaimsInIDToken {
		granted = maps.Clone(e.accessTokens.claims.granted(auth.Claims, auth.Scopes, auth.Asked.UserInfo))
	}
	for _, name := range auth.Asked.IDToken {
		if value, ok := auth.Claims[name]; ok {
			granted[name] = value
		}
	}
	extra := renameClaims(auth.Subject, granted, nil)
	payload, err := joinClaims(&own, extra)
	if err != nil {
		return "", err
	}
	return signer.SignWith(policy.IDTokenAlgorithm, idTokenType, payload)
}

// tokenHash returns the value of at_hash: the left half of the hash that belongs to the algorithm of the ID token (Core §3.1.3.6).
func tokenHash(alg, token string) string {
	var sum []byte
	switch {
	case strings.HasSuffix(alg, "256"):
		s := sha256.Sum256([]byte(token))
		sum = s[:]
	case strings.HasSuffix(alg, "384"):
		s := sha512.Sum384([]byte(token))
		sum = s[:]
	default: // and EdDSA with Ed25519, whose own hash is SHA-512
		s := sha512.Sum512([]byte(token))
		sum = s[:]
	}
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}
