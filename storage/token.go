package storage

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// Codes and tokens are texts of letters and digits, of parts with fixed lengths:
//
//	authorization code    bucket(4) locator(16) secret(43) check(6)
//	refresh token         bucket(4) locator(16) member(22) secret(43) check(6)
//	opaque access token   bucket(4) secret(43) check(6)
//
// The bucket says when the record expires, the locator finds the record, and the secret is what an attacker does not have. All refresh
// tokens of a family share the member part, which distinguishes a used token of the family from an invented one. A code, which
// travels through browsers and their histories, has the locator but not the member part, so that whoever finds an old code cannot
// end the family with it. The check shows that a token was damaged on its way, so that a damaged token is not taken for a used
// one; it protects against accidents only. Records contain only hashes of all this.
//
// An owner can configure shorter tokens, with fewer random bits. In refresh tokens, and the codes before them, locator, member and
// check shrink to 8, 4 and 3 characters, and the secret to what is left: 11 characters, which are 65 bits, in a refresh token of 30
// characters. In opaque access tokens, the check shrinks to 3, and the secret to what is left: 23 characters, which are 137 bits,
// in a token of 30.
const (
	secretLength  = 43 // 256 bits
	longCheck     = 6
	shortCheck    = 3
	refreshLength = bucketLength + 16 + 22 + secretLength + longCheck
	accessLength  = bucketLength + secretLength + longCheck

	// MinTokenLength and MaxTokenLength bound the configured length.
	MinTokenLength = 30
	MaxTokenLength = 128
)

// layout has the lengths of the parts of a family's tokens.
type layout struct{ locator, member, check int }

var (
	standard = layout{locator: 16, member: 22, check: longCheck} // 95 and 131 bits
	short    = layout{locator: 8, member: 4, check: shortCheck}
)

// layoutFor returns the layout of a family whose refresh tokens have that length; 0 is the default.
func layoutFor(length int) layout {
	if length == 0 || length >= refreshLength {
		return standard
	}
	return short
}

// handle is the length of the beginning that codes and refresh tokens of a family share: bucket and locator.
func (l layout) handle() int { return bucketLength + l.locator }

func (l layout) code() int { return l.handle() + secretLength + longCheck }

// family is the length of the beginning that all refresh tokens of a family share: the handle and the member part.
func (l layout) family() int { return l.handle() + l.member }

func newHandle(l layout, bucket Bucket) string { return string(bucket) + random(l.locator) }

// familyKey returns the key of a family's record.
func familyKey(handle string) Key {
	return Key{Kind: KindFamily, ID: bucketID(handle[:bucketLength], handle[bucketLength:])}
}

// CodeKey returns the key of the family that an authorization code belongs to, and false for a text that was never issued as a code.
func CodeKey(code string) (Key, bool) {
	l := standard
	if len(code) == short.code() {
		l = short
	}
	if len(code) != l.code() || !intact(isCode, code, longCheck) {
		return Key{}, false
	}
	return familyKey(code[:l.handle()]), true
}

// RefreshKey returns the key of the family that a refresh token belongs to, and false for a text that was never issued as a refresh
// token.
func RefreshKey(token string) (Key, bool) {
	if !isRefreshToken(token) {
		return Key{}, false
	}
	return familyKey(token[:layoutFor(len(token)).handle()]), true
}

func isRefreshToken(token string) bool {
	return len(token) >= MinTokenLength && len(token) <= MaxTokenLength &&
		intact(isRefresh, token, layoutFor(len(token)).check)
}

// nextRefreshToken returns a new token of that length, which begins as all tokens of its family.
func nextRefreshToken(family string, length int) string {
	check := layoutFor(length).check
	return withCheck(isRefresh, family+random(length-len(family)-check), check)
}

// tokenKind is part of the check, so that a token of one kind is not taken for one of another kind.
type tokenKind uint64

const (
	isCode tokenKind = iota + 1
	isRefresh
	isAccess
)

// withCheck returns the text with a check of n characters behind it.
func withCheck(kind tokenKind, text string, n int) string {
	sum, _ := checksum(kind, text, n)
	var check [longCheck]byte
	for i := n - 1; i >= 0; i-- {
		check[i] = alphabet[sum%uint64(len(alphabet))]
		sum /= uint64(len(alphabet))
	}
	return text + string(check[:n])
}

// intact reports whether a token, which is longer than a bucket and its check, begins with a bucket and is undamaged.
func intact(kind tokenKind, token string, n int) bool {
	if !Bucket(token[:bucketLength]).Valid() {
		return false
	}
	sum, ok := checksum(kind, token[:len(token)-n], n)
	for i := range n {
		last := token[len(token)-1-i]
		ok = ok && last == alphabet[sum%uint64(len(alphabet))]
		sum /= uint64(len(alphabet))
	}
	return ok
}

// checkPrimes are the largest primes that fit in a check, by its length.
var checkPrimes = map[int]uint64{shortCheck: 238_321, longCheck: 56_800_235_581}

