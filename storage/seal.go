package storage

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
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

// sealer derives the key with another function than the stored hash of the token, which is its
// plain SHA-256. The AEAD draws its nonce itself.
func sealer(token string) (cipher.AEAD, error) {
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte("caddy-oauth: successor of a refresh token"))
	block, err := aes.NewCipher(mac.Sum(nil))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
