package storage

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
)

// Codes and tokens are texts of letters and digits, of parts with fixed lengths:
//
//	authorization code    bucket(4) locator(22) secret(43)
//	refresh token         bucket(4) locator(22) member(22) secret(43)
//	opaque access token   bucket(4) secret(43)
//
// The bucket files the record by its expiry, the locator finds it, the secret is what a thief does
// not have. All refresh tokens of a family share the member part: it tells a used token of this
// family from an invention, and it stands nowhere else. A code, which travels through browsers and
// their histories, carries the locator but not the member part, so whoever finds an old code cannot
// end the family with it. Records hold only hashes of all this.
//
// An owner can ask for shorter tokens, which then hold fewer random bits: in refresh tokens (and the
// codes before them) locator and member shrink to 11 and 4 characters, and the secret is what is left.
const (
	secretLength  = 43 // 256 bits
	refreshLength = bucketLength + 22 + 22 + secretLength
	accessLength  = bucketLength + secretLength

	// MinTokenLength and MaxTokenLength bound the length an owner can ask for.
	MinTokenLength = 30
	MaxTokenLength = 128
)

// layout is how long the parts of a family's tokens are.
type layout struct{ locator, member int }

var (
	standard = layout{locator: 22, member: 22} // 128 bits each
	short    = layout{locator: 11, member: 4}
)

// layoutFor returns the layout of a family whose refresh tokens have that length; 0 is as long as is right.
func layoutFor(length int) layout {
	if length == 0 || length >= refreshLength {
		return standard
	}
	return short
}

// handle is what codes and refresh tokens of one family begin with: bucket and locator.
func (l layout) handle() int { return bucketLength + l.locator }

func (l layout) code() int { return l.handle() + secretLength }

// family is what all refresh tokens of a family begin with: the handle and the member part.
func (l layout) family() int { return l.handle() + l.member }

func newHandle(l layout, bucket Bucket) string { return string(bucket) + random(l.locator) }

// familyKey returns where the record of a family is.
func familyKey(handle string) Key {
	return Key{Kind: KindFamily, ID: bucketID(handle[:bucketLength], handle[bucketLength:])}
}

// CodeKey returns the key of the family an authorization code belongs to, and false for a text
// that can be no code.
func CodeKey(code string) (Key, bool) {
	l := standard
	if len(code) == short.code() {
		l = short
	}
	if len(code) != l.code() || !Bucket(code[:bucketLength]).Valid() {
		return Key{}, false
	}
	return familyKey(code[:l.handle()]), true
}

// RefreshKey returns the key of the family a refresh token belongs to, and false for a text that can
// be no refresh token.
func RefreshKey(token string) (Key, bool) {
	if len(token) < MinTokenLength || len(token) > MaxTokenLength || !Bucket(token[:bucketLength]).Valid() {
		return Key{}, false
	}
	return familyKey(token[:layoutFor(len(token)).handle()]), true
}

// alphabet is what codes and tokens are made of: 43 characters hold 256 bits.
const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// random returns n characters of the alphabet, each as likely as any other.
func random(n int) string {
	const unbiased = 256 / len(alphabet) * len(alphabet)
	var buffer [MaxTokenLength]byte
	text := buffer[:0]
	var pool [64]byte
	for len(text) < n {
		rand.Read(pool[:]) // never fails, see crypto/rand
		for _, b := range pool {
			if int(b) < unbiased && len(text) < n {
				text = append(text, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(text)
}

func hash(token string) []byte {
	sum := hashOf(token)
	return sum[:]
}

// hashOf returns the SHA-256 of texts one after the other, which are copied to the stack for it: Go would take memory for
// what is hashed.
func hashOf(texts ...string) [sha256.Size]byte {
	var buffer [2 * MaxTokenLength]byte
	whole := buffer[:0]
	for _, text := range texts {
		whole = append(whole, text...)
	}
	return sha256.Sum256(whole)
}

// matches reports whether token is the one that was hashed; no hash matches nothing.
func matches(token string, hashed []byte) bool {
	sum := hashOf(token)
	return subtle.ConstantTimeCompare(sum[:], hashed) == 1
}
