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
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
)

// idTokenType is the typ of ID tokens. Core has none; it keeps an ID token from being taken for an access token.
const idTokenType = "JWT"

// idToken returns the ID token for an authorization (OpenID Connect Core §2, §3.1.3.6), "" if it signs nobody in. A refresh gets one without
// a nonce (Core §12.2).
func (e *tokenEndpoint) idToken(c *call, signer keyring.Signer, auth *grants.Authorization, accessToken string, now time.Time) (string, error) {
	policy := c.client.OpenID
	if policy == nil || !slices.Contains(auth.Scopes, grants.OpenID) {
		return "", nil
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
	subject := e.pairwise.subject(c.client, auth.Subject)
	claims := wire.NewObject()
	defer claims.Release()
	claims.Text("iss", e.config.URL)
	claims.Text("sub", subject)
	claims.Text("aud", c.client.ID)
	claims.Number("exp", now.Add(c.client.AccessTokenLifetime).Unix())
	claims.Number("iat", now.Unix())
	claims.Time("auth_time", auth.AuthTime)
	claims.Text("nonce", auth.Nonce)
	claims.Text("acr", auth.Session.ACR)
	if len(auth.Session.AMR) > 0 {
		claims.Value("amr", auth.Session.AMR)
	}
	claims.Text("sid", e.pairwise.session(c.client, auth.Session.ID))
	claims.Text("at_hash", tokenHash(policy.IDTokenAlgorithm, accessToken))
	claims.Members(renameClaims(subject, granted, nil))
	payload, err := claims.Bytes()
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
