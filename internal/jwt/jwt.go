// Package jwt signs, parses and verifies one JSON Web Token (RFC 7519). It knows keys and algorithms, but not where keys
// come from: internal/keyring keeps those of an issuer here, internal/bearer fetches those of an issuer elsewhere.
//
// Start reading at [Split] for a token that arrives, and at [Key] for one that is made. This is the only package that
// imports jwx.
package jwt

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"
	"time"
)

// InvalidToken says what is wrong with an access token. It is always the token's fault, never the server's. Its text is
// for logs and comes from a closed list.
type InvalidToken string

// Error implements error.
func (e InvalidToken) Error() string { return "access token: " + string(e) }

// What can be wrong with an access token.
const (
	ErrMalformed InvalidToken = "malformed"
	ErrType      InvalidToken = "not of type at+jwt"
	ErrHeader    InvalidToken = "header brings its own key or an unknown extension"
	ErrAlgorithm InvalidToken = "algorithm is not the key's"
	ErrKey       InvalidToken = "unknown key"
	ErrSignature InvalidToken = "bad signature"
	ErrClaims    InvalidToken = "claim missing or of the wrong type"
	ErrExpired   InvalidToken = "expired"
	ErrNotYet    InvalidToken = "not valid yet"
	ErrIssuer    InvalidToken = "other issuer"
	ErrAudience  InvalidToken = "other audience"
	ErrRevoked   InvalidToken = "revoked"
	ErrBound     InvalidToken = "bound to a key"
)

// Refusal is an InvalidToken with more for the log: what the token says, what was expected, and the setting that decides. None of it
// is a secret, but a stranger may have chosen Sent.
type Refusal struct {
	InvalidToken
	Sent, Expected, Setting string
	Claims                  *Claims // of a token that was signed or stored by its issuer; nil for any other
}

// Explain returns the error with more for the log.
func (e InvalidToken) Explain(sent, expected, setting string) *Refusal {
	return &Refusal{InvalidToken: e, Sent: sent, Expected: expected, Setting: setting}
}

// Of returns a copy of the refusal that has the claims of the token.
func (r *Refusal) Of(claims *Claims) *Refusal {
	of := *r
	of.Claims = claims
	return &of
}

// Unwrap returns the InvalidToken.
func (r *Refusal) Unwrap() error { return r.InvalidToken }

// AccessTokenType is the typ of access tokens (RFC 9068 §2.1).
const AccessTokenType = "at+jwt"

const maxLength = 64 << 10 // of a token

// Token is a JWT in its parts, of which nothing is verified yet.
type Token struct {
	Header string // encoded

	payload   string // encoded
	signed    string // header and payload, encoded
	signature string // encoded
}

// Split splits a JWS in compact serialization into its parts (RFC 7515 §7.1).
func Split(token string) (Token, error) {
	// Go's base64 decoders skip line breaks.
	if len(token) > maxLength || strings.ContainsAny(token, "\r\n") {
		return Token{}, ErrMalformed
	}
	dot := strings.LastIndexByte(token, '.')
	if dot < 0 {
		return Token{}, ErrMalformed
	}
	signed, signature := token[:dot], token[dot+1:]
	header, payload, ok := strings.Cut(signed, ".")
	if !ok || strings.IndexByte(payload, '.') >= 0 {
		return Token{}, ErrMalformed
	}
	return Token{Header: header, payload: payload, signed: signed, signature: signature}, nil
}

// Verify returns the payload if the key made the signature.
func (t Token) Verify(key *Key) ([]byte, error) {
	signature, err := decode(t.signature)
	if err != nil {
		return nil, err
	}
	if !key.verify([]byte(t.signed), signature) {
		return nil, ErrSignature
	}
	return decode(t.payload)
}

// Unverified returns header and payload, of which nothing is verified. Neither may have a member twice, or in two spellings: parsers
// differ in which one counts.
func (t Token) Unverified() (header Header, payload []byte, err error) {
	for _, part := range []string{t.Header, t.payload} {
		decoded, err := decode(part)
		if err != nil {
			return Header{}, nil, err
		}
		if !uniqueMembers(decoded) {
			return Header{}, nil, ErrMalformed
		}
		payload = decoded
	}
	header, err = t.ParseHeader()
	return header, payload, err
}

// uniqueMembers reports whether a text is a JSON object whose members have different names, also without case.
func uniqueMembers(object []byte) bool {
	var members map[string]json.RawMessage
	return json.Unmarshal(object, &members) == nil && isUnique(object, members)
}

