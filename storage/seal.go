package storage

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
)

// A family keeps the current refresh token sealed under the one before it, so that only who
// presents that one again can be given the same successor, and a stolen store opens nothing.

var errSeal = errors.New("the seal does not open")

// seal encrypts next under a key derived from token.
func seal(token, next string) ([]byte, error) {
	aead, err := sealer(token)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, []byte(next), nil), nil
}

// unseal returns what was sealed under token.
func unseal(token string, sealed []byte) (string, error) {
	aead, err := sealer(token)
	if err != nil {
		return "", err
	}
	next, err := aead.Open(nil, nil, sealed, nil)
	if err != nil {
		return "", errSeal
	}
	return string(next), nil
}

// sealer derives the key in a way that the stored hash of the token, its plain SHA-256, is of no help with: the
// token is the input of HKDF and never the key of an HMAC, which would be just that hash for a token of over 64
// bytes. The AEAD draws its nonce itself.
func sealer(token string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(token), nil, "caddy-oauth: successor of a refresh token", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