// checksum returns the remainder of a prime that a text leaves, read as a number in base 64, as IBANs have it. Another character
// anywhere and any change to two neighbours give another remainder. Other damage goes unnoticed once in 238,000 times, with longCheck
// once in 57 billion. It returns false if a character is not of the alphabet.
func checksum(kind tokenKind, text string, n int) (uint64, bool) {
	sum, prime := uint64(kind), checkPrimes[n]
	for i := range len(text) {
		value := strings.IndexByte(alphabet, text[i])
		if value < 0 {
			return 0, false
		}
		sum = (sum*64 + uint64(value)) % prime
	}
	return sum, true
}

// alphabet has the characters of codes and tokens: 43 of them hold 256 bits.
const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// random returns n characters of the alphabet, all equally likely.
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

// hashOf returns the SHA-256 of the concatenated texts. It copies them to the stack, because converting them would allocate.
func hashOf(texts ...string) [sha256.Size]byte {
	var buffer [2 * MaxTokenLength]byte
	whole := buffer[:0]
	for _, text := range texts {
		whole = append(whole, text...)
	}
	return sha256.Sum256(whole)
}

// matches reports whether token has that hash. An empty hash matches no token.
func matches(token string, hashed []byte) bool {
	sum := hashOf(token)
	return subtle.ConstantTimeCompare(sum[:], hashed) == 1
}

// A family keeps its current refresh token sealed with a key derived from the token before. Only a
// client that presents the previous token again can be given the same successor, and a stolen store
// opens nothing.

var errSuccessor = errors.New("the sealed successor does not open")

// sealSuccessor encrypts next with a key derived from token. The random nonce comes first.
func sealSuccessor(token, next string) ([]byte, error) {
	aead, err := successorCipher(token)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(next)+aead.Overhead())
	rand.Read(nonce)
	return aead.Seal(nonce, nonce, []byte(next), nil), nil
}

// openSuccessor returns what sealSuccessor encrypted with the same token.
func openSuccessor(token string, sealed []byte) (string, error) {
	aead, err := successorCipher(token)
	if err != nil {
		return "", err
	}
	if len(sealed) < aead.NonceSize() {
		return "", errSuccessor
	}
	next, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], nil)
	if err != nil {
		return "", errSuccessor
	}
	return string(next), nil
}

// successorCipher returns ChaCha20-Poly1305 (RFC 8439). Every token has its own key, and AES takes longer to
// expand a key than to encrypt a message this short. In FIPS 140 mode, which does not allow
// ChaCha20-Poly1305, it returns AES-GCM.
func successorCipher(token string) (cipher.AEAD, error) {
	key := successorKey(token)
	if aead, err := chacha20poly1305.New(key[:]); err == nil {
		return aead, nil
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block) // it draws the nonce itself and has a NonceSize of 0
}

// successorKey derives a key from a token. The store holds the plain SHA-256 of the token, which must not
// help to compute the key: the purpose stands before the token, so no extension of that hash gets there.
func successorKey(token string) [sha256.Size]byte {
	return hashOf(successorPurpose, "\x00", token)
}

const successorPurpose = "caddy-oauth: successor of a refresh token"

// Access is the record of an opaque access token: what a JWT would say itself.
type Access struct {
	Client   string         `json:"client_id"`
	Subject  string         `json:"sub"`
	Scopes   []string       `json:"scopes,omitempty"`
	Audience []string       `json:"aud,omitempty"`
	Claims   map[string]any `json:"claims,omitempty"`
	AuthTime time.Time      `json:"auth_time,omitzero"`
	IssuedAt time.Time      `json:"iat"`
	Expires  time.Time      `json:"exp"`
	Family   string         `json:"family,omitempty"` // the ID of its family's record
	Started  time.Time      `json:"started,omitzero"` // when the family started
}

// IssueToken returns a new token of that length, 0 for the default, and the key of its record. The caller writes the record, which
// expires at a.Expires.
func (a *Access) IssueToken(length int) (token string, key Key) {
	if length == 0 {
		length = accessLength
	}
	check := accessCheck(length)
	token = withCheck(isAccess, string(BucketFor(a.Expires))+random(length-bucketLength-check), check)
	return token, accessKey(token)
}

// accessCheck returns the length of the check in an opaque access token of that length.
func accessCheck(length int) int {
	if length >= accessLength {
		return longCheck
	}
	return shortCheck
}

// AccessKey returns the key of the record of an opaque access token, and false for a text that was never issued as one.
func AccessKey(token string) (Key, bool) {
	if len(token) < MinTokenLength || len(token) > MaxTokenLength || !intact(isAccess, token, accessCheck(len(token))) {
		return Key{}, false
	}
	return accessKey(token), true
}

func accessKey(token string) Key {
	return Key{Kind: KindAccess, ID: bucketID(token[:bucketLength], token)}
}

// Encode returns the record.
func (a *Access) Encode() ([]byte, error) { return json.Marshal(a) }

// DecodeAccess reads a record.
func DecodeAccess(record []byte) (*Access, error) {
	a := new(Access)
	if err := decodeJSON("access token", record, a); err != nil {
		return nil, err
	}
	return a, nil
}
