package authserver

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// tokenClaims are the claims of an access token (RFC 9068 §2.2). Those that are empty are left out, but for the subject
// and the times.
type tokenClaims struct {
	issuer, subject   string
	audience          []string
	expires, issuedAt int64
	id, clientID      string
	scopes            []string
	authTime          int64
	family            string // the ID of its record, for a revocation of the family to reach its access tokens
	started           int64  // when the family did, for a revocation of all that started until then; 0: not known
}

// append appends the claims as a JSON object.
func (c *tokenClaims) append(b []byte) []byte {
	b = append(b, '{')
	start := len(b)
	text := func(name, value string) {
		if value != "" {
			b = appendMember(b, name, value)
		}
	}
	text("iss", c.issuer)
	b = appendMember(b, "sub", c.subject)
	switch len(c.audience) {
	case 0:
	case 1:
		b = appendMember(b, "aud", c.audience[0]) // one string where there is one (RFC 7519 §4.1.3)
	default:
		b = append(appendName(b, "aud"), '[')
		for i, resource := range c.audience {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendText(b, resource)
		}
		b = append(b, ']')
	}
	b = appendNumber(b, "exp", c.expires)
	b = appendNumber(b, "iat", c.issuedAt)
	text("jti", c.id)
	text("client_id", c.clientID)
	text("scope", strings.Join(c.scopes, " "))
	if c.authTime != 0 {
		b = appendNumber(b, "auth_time", c.authTime)
	}
	text("family", c.family)
	if c.started != 0 {
		b = appendNumber(b, "family_iat", c.started)
	}
	copy(b[start:], b[start+1:]) // no comma before the first
	b[len(b)-1] = '}'
	return b
}

// ReservedClaims are the claims that no configuration may set: the server's own, and those by which
// others would take the token for something else (RFC 7519 §4.1, RFC 9068 §2.2).
var ReservedClaims = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope", "auth_time", "family", "family_iat",
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

// accessToken makes an access token: a JWT of the profile of RFC 9068, or what the wire shape has instead. It also
// returns the ID it can be revoked by, "" if it has none.
func (s *Server) accessToken(
	ctx context.Context, client *storage.Client, auth *grants.Authorization, now time.Time,
) (token, id string, err error) {
	shape := s.config.Wire.AccessToken
	more := renameClaims(auth, shape.Rename)
	if shape.Opaque {
		return s.opaqueToken(ctx, client, auth, more, now)
	}
	own := tokenClaims{
		subject:  auth.Subject,
		expires:  now.Add(client.AccessTokenLifetime).Unix(),
		issuedAt: now.Unix(),
	}
	if !shape.Minimal {
		own.issuer = s.config.URL
		own.audience = auth.Audience
		own.id = newTokenID()
		own.clientID = client.ID
		own.scopes = auth.Scopes
		own.family = auth.Family
		if !auth.Started.IsZero() {
			own.started = auth.Started.Unix()
		}
		if !auth.AuthTime.IsZero() {
			own.authTime = auth.AuthTime.Unix()
		}
	}
	memory := takeScratch()
	payload, err := joinClaims(memory.bytes, &own, more)
	if err != nil {
		return "", "", err
	}
	defer memory.release(payload)
	token, err = s.keys.Sign(ctx, payload)
	return token, own.id, err
}

// joinClaims appends the claims to b, which is empty, as one JSON object.
func joinClaims(b []byte, own *tokenClaims, more map[string]any) ([]byte, error) {
	payload := own.append(b)
	if len(more) == 0 {
		return payload, nil
	}
	members, err := json.Marshal(more)
	if err != nil {
		return nil, err
	}
	payload[len(payload)-1] = ','
	return append(payload, members[1:]...), nil
}

// renameClaims returns the claims of an authorization beyond the server's own, by the names the configuration
// gives them. None can take the place of one of the server's own.
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
	for _, name := range slices.Sorted(maps.Keys(names)) { // the new name wins over a claim that has it already
		if value, ok := auth.Claims[name]; ok && !slices.Contains(ReservedClaims, names[name]) {
			claims[names[name]] = value
		}
	}
	if name, ok := names["sub"]; ok {
		claims[name] = auth.Subject
	}
	return claims
}

// opaqueToken makes an access token that says nothing: it is a reference to a record.
func (s *Server) opaqueToken(
	ctx context.Context, client *storage.Client, auth *grants.Authorization, claims map[string]any, now time.Time,
) (token, id string, err error) {
	shape := s.config.Wire.AccessToken
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

// newTokenID returns a jti: 128 random bits.
func newTokenID() string {
	var id [16]byte
	rand.Read(id[:])
	return base64.RawURLEncoding.EncodeToString(id[:])
}
