package storage

import (
	"crypto/rand"
	"strings"
)

// Codes and tokens are texts of letters and digits, of parts with fixed lengths:
//
//	authorization code    bucket(4) selector(16) secret(43) checksum(6)
//	refresh token         bucket(4) selector(16) family secret(22) secret(43) checksum(6)
//	opaque access token   bucket(4) secret(43) checksum(6)
//	device code           bucket(4) secret(43) checksum(6), as the reference to a pushed request
//
// The bucket says when the record expires, the selector finds the record, and the secret is what an attacker does not have. All refresh
// tokens of a family share the family secret, which distinguishes a used token of the family from an invented one. A code, which
// travels through browsers and their histories, has the selector but not the family secret, so that whoever finds an old code cannot
// end the family with it. The checksum shows that a token was damaged on its way, so that a damaged token is not taken for a used
// one; it protects against accidents only. Records contain only hashes of all this.
//
// An owner can configure shorter tokens, with fewer random bits. In refresh tokens, and the codes before them, selector, family secret
// and checksum shrink to 8, 4 and 3 characters, and the secret to what is left: 11 characters, which are 65 bits, in a refresh token of
// 30 characters. In opaque access tokens, the checksum shrinks to 3, and the secret to what is left: 23 characters, which are 137 bits,
// in a token of 30.
const (
	secretLength  = 43 // 256 bits
	longChecksum  = 6
	shortChecksum = 3
	refreshLength = bucketLength + 16 + 22 + secretLength + longChecksum
	accessLength  = bucketLength + secretLength + longChecksum
)

// The least and the greatest length of refresh tokens and opaque access tokens that can be configured.
const (
	MinTokenLength = 30
	MaxTokenLength = 128
)

// layout has the lengths of the parts of a family's tokens.
type layout struct{ selector, familySecret, checksum int }

var (
	standard = layout{selector: 16, familySecret: 22, checksum: longChecksum} // 95 and 131 bits
	short    = layout{selector: 8, familySecret: 4, checksum: shortChecksum}
)

// layoutFor returns the layout of a family whose refresh tokens have that length; 0 is the default.
func layoutFor(length int) layout {
	if length == 0 || length >= refreshLength {
		return standard
	}
	return short
}

// selectorEnd is the length of what the code and the refresh tokens of a family begin with: bucket and selector.
func (l layout) selectorEnd() int { return bucketLength + l.selector }

// familyEnd is the length of what all refresh tokens of a family begin with: bucket, selector and family secret.
func (l layout) familyEnd() int { return l.selectorEnd() + l.familySecret }

// code is the length of a code.
func (l layout) code() int { return l.selectorEnd() + secretLength + longChecksum }

// tokenKind is part of the checksum, so that a token of one kind is not taken for one of another kind.
type tokenKind uint64

const (
	isCode tokenKind = iota + 1
	isRefresh
	isAccess
	isDevice
	isPushed
)

// CodeKey returns the key of the family that an authorization code belongs to, and false for a text that was never issued as a code.
func CodeKey(code string) (Key, bool) {
	l := standard
	if len(code) == short.code() {
		l = short
	}
	if len(code) != l.code() || !intact(isCode, code, longChecksum) {
		return Key{}, false
	}
	return familyKey(code[:l.selectorEnd()]), true
}

// RefreshKey returns the key of the family that a refresh token belongs to, and false for a text that was never issued as a refresh
// token.
func RefreshKey(token string) (Key, bool) {
	if !isRefreshToken(token) {
		return Key{}, false
	}
	return familyKey(token[:layoutFor(len(token)).selectorEnd()]), true
}

func isRefreshToken(token string) bool {
	return len(token) >= MinTokenLength && len(token) <= MaxTokenLength &&
		intact(isRefresh, token, layoutFor(len(token)).checksum)
}

// intact reports whether a token, which is longer than a bucket and its checksum of n characters, begins with a bucket and is undamaged.
func intact(kind tokenKind, token string, n int) bool {
	if !Bucket(token[:bucketLength]).Valid() {
		return false
	}
	rest, ok := remainder(kind, token[:len(token)-n], n)
	for i := range n {
		last := token[len(token)-1-i]
		ok = ok && last == alphabet[rest%uint64(len(alphabet))]
		rest /= uint64(len(alphabet))
	}
	return ok
}

// checksumPrimes are the largest primes that fit in a checksum, by its length.
var checksumPrimes = map[int]uint64{shortChecksum: 238_321, longChecksum: 56_800_235_581}

// remainder divides a text, read as a number in base 64, by a prime, as the checksums of IBANs do. Another character anywhere and any
// change to two neighbours give another remainder. Other damage goes unnoticed once in 238,000 times, with longChecksum once in 57
// billion. It returns false if a character is not of the alphabet.
func remainder[T string | []byte](kind tokenKind, text T, n int) (uint64, bool) {
	rest, prime := uint64(kind), checksumPrimes[n]
	for i := range len(text) {
		value := values[text[i]]
		if value < 0 {
			return 0, false
		}
		rest = rest*64 + uint64(value)
		if i%4 == 3 { // the remainder before and four characters fit in 64 bits
			rest %= prime
		}
	}
	return rest % prime, true
}

// alphabet has the characters of codes and tokens: 43 of them hold 256 bits.
const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// values has the index in the alphabet of each character, -1 for those that are not in it.
var values = func() (values [256]int8) {
	for c := range values {
		values[c] = int8(strings.IndexByte(alphabet, byte(c)))
	}
	return values
}()

// familyKey returns the key of a family's record. selector has its bucket before it.
func familyKey(selector string) Key {
	return Key{Kind: KindFamily, ID: bucketID(selector[:bucketLength], selector[bucketLength:])}
}

// nextRefreshToken returns a new token of that length. begin is what all refresh tokens of its family begin with or, for the first one, a
// part of that.
func nextRefreshToken(begin string, length int) string {
	n := layoutFor(length).checksum
	return newToken(isRefresh, begin, length-len(begin)-n, n)
}

// newToken returns a new code or token: what it begins with, that many random characters, and a checksum of n.
func newToken(kind tokenKind, begin string, secret, n int) string {
	var buffer [MaxTokenLength]byte
	text := appendRandom(append(buffer[:0], begin...), secret)
	return string(appendChecksum(kind, text, n))
}

// appendRandom appends n characters of the alphabet, all equally likely.
func appendRandom(text []byte, n int) []byte {
	const unbiased = 256 / len(alphabet) * len(alphabet)
	end := len(text) + n
	var pool [64]byte
	for len(text) < end {
		rand.Read(pool[:]) // never fails, see crypto/rand
		for _, b := range pool {
			if int(b) < unbiased && len(text) < end {
				text = append(text, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return text
}

// appendChecksum appends the checksum of a text, of n characters, to it.
func appendChecksum(kind tokenKind, text []byte, n int) []byte {
	rest, _ := remainder(kind, text, n)
	var checksum [longChecksum]byte
	for i := n - 1; i >= 0; i-- {
		checksum[i] = alphabet[rest%uint64(len(alphabet))]
		rest /= uint64(len(alphabet))
	}
	return append(text, checksum[:n]...)
}
