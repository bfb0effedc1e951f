package storage

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// Codes and tokens are texts of letters and digits, of parts with fixed lengths:
//
//	authorization code    bucket(4) locator(22) secret(43)
//	refresh token         bucket(4) locator(22) member(22) secret(43)
//	opaque access token   bucket(4) secret(43)
//
// The bucket says when the record expires, the locator finds the record, and the secret is what an attacker does not have. All refresh
// tokens of a family share the member part, which distinguishes a used token of the family from an invented one. A code, which
// travels through browsers and their histories, has the locator but not the member part, so that whoever finds an old code cannot
// end the family with it. Records contain only hashes of all this.
//
// An owner can configure shorter tokens, with fewer random bits: in refresh tokens, and the codes before them, locator and member
// shrink to 11 and 4 characters, and the secret to what is left.
const (
	secretLength  = 43 // 256 bits
	refreshLength = bucketLength + 22 + 22 + secretLength
	accessLength  = bucketLength + secretLength

	// MinTokenLength and MaxTokenLength bound the configured length.
	MinTokenLength = 30
	MaxTokenLength = 128
)

// layout has the lengths of the parts of a family's tokens.
type layout struct{ locator, member int }

var (
	standard = layout{locator: 22, member: 22} // 128 bits each
	short    = layout{locator: 11, member: 4}
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

func (l layout) code() int { return l.handle() + secretLength }

// family is the length of the beginning that all refresh tokens of a family share: the handle and the member part.
func (l layout) family() int { return l.handle() + l.member }

func newHandle(l layout, bucket Bucket) string { return string(bucket) + random(l.locator) }

// familyKey returns the key of a family's record.
func familyKey(handle string) Key {
	return Key{Kind: KindFamily, ID: bucketID(handle[:bucketLength], handle[bucketLength:])}
}

// CodeKey returns the key of the family that an authorization code belongs to, and false for a text that cannot be a code.
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

// RefreshKey returns the key of the family that a refresh token belongs to, and false for a text that cannot be a refresh token.
func RefreshKey(token string) (Key, bool) {
	if len(token) < MinTokenLength || len(token) > MaxTokenLength || !Bucket(token[:bucketLength]).Valid() {
		return Key{}, false
	}
	return familyKey(token[:layoutFor(len(token)).handle()]), true
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
	token = string(BucketFor(a.Expires)) + random(length-bucketLength)
	return token, accessKey(token)
}

// AccessKey returns the key of the record of an opaque access token, and false for a text that cannot be one.
func AccessKey(token string) (Key, bool) {
	if len(token) < MinTokenLength || len(token) > MaxTokenLength || !Bucket(token[:bucketLength]).Valid() {
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