// isUnique reports whether all members of a JSON object, which has been decoded, have different names, also without case. A decoder keeps
// only one of two members that have the same.
func isUnique[V any](object []byte, members map[string]V) bool {
	if members == nil || object[len(object)-1] != '}' || countMembers(object) != len(members) {
		return false
	}
	names := make(map[string]bool, len(members))
	for name := range members {
		names[strings.ToLower(name)] = true
	}
	return len(names) == len(members)
}

// countMembers returns how many members a valid JSON object has: each has a colon that is in no string and in no inner object or array.
func countMembers(object []byte) (n int) {
	depth, quoted := 0, false
	for i := 0; i < len(object); i++ {
		switch c := object[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		case c == ':' && depth == 1:
			n++
		}
	}
	return n
}

// Header is the header of a JWT.
type Header struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ"`

	// Tokens with any of these are refused.
	Critical  json.RawMessage `json:"crit,omitempty"`
	JWKSetURL json.RawMessage `json:"jku,omitempty"`
	JWK       json.RawMessage `json:"jwk,omitempty"`
	X509URL   json.RawMessage `json:"x5u,omitempty"`
	X509Chain json.RawMessage `json:"x5c,omitempty"`
	Unencoded json.RawMessage `json:"b64,omitempty"` // RFC 7797
}

// Reference is what a revocation can name of a token. A token whose claims do not have it has it in the header, which is
// signed as well. Whoever does not know a parameter of the header ignores it (RFC 7515 §4).
type Reference struct {
	ID       string `json:"jti,omitempty"`
	ClientID string `json:"client_id,omitempty"`
	Family   string `json:"family,omitempty"`

	// Scope is openid if the token is good for the userinfo endpoint.
	Scope string `json:"scope,omitempty"`

	// SealedSubject is the user ID, which only the issuer can read, where the subject is another one.
	SealedSubject string `json:"sub_sealed,omitempty"`

	// Began is the start of the family, as a NumericDate with milliseconds. A cutoff up to this time revokes the token. Without it,
	// the time of issue counts.
	Began float64 `json:"family_iat,omitempty"`
}

// NumericDate returns a time as in a JWT: seconds since 1970, here with milliseconds (RFC 7519 §2). The zero time is 0.
func NumericDate(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// FromNumericDate returns the time, to the microsecond: more digits of a number of this size would not be exact.
func FromNumericDate(seconds float64) time.Time {
	return time.UnixMicro(int64(math.Round(seconds * 1e6)))
}

// Reference returns what the token's header has of a Reference.
func (t Token) Reference() (ref Reference, err error) {
	decoded, err := decode(t.Header)
	if err == nil && json.Unmarshal(decoded, &ref) != nil {
		err = ErrMalformed
	}
	return ref, err
}

// ParseHeader decodes the token's header. It refuses headers that no token of ours or of a trusted issuer needs. The
// caller checks the type and finds the key.
func (t Token) ParseHeader() (Header, error) {
	decoded, err := decode(t.Header)
	if err != nil {
		return Header{}, err
	}
	var h Header
	if json.Unmarshal(decoded, &h) != nil {
		return Header{}, ErrMalformed
	}
	// Never trust a key that the token itself brings or points to, and never fetch one (RFC 8725 §3.10). This server
	// understands no extensions, so it must refuse critical ones (RFC 7515 §4.1.11).
	for _, member := range []json.RawMessage{h.Critical, h.JWKSetURL, h.JWK, h.X509URL, h.X509Chain, h.Unencoded} {
		if member != nil {
			return Header{}, ErrHeader
		}
	}
	return h, nil
}

// IsType reports whether the token is of that type. Media types are compared without case, and "application/" may be
// omitted (RFC 7515 §4.1.9).
func (h Header) IsType(typ string) bool {
	bare := func(s string) string { return strings.TrimPrefix(strings.ToLower(s), "application/") }
	return bare(h.Type) == bare(typ)
}

// encode returns the encoded form of a header, with a Reference among its parameters.
func (h Header) encode(ref Reference) (string, error) {
	header, err := json.Marshal(struct {
		Header
		Reference
	}{h, ref})
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(header), nil
}

// decode accepts only one spelling of each value, so that nobody can change a token's text and keep it valid.
func decode(s string) ([]byte, error) {
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, ErrMalformed
	}
	return decoded, nil
}
