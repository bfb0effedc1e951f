// Package jwttest has what tests of tokens need: keys whose private part is known, and tokens that no server would make.
package jwttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// Key is a key with its private JWK.
type Key struct {
	*jwt.Key
	JWK json.RawMessage
}

// NewKey makes a key for the algorithm.
func NewKey(tb testing.TB, alg string) Key {
	tb.Helper()
	id, jwk, err := jwt.MakeKey(alg)
	if err != nil {
		tb.Fatal(err)
	}
	key, err := jwt.ParseKey(jwk, id, alg)
	if err != nil {
		tb.Fatal(err)
	}
	return Key{key, jwk}
}

// NewSecret returns the HS256 key with that secret.
func NewSecret(tb testing.TB, id, secret string) Key {
	tb.Helper()
	jwk, err := json.Marshal(map[string]string{"kty": "oct", "k": Encode(secret)})
	if err != nil {
		tb.Fatal(err)
	}
	key, err := jwt.ParseKey(jwk, id, "HS256")
	if err != nil {
		tb.Fatal(err)
	}
	return Key{key, jwk}
}

// Sign returns the payload as an access token.
func (k Key) Sign(tb testing.TB, payload []byte) string {
	tb.Helper()
	token, err := k.Key.Sign(payload)
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

// Forge returns a token with that header, whatever it says, and a good ES256 signature.
func Forge(tb testing.TB, jwk []byte, header string, payload []byte) string {
	tb.Helper()
	var key struct{ D string }
	if err := json.Unmarshal(jwk, &key); err != nil {
		tb.Fatal(err)
	}
	d, err := base64.RawURLEncoding.DecodeString(key.D)
	if err != nil {
		tb.Fatal(err)
	}
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
	if err != nil {
		tb.Fatal(err)
	}
	token := Encode(header) + "." + Encode(string(payload))
	digest := sha256.Sum256([]byte(token))
	r, s, err := ecdsa.Sign(rand.Reader, private, digest[:])
	if err != nil {
		tb.Fatal(err)
	}
	var signature [64]byte // RFC 7518 §3.4
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return token + "." + Encode(string(signature[:]))
}

// Encode returns text in base64url, as the parts of a token are.
func Encode(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// Respell changes those bits of the last character that no decoded byte contains.
func Respell(encoded string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, encoded[len(encoded)-1])
	return encoded[:len(encoded)-1] + string(alphabet[last^1])
}
