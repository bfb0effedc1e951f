package storage

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

// A sealed value is
//
//	magic(8) key id(4) nonce(24) XChaCha20-Poly1305 of the value, with where the record is as associated data
//
// The magic begins with a byte that no JSON does. Nonces of this length may be drawn at random for as many records as
// a key will ever see.
const (
	sealedMagic  = "\x00sealed1"
	keyIDLength  = 4
	sealedHeader = len(sealedMagic) + keyIDLength + chacha20poly1305.NonceSizeX
)

// MinKeyLength is how long the text of a key must be: 32 bytes in base64 without padding.
const MinKeyLength = 43

// ErrUnknownKey says that a record is encrypted with a key that is not configured. Nothing is wrong with the record.
var ErrUnknownKey = errors.New("encrypted with a key that is not configured")

// Keyring is the keys that records are encrypted with at rest. The nil Keyring has none, and knows an encrypted record
// when it sees one. Safe for concurrent use.
type Keyring struct {
	keys  []recordKey
	seals bool // with the first key; else new records are plain
}

type recordKey struct {
	id   string // that many bytes
	aead cipher.AEAD
}

// NewKeyring returns the keyring of keys that were each given as text, which is to hold 32 random bytes or more in
// base64 or hex. The first encrypts, all decrypt; with off, records are written in plain and all keys only decrypt. No
// error holds any part of a key.
func NewKeyring(texts []string, off bool) (*Keyring, error) {
	k := &Keyring{seals: !off && len(texts) > 0}
	for _, text := range texts {
		key, err := newRecordKey(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		if k.find(key.id) != nil {
			return nil, errors.New("expected keys that differ")
		}
		k.keys = append(k.keys, key)
	}
	return k, nil
}

func newRecordKey(text string) (recordKey, error) {
	if len(text) < MinKeyLength {
		return recordKey{}, errors.New("expected 32 random bytes or more in base64 or hex, as from: openssl rand -base64 32")
	}
	id, err := hkdf.Key(sha256.New, []byte(text), nil, "caddy-oauth: name of a key for records at rest", keyIDLength)
	if err != nil {
		return recordKey{}, err
	}
	secret, err := hkdf.Key(sha256.New, []byte(text), nil, "caddy-oauth: records at rest", chacha20poly1305.KeySize)
	if err != nil {
		return recordKey{}, err
	}
	aead, err := chacha20poly1305.NewX(secret)
	return recordKey{string(id), aead}, err
}

func (k *Keyring) find(id string) *recordKey {
	for i := range k.keys {
		if k.keys[i].id == id {
			return &k.keys[i]
		}
	}
	return nil
}

// seal returns the value as it is written.
func (k *Keyring) seal(value []byte, at place) ([]byte, error) {
	if k == nil || !k.seals {
		if sealed(value) {
			return nil, errors.New("the value looks like an encrypted one")
		}
		return value, nil
	}
	key := &k.keys[0]
	data := make([]byte, sealedHeader, sealedHeader+len(value)+key.aead.Overhead())
	copy(data, sealedMagic)
	copy(data[len(sealedMagic):], key.id)
	nonce := data[len(sealedMagic)+keyIDLength:]
	rand.Read(nonce) // never fails, see crypto/rand
	return key.aead.Seal(data, nonce, value, at.name()), nil
}

// open returns the value of what was written. It may reuse the bytes, and is not nil where they are not.
func (k *Keyring) open(data []byte, at place) ([]byte, error) {
	if !sealed(data) {
		return data, nil
	}
	if len(data) < sealedHeader {
		return nil, fmt.Errorf("%w: half an encrypted one", ErrDamaged)
	}
	id, nonce := data[len(sealedMagic):len(sealedMagic)+keyIDLength], data[len(sealedMagic)+keyIDLength:sealedHeader]
	var key *recordKey
	if k != nil {
		key = k.find(string(id))
	}
	if key == nil {
		return nil, fmt.Errorf("%w: it needs key %s, and there is %s", ErrUnknownKey, hex.EncodeToString(id), k.names())
	}
	value, err := key.aead.Open(data[sealedHeader:sealedHeader], nonce, data[sealedHeader:], at.name())
	if err != nil {
		return nil, fmt.Errorf("%w: it was changed, or was that of another record or issuer", ErrDamaged)
	}
	return value, nil
}

// current reports whether data is as it would be written now.
func (k *Keyring) current(data []byte) bool {
	if k == nil || !k.seals {
		return !sealed(data)
	}
	return bytes.HasPrefix(data, []byte(sealedMagic+k.keys[0].id))
}

// names returns the names of the keys, for people.
func (k *Keyring) names() string {
	if k == nil || len(k.keys) == 0 {
		return "none"
	}
	names := make([]string, 0, len(k.keys))
	for _, key := range k.keys {
		names = append(names, hex.EncodeToString([]byte(key.id)))
	}
	return strings.Join(names, ", ")
}

// sameSeal reports whether two values are encrypted with the same key, or both with none.
func sameSeal(a, b []byte) bool {
	if !sealed(a) || !sealed(b) {
		return sealed(a) == sealed(b)
	}
	const mark = len(sealedMagic) + keyIDLength
	return bytes.Equal(a[:min(len(a), mark)], b[:min(len(b), mark)])
}

func sealed(data []byte) bool { return bytes.HasPrefix(data, []byte(sealedMagic)) }
