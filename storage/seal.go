package storage

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"

	"golang.org/x/crypto/chacha20poly1305"
)

// A family keeps the current refresh token sealed under the one before it, so that only who
// presents that one again can be given the same successor, and a stolen store opens nothing.

var errSeal = errors.New("the seal does not open")

// seal encrypts next under a key derived from token. The nonce, which is random, stands before it.
func seal(token, next string) ([]byte, error) {
	aead, err := sealer(token)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(next)+aead.Overhead())
	rand.Read(nonce)
	return aead.Seal(nonce, nonce, []byte(next), nil), nil
}

// unseal returns what was sealed under token.
func unseal(token string, sealed []byte) (string, error) {
	for _, sealer := range sealers {
		aead, err := sealer(token)
		if err != nil || len(sealed) < aead.NonceSize() {
			continue
		}
		if next, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], nil); err == nil {
			return string(next), nil
		}
	}
	return "", errSeal
}

const sealPurpose = "caddy-oauth: successor of a refresh token"

// sealers are how it is done now, and how it was done before.
var sealers = [...]func(token string) (cipher.AEAD, error){sealer, sealerAES, sealerHKDF}

// sealer seals with ChaCha20-Poly1305 (RFC 8439): each token has a key of its own, and AES takes longer to take in a key
// than to encrypt so little with it. Where only FIPS 140 is allowed, it is AES.
func sealer(token string) (cipher.AEAD, error) {
	key := sealKey(token)
	if aead, err := chacha20poly1305.New(key[:]); err == nil {
		return aead, nil
	}
	return aesGCM(key[:])
}

// sealKey derives the key in a way that the stored hash of the token, its plain SHA-256, is of no help with: the purpose
// stands before the token, so that nothing can be appended to that hash to get there.
func sealKey(token string) [sha256.Size]byte {
	return hashOf(sealPurpose, "\x00", token)
}

func sealerAES(token string) (cipher.AEAD, error) {
	key := sealKey(token)
	return aesGCM(key[:])
}

// sealerHKDF is of the time when HKDF derived the key: that took longer and was no harder to guess.
func sealerHKDF(token string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(token), nil, sealPurpose, 32)
	if err != nil {
		return nil, err
	}
	return aesGCM(key)
}

func aesGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block) // which it draws itself: it has a NonceSize of 0
}
