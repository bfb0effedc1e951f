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

// An encrypted value is
//
//	magic(8) key ID(4) nonce(24) ciphertext
//
// The ciphertext is XChaCha20-Poly1305 and authenticates the name of the record too. The magic begins with a byte with which
// no other record begins. A nonce of this length may be random: no key will ever encrypt so many records that two nonces
// are likely to be the same.
const (
	encryptedMagic  = "\x00cipher1"
	keyIDLength     = 4
	encryptedHeader = len(encryptedMagic) + keyIDLength + chacha20poly1305.NonceSizeX
)

// minKeyLength is the least length of the text of a key: that of 32 bytes in base64 without padding.
const minKeyLength = 43

// ErrUnknownKey says that a record is encrypted with a key that is not configured. Nothing is wrong with the record.
var ErrUnknownKey = errors.New("encrypted with a key that is not configured")

// CheckReadable returns an error that wraps ErrUnknownKey if value is encrypted. It is for whoever decodes a record: a store
// without encryption keys returns what it finds.
func CheckReadable(value []byte) error {
	if !isEncrypted(value) {
		return nil
	}
	id := value[len(encryptedMagic):min(len(value), len(encryptedMagic)+keyIDLength)]
	return fmt.Errorf("%w: it needs the key %s, and no encryption_key is configured", ErrUnknownKey, hex.EncodeToString(id))
}

// SameKey reports whether two values are encrypted with the same key, or both are not encrypted. A store that keeps older values
// of a record uses it to leave no ciphertext of an old key behind.
func SameKey(a, b []byte) bool {
	if !isEncrypted(a) || !isEncrypted(b) {
		return isEncrypted(a) == isEncrypted(b)
	}
	const end = len(encryptedMagic) + keyIDLength
	return bytes.Equal(a[:min(len(a), end)], b[:min(len(b), end)])
}

func isEncrypted(value []byte) bool { return bytes.HasPrefix(value, []byte(encryptedMagic)) }

// EncryptionKeys are the keys that encrypt records at rest. They are safe for concurrent use. The keys that sign tokens are others, see
// package internal/keyring.
type EncryptionKeys struct {
	keys []recordKey
	off  bool // new records are not encrypted
}

type recordKey struct {
	id   string // keyIDLength bytes
	aead cipher.AEAD
}

// NewEncryptionKeys returns one or more keys. Each text should hold 32 random bytes or more in base64 or hex. The first
// key encrypts and all decrypt; with off, all only decrypt, and records are written unencrypted. No error contains any part
// of a key.
func NewEncryptionKeys(texts []string, off bool) (*EncryptionKeys, error) {
	if len(texts) == 0 {
		return nil, errors.New("expected a key")
	}
	k := &EncryptionKeys{off: off}
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
	if len(text) < minKeyLength {
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

func (k *EncryptionKeys) find(id string) *recordKey {
	for i := range k.keys {
		if k.keys[i].id == id {
			return &k.keys[i]
		}
	}
	return nil
}

// encrypt returns what to write for a value. The ciphertext authenticates the name of the record.
func (k *EncryptionKeys) encrypt(value, name []byte) ([]byte, error) {
	if k.off {
		if isEncrypted(value) {
			return nil, errors.New("the value begins like an encrypted one")
		}
		return value, nil
	}
	key := &k.keys[0]
	data := make([]byte, encryptedHeader, encryptedHeader+len(value)+key.aead.Overhead())
	copy(data, encryptedMagic)
	copy(data[len(encryptedMagic):], key.id)
	nonce := data[len(encryptedMagic)+keyIDLength:]
	rand.Read(nonce) // never fails, see crypto/rand
	return key.aead.Seal(data, nonce, value, name), nil
}

// decrypt returns the value of encrypted data, whose memory it may reuse. Without an error, the value is not nil.
func (k *EncryptionKeys) decrypt(data, name []byte) ([]byte, error) {
	if len(data) < encryptedHeader {
		return nil, fmt.Errorf("%w: the header of its encryption is cut off", ErrDamaged)
	}
	id, nonce := data[len(encryptedMagic):len(encryptedMagic)+keyIDLength], data[len(encryptedMagic)+keyIDLength:encryptedHeader]
	key := k.find(string(id))
	if key == nil {
		return nil, fmt.Errorf("%w: it needs the key %s, and the keys are %s", ErrUnknownKey, hex.EncodeToString(id), k.names())
	}
	value, err := key.aead.Open(data[encryptedHeader:encryptedHeader], nonce, data[encryptedHeader:], name)
	if err != nil {
		return nil, fmt.Errorf("%w: it was changed, or belongs to another record or issuer", ErrDamaged)
	}
	return value, nil
}

// upToDate reports whether data is encrypted as a new record would be.
func (k *EncryptionKeys) upToDate(data []byte) bool {
	if k.off {
		return !isEncrypted(data)
	}
	return bytes.HasPrefix(data, []byte(encryptedMagic+k.keys[0].id))
}

// names lists the IDs of the keys, for error messages.
func (k *EncryptionKeys) names() string {
	names := make([]string, 0, len(k.keys))
	for _, key := range k.keys {
		names = append(names, hex.EncodeToString([]byte(key.id)))
	}
	return strings.Join(names, ", ")
}
