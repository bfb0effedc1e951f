package authserver

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// InvalidToken is what is wrong with an access token: always the token's fault, never the server's. Its
// text is for logs and is one of a closed list.
type InvalidToken string

// Error implements error.
func (e InvalidToken) Error() string { return "access token: " + string(e) }

// What can be wrong with an access token.
const (
	ErrTokenMalformed InvalidToken = "malformed"
	ErrTokenType      InvalidToken = "not of type at+jwt"
	ErrTokenHeader    InvalidToken = "header brings its own key or an unknown extension"
	ErrTokenAlgorithm InvalidToken = "algorithm is not the key's"
	ErrTokenKey       InvalidToken = "unknown key"
	ErrTokenSignature InvalidToken = "bad signature"
	ErrTokenClaims    InvalidToken = "claim missing or of the wrong type"
	ErrTokenExpired   InvalidToken = "expired"
	ErrTokenNotYet    InvalidToken = "not valid yet"
	ErrTokenIssuer    InvalidToken = "other issuer"
	ErrTokenAudience  InvalidToken = "other audience"
)

const (
	tokenType      = "at+jwt" // RFC 9068 §2.1
	maxTokenLength = 64 << 10
)

// tokenHeader is the header of an access token. The members that come after Type are recognised to
// be refused.
type tokenHeader struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ"`

	Critical  json.RawMessage `json:"crit,omitempty"`
	JWKSetURL json.RawMessage `json:"jku,omitempty"`
	JWK       json.RawMessage `json:"jwk,omitempty"`
	X509URL   json.RawMessage `json:"x5u,omitempty"`
	X509Chain json.RawMessage `json:"x5c,omitempty"`
}

// splitJWT is a token in its three parts.
type splitJWT struct {
	header    string // encoded
	payload   string // encoded
	signed    string // header and payload
	signature string // encoded
}

// splitToken takes a compact JWS apart (RFC 7515 §7.1).
func splitToken(token string) (splitJWT, error) {
	// Line breaks are the one thing that Go's base64 decoders pass over.
	if len(token) > maxTokenLength || strings.ContainsAny(token, "\r\n") {
		return splitJWT{}, ErrTokenMalformed
	}
	dot := strings.LastIndexByte(token, '.')
	if dot < 0 {
		return splitJWT{}, ErrTokenMalformed
	}
	signed, signature := token[:dot], token[dot+1:]
	header, payload, ok := strings.Cut(signed, ".")
	if !ok || strings.IndexByte(payload, '.') >= 0 {
		return splitJWT{}, ErrTokenMalformed
	}
	return splitJWT{header: header, payload: payload, signed: signed, signature: signature}, nil
}

// verify returns the payload if the signature is the key's.
func (t splitJWT) verify(key *signingKey) ([]byte, error) {
	signature, err := decode64(t.signature)
	if err != nil {
		return nil, err
	}
	if !key.verify([]byte(t.signed), signature) {
		return nil, ErrTokenSignature
	}
	return decode64(t.payload)
}

// parseHeader reads a token's header and refuses what is no access token's. Which key the token
// names is for the caller to judge.
func parseHeader(encoded string) (tokenHeader, error) {
	h, err := readHeader(encoded)
	if err != nil {
		return tokenHeader{}, err
	}
	if !h.isType(tokenType) { // RFC 9068 §4
		return tokenHeader{}, ErrTokenType
	}
	return h, nil
}

// readHeader is parseHeader for a JWT of any type.
func readHeader(encoded string) (tokenHeader, error) {
	decoded, err := decode64(encoded)
	if err != nil {
		return tokenHeader{}, err
	}
	var h tokenHeader
	if json.Unmarshal(decoded, &h) != nil {
		return tokenHeader{}, ErrTokenMalformed
	}
	// A token that brings or points to a key is never believed, and nothing is fetched (RFC 8725
	// §3.10). No extension is understood here, so a critical one is refused (RFC 7515 §4.1.11).
	for _, member := range []json.RawMessage{h.Critical, h.JWKSetURL, h.JWK, h.X509URL, h.X509Chain} {
		if member != nil {
			return tokenHeader{}, ErrTokenHeader
		}
	}
	return h, nil
}

// decode64 accepts one spelling only, so that a token cannot be changed and stay valid.
func decode64(s string) ([]byte, error) {
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, ErrTokenMalformed
	}
	return decoded, nil
}

// Claims are the claims of an access token (RFC 7519 §4.1, RFC 9068 §2.2). What the token does not have
// is zero.
type Claims struct {
	Issuer, Subject, ClientID string
	Scope                     string // space-separated
	Audience                  []string
	Expires                   time.Time
	IssuedAt, NotBefore       time.Time
	ID                        string // jti; of an opaque token, the ID of its record
	Family                    string
	FamilyIssuedAt            time.Time // when the family started

	Raw map[string]any // all claims, with numbers as json.Number

	record storage.Key // of an opaque token
}

