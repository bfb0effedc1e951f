package storage

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
)

// Codes and refresh tokens are texts of parts with fixed lengths, in the alphabet of base64url:
//
//	authorization code   bucket(4) locator(22) secret(43)
//	refresh token        bucket(4) locator(22) member(22) secret(43)
//
// The bucket files the family's record by its expiry, the locator finds it, the secret is what a
// thief does not have. All refresh tokens of a family share the member part: it tells a used token
// of this family from an invention, and it stands nowhere else. A code, which travels through
// browsers and their histories, carries the locator but not the member part, so whoever finds an
// old code cannot end the family with it. Records hold only hashes of all this.
const (
	locatorLength = 22 // 128 bits
	memberLength  = 22 // 128 bits
	secretLength  = 43 // 256 bits

	handleLength  = bucketLength + locatorLength
	codeLength    = handleLength + secretLength
	refreshLength = handleLength + memberLength + secretLength
)

// handle is what codes and refresh tokens of one family begin with: bucket and locator.
type handle string

func newHandle(bucket Bucket) handle {
	return handle(string(bucket) + random(locatorLength))
}

// key returns where the family's record is.
func (h handle) key() Key {
	return Key{Kind: KindFamily, ID: string(h[:bucketLength]) + "." + HashID(string(h[bucketLength:]))}
}

// CodeKey returns the key of the family an authorization code belongs to, and false for a text
// that can be no code.
func CodeKey(code string) (Key, bool) { return tokenKey(code, codeLength) }

// RefreshKey returns the key of the family a refresh token belongs to, and false for a text that can
// be no refresh token.
func RefreshKey(token string) (Key, bool) { return tokenKey(token, refreshLength) }

func tokenKey(token string, length int) (Key, bool) {
	if len(token) != length || !Bucket(token[:bucketLength]).valid() {
		return Key{}, false
	}
	return handle(token[:handleLength]).key(), true
}

// random returns n characters of base64url, six bits each from the system's random source.
func random(n int) string {
	b := make([]byte, (n*6+7)/8)
	rand.Read(b) // never fails, see crypto/rand
	return base64.RawURLEncoding.EncodeToString(b)[:n]
}

func hash(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// matches reports whether token is the one that was hashed; no hash matches nothing.
func matches(token string, hashed []byte) bool {
	return subtle.ConstantTimeCompare(hash(token), hashed) == 1
}
