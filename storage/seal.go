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
	for _, sealer := range []func(string) (cipher.AEAD, error){sealer, sealerBefore} {
		aead, err := sealer(token)
		if err != nil {
			return "", err
		}
		if next, err := aead.Open(nil, nil, sealed, nil); err == nil {
			return string(next), nil
		}
	}
	return "", errSeal
}

const sealPurpose = "caddy-oauth: successor of a refresh token"

// sealer derives the key in a way that the stored hash of the token, its plain SHA-256, is of no help with: the purpose
// stands before the token, so that nothing can be appended to that hash to get there. The AEAD draws its nonce itself.
func sealer(token string) (cipher.AEAD, error) {
	key := sha256.Sum256([]byte(sealPurpose + "\x00" + token))
	return aeadOf(key[:])
}

// sealerBefore is for records of before, when HKDF derived the key: that took longer and was no harder to guess.
func sealerBefore(token string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(token), nil, sealPurpose, 32)
	if err != nil {
		return nil, err
	}
	return aeadOf(key)
}

func aeadOf(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