// defaultLeeway is for clocks that do not agree.
const defaultLeeway = 30 * time.Second

// Verifier decides whether an access token of one issuer is valid here.
type Verifier struct {
	Keys   *Keys
	Issuer string

	// Audience are the names that this resource goes by; a token must be for one of them. Empty: a
	// token for anybody is accepted.
	Audience []string

	Leeway time.Duration    // for clocks that do not agree; 0: 30 seconds
	Now    func() time.Time // nil: time.Now
}

// Verify returns the claims of a token that one of the keys signed and that Check accepts. The errors
// are those of [Keys.Verify] and Check.
func (v *Verifier) Verify(ctx context.Context, token string) (*Claims, error) {
	payload, err := v.Keys.Verify(ctx, token)
	if err != nil {
		return nil, err
	}
	return v.Check(payload)
}

// Check returns the claims of a payload whose signature has been verified, if they are an access token's
// for this resource at this time (RFC 9068 §4). An error wraps an [InvalidToken].
func (v *Verifier) Check(payload []byte) (*Claims, error) {
	c, err := parseClaims(payload)
	if err != nil {
		return nil, err
	}
	if c.Issuer != v.Issuer {
		return nil, ErrTokenIssuer
	}
	forUs := func(aud string) bool { return slices.Contains(v.Audience, aud) }
	if len(v.Audience) > 0 && !slices.ContainsFunc(c.Audience, forUs) {
		return nil, ErrTokenAudience
	}
	if err := v.checkTime(c); err != nil {
		return nil, err
	}
	return c, nil
}

func (v *Verifier) checkTime(c *Claims) error {
	now, leeway := time.Now, v.Leeway
	if v.Now != nil {
		now = v.Now
	}
	if leeway == 0 {
		leeway = defaultLeeway
	}
	at := now()
	if !at.Before(c.Expires.Add(leeway)) {
		return ErrTokenExpired
	}
	if soon := at.Add(leeway); c.NotBefore.After(soon) || c.IssuedAt.After(soon) {
		return ErrTokenNotYet
	}
	return nil
}

// parseClaims reads the claims and checks that those known here have their types, and that the
// required ones are there. Names are compared letter for letter, which encoding/json does not do
// for the fields of a struct.
func parseClaims(payload []byte) (*Claims, error) {
	var raw map[string]any
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	if dec.Decode(&raw) != nil || raw == nil || dec.InputOffset() != int64(len(payload)) {
		return nil, ErrTokenMalformed
	}
	r := claimReader{raw: raw}
	c := &Claims{
		Issuer:    r.text("iss"),
		Subject:   r.text("sub"),
		ClientID:  r.text("client_id"),
		Scope:     r.text("scope"),
		Audience:  r.texts("aud"),
		Expires:   r.time("exp"),
		IssuedAt:  r.time("iat"),
		NotBefore: r.time("nbf"),
		ID:        r.text("jti"),
		Family:    r.text("family"),
		Raw:       raw,

		FamilyIssuedAt: r.time("family_iat"),
	}
	for _, required := range []string{"sub", "exp"} {
		if raw[required] == nil || raw[required] == "" {
			r.wrong(required)
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	return c, nil
}

// claimReader reads claims by name and keeps the first error.
type claimReader struct {
	raw map[string]any
	err error
}

func (r *claimReader) wrong(name string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrTokenClaims, name)
	}
}

func (r *claimReader) text(name string) string {
	value, there := r.raw[name]
	s, ok := value.(string)
	if there && !ok {
		r.wrong(name)
	}
	return s
}

// texts reads a string or an array of strings (RFC 7519 §4.1.3).
func (r *claimReader) texts(name string) []string {
	value, there := r.raw[name]
	if !there {
		return nil
	}
	if s, ok := value.(string); ok {
		return []string{s}
	}
	values, ok := value.([]any)
	if !ok {
		r.wrong(name)
	}
	texts := make([]string, 0, len(values))
	for _, value := range values {
		s, ok := value.(string)
		if !ok {
			r.wrong(name)
		}
		texts = append(texts, s)
	}
	return texts
}

// time reads a NumericDate: seconds since 1970, perhaps with a fraction (RFC 7519 §2).
func (r *claimReader) time(name string) time.Time {
	value, there := r.raw[name]
	if !there {
		return time.Time{}
	}
	number, _ := value.(json.Number)
	seconds, err := number.Float64()
	const year9999 = 253402300799
	if err != nil || seconds < 0 || seconds > year9999 {
		r.wrong(name)
		return time.Time{}
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9))
}
