package authserver

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// ecdsaJWS signs and verifies with ECDSA (RFC 7518 §3.4). jws would too, but copies the key each time, and what crypto/ecdsa
// has worked out for a key it remembers for the original only.
type ecdsaJWS struct {
	digest func(payload []byte) []byte
	size   int // of r and of s, in bytes
}

var ecdsaAlgorithms = map[string]ecdsaJWS{
	"ES256": {func(payload []byte) []byte { sum := sha256.Sum256(payload); return sum[:] }, 32},
	"ES384": {func(payload []byte) []byte { sum := sha512.Sum384(payload); return sum[:] }, 48},
	"ES512": {func(payload []byte) []byte { sum := sha512.Sum512(payload); return sum[:] }, 66},
}

// Sign returns r and s, one after the other.
func (e ecdsaJWS) Sign(payload []byte, key any) ([]byte, error) {
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("expected a private ECDSA key, not %T", key)
	}
	encoded, err := ecdsa.SignASN1(rand.Reader, private, e.digest(payload))
	if err != nil {
		return nil, err
	}
	var r, s []byte
	whole, inner := cryptobyte.String(encoded), cryptobyte.String(nil)
	if !whole.ReadASN1(&inner, asn1.SEQUENCE) || !inner.ReadASN1Integer(&r) || !inner.ReadASN1Integer(&s) ||
		len(r) > e.size || len(s) > e.size {
		return nil, errors.New("a signature that is none")
	}
	signature := make([]byte, 2*e.size)
	copy(signature[e.size-len(r):], r)
	copy(signature[2*e.size-len(s):], s)
	return signature, nil
}

var errSignature = errors.New("the signature is not good")

// Verify returns an error unless the signature is good.
func (e ecdsaJWS) Verify(payload, signature []byte, key any) error {
	public, ok := key.(*ecdsa.PublicKey)
	if !ok || len(signature) != 2*e.size {
		return errSignature
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addInteger(b, signature[:e.size])
		addInteger(b, signature[e.size:])
	})
	encoded, err := b.Bytes()
	if err != nil || !ecdsa.VerifyASN1(public, e.digest(payload), encoded) {
		return errSignature
	}
	return nil
}

// addInteger adds a number that is not negative: without zeros before it, but for one where it would look negative.
func addInteger(b *cryptobyte.Builder, number []byte) {
	for len(number) > 1 && number[0] == 0 {
		number = number[1:]
	}
	b.AddASN1(asn1.INTEGER, func(b *cryptobyte.Builder) {
		if number[0] >= 0x80 {
			b.AddUint8(0)
		}
		b.AddBytes(number)
	})
}
