package assertion

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// typeIDJAG is the typ of an Identity Assertion JWT Authorization Grant (draft-ietf-oauth-identity-assertion-authz-grant §3.1): the
// identity provider of a company says which of its users a client may act for at this server.
const typeIDJAG = "oauth-id-jag+jwt"

// maxGrantLife is how long an assertion of an issuer elsewhere can be valid.
const maxGrantLife = time.Hour

// Trusted is an issuer elsewhere whose assertions about its users are grants here (RFC 7523 §2.1).
type Trusted struct {
	Issuer  string
	JWKS    json.RawMessage // its keys; or else their URL
	JWKSURI string
	IDJAG   bool // its assertions are ID-JAGs; otherwise none is
}

// Grant is an assertion of an issuer elsewhere, of which nothing is verified yet.
type Grant struct {
	Issuer string // which it names

	token  jwt.Token
	header jwt.Header
}

// ParseGrant reads an assertion. The error is an *Error.
func ParseGrant(text string) (*Grant, error) {
	token, header, payload, err := open(text)
	if err != nil {
		return nil, err
	}
	claims, err := jwt.ParseClaims(payload)
	if err != nil || claims.Issuer == "" {
		return nil, errGrantClaims
	}
	return &Grant{Issuer: claims.Issuer, token: token, header: header}, nil
}

var errGrantClaims = &Error{Sent: "claims that are missing or of the wrong type", Expected: "iss, sub, aud, exp and jti (RFC 7523 section 3)"}

// CheckGrant verifies the signature, audience and times of an assertion and returns its claims. The error is an *Error unless the
// context has ended. CheckGrant does not detect a replay: see SpendGrant.
func (c *Checker) CheckGrant(ctx context.Context, g *Grant, from *Trusted) (*jwt.Claims, error) {
	if !jwt.Asymmetric(g.header.Algorithm) {
		return nil, &Error{Sent: "alg " + g.header.Algorithm, Expected: strings.Join(jwt.AssertionAlgorithms(), ", ")}
	}
	if err := checkGrantType(g.header, from); err != nil {
		return nil, err
	}
	keys, err := c.Keys.find(ctx, &storage.Client{JWKS: from.JWKS, JWKSURI: from.JWKSURI}, g.header, c.Loopback)
	if err != nil {
		return nil, err
	}
	claims := verifyGrant(g, keys)
	if claims == nil {
		return nil, &Error{Sent: "a signature that none of the issuer's keys made", Expected: "a JWT that the issuer signed", Setting: "jwks, jwks_uri"}
	}
	if err := checkNoLogin(claims, from); err != nil {
		return nil, err
	}
	if err := c.checkGrantAudience(claims, from); err != nil {
		return nil, err
	}
	if err := checkGrantTimes(claims, from, c.Now()); err != nil {
		return nil, err
	}
	return claims, nil
}

// checkGrantType keeps the kinds of assertions apart (RFC 8725 §3.11): what a company says for one purpose must not be good for another.
func checkGrantType(header jwt.Header, from *Trusted) error {
	expected := []string{"", "JWT", "authorization-grant+jwt"}
	if from.IDJAG {
		expected = []string{typeIDJAG}
	}
	if slices.ContainsFunc(expected, header.IsType) {
		return nil
	}
	return &Error{Sent: "typ " + header.Type, Expected: "typ " + strings.TrimPrefix(strings.Join(expected, " or "), " or "), Setting: "id_jag"}
}

// loginClaims are claims of ID tokens (OpenID Connect Core §2, §3.3.2.11), and azp also of access tokens.
var loginClaims = []string{"azp", "nonce", "at_hash", "c_hash"}

// checkNoLogin refuses the ID tokens and access tokens of an issuer that gives them the typ of its assertions, or none. Those that have
// none of the loginClaims look the same as an assertion, so the audience alone keeps them apart.
func checkNoLogin(claims *jwt.Claims, from *Trusted) error {
	if from.IDJAG { // they have a typ of their own
		return nil
	}
	for _, name := range loginClaims {
		if _, there := claims.Raw[name]; there {
			return &Error{Sent: "the claim " + name + ", as in an ID token or an access token", Expected: "an assertion without " + strings.Join(loginClaims, ", ")}
		}
	}
	return nil
}

// verifyGrant returns the claims if one of the keys made the signature, else nil.
func verifyGrant(g *Grant, keys []*jwt.Key) *jwt.Claims {
	for _, key := range keys {
		payload, err := g.token.Verify(key)
		if err != nil {
			continue
		}
		if claims, err := jwt.ParseClaims(payload); err == nil && claims.Issuer == g.Issuer {
			return claims
		}
	}
	return nil
}

// checkGrantAudience checks that the assertion is for this server and nobody else. An ID-JAG names the issuer; others may name the
// token endpoint (RFC 7523 §3).
func (c *Checker) checkGrantAudience(claims *jwt.Claims, from *Trusted) error {
	expected := []string{c.Issuer, c.TokenEndpoint}
	if from.IDJAG {
		expected = expected[:1]
	}
	if len(claims.Audience) == 0 || from.IDJAG && len(claims.Audience) > 1 ||
		slices.ContainsFunc(claims.Audience, func(aud string) bool { return !slices.Contains(expected, aud) }) {
		return &Error{Sent: "aud " + strings.Join(claims.Audience, " "), Expected: "aud " + strings.Join(expected, " or ")}
	}
	return nil
}

// checkGrantTimes checks that the assertion is valid now, and not for long. The clocks may differ a little.
func checkGrantTimes(claims *jwt.Claims, from *Trusted, now time.Time) error {
	switch {
	case claims.ID == "":
		return &Error{Sent: "no jti", Expected: "a jti, which is new for each assertion"}
	case from.IDJAG && claims.IssuedAt.IsZero():
		return &Error{Sent: "no iat", Expected: "an iat"}
	case !claims.IssuedAt.IsZero() && claims.Expires.Sub(claims.IssuedAt) > maxGrantLife:
		return &Error{
			Sent: "iat " + formatTime(claims.IssuedAt) + " and exp " + formatTime(claims.Expires), Expected: "an assertion that is valid for at most " + maxGrantLife.String(),
		}
	}
	return checkTimes(claims, now, maxGrantLife)
}

// SpendGrant notes that an assertion was used, on all nodes. If it was used before, the error is an *Error; with any other error the
// store failed.
func (c *Checker) SpendGrant(ctx context.Context, issuer, id string, expires time.Time) error {
	first, err := storage.Once(ctx, c.Store, expires.Add(skew), "assertion", issuer, id)
	if err == nil && !first {
		return &Error{Sent: "an assertion that was used before", Expected: "a new jti for each request"}
	}
	return err
}
