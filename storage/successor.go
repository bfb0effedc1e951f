package storage

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"

	"golang.org/x/crypto/chacha20poly1305"
)

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
