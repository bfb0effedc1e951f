package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"

	"github.com/caddy-oauth/caddy-oauth/internal/scratch"
)

// Algorithms are the algorithms that sign tokens (RFC 7518 §3.1, RFC 8037 §3.1).
var Algorithms = []string{
	"ES256", "ES384", "ES512", "EdDSA", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "HS256", "HS384", "HS512",
}

// keyKind is the kind of key that an algorithm needs.
type keyKind struct {
	kty   string
	curve elliptic.Curve // of an EC key
	bytes int            // least length of an oct key: that of the hash (RFC 7518 §3.2)
	name  string         // for people
}

const (
	rsaMinBits  = 2048 // RFC 7518 §3.3
	rsaMakeBits = 2048
)

var (
	rsaKind = keyKind{kty: "RSA", name: "an RSA key of at least 2048 bits"}

	// keyKinds has the kind for each of Algorithms.
	keyKinds = map[string]keyKind{
		"ES256": {kty: "EC", curve: elliptic.P256(), name: "an EC key on P-256"},
		"ES384": {kty: "EC", curve: elliptic.P384(), name: "an EC key on P-384"},
		"ES512": {kty: "EC", curve: elliptic.P521(), name: "an EC key on P-521"},
		"EdDSA": {kty: "OKP", name: "an OKP key on Ed25519"},
		"RS256": rsaKind, "RS384": rsaKind, "RS512": rsaKind,
		"PS256": rsaKind, "PS384": rsaKind, "PS512": rsaKind,
		"HS256": {kty: "oct", bytes: 32, name: "an oct key of at least 256 bits"},
		"HS384": {kty: "oct", bytes: 48, name: "an oct key of at least 384 bits"},
		"HS512": {kty: "oct", bytes: 64, name: "an oct key of at least 512 bits"},
	}
)

// CheckAlgorithm returns an error unless the algorithm is one of [Algorithms].
func CheckAlgorithm(alg string) error {
	if slices.Contains(Algorithms, alg) {
		return nil
	}
	return fmt.Errorf("algorithm %q, expected one of %s", alg, strings.Join(Algorithms, ", "))
}

// Asymmetric reports whether the algorithm is one of [Algorithms] whose keys have a public half.
func Asymmetric(alg string) bool {
	kind, ok := keyKinds[alg]
	return ok && kind.kty != "oct"
}

// fits reports whether a raw key is of this kind.
func (kind keyKind) fits(raw any) bool {
	switch key := raw.(type) {
	case *ecdsa.PrivateKey:
		return key.Curve == kind.curve
	case *ecdsa.PublicKey:
		return key.Curve == kind.curve
	case ed25519.PrivateKey, ed25519.PublicKey:
		return kind.kty == "OKP"
	case *rsa.PrivateKey:
		return kind.kty == "RSA" && key.N.BitLen() >= rsaMinBits
	case *rsa.PublicKey:
		return kind.kty == "RSA" && key.N.BitLen() >= rsaMinBits
	case []byte:
		return kind.kty == "oct" && len(key) >= kind.bytes
	}
	return false
}

// Key signs and verifies JWTs with one algorithm. It is ready to use: whatever can be computed before there is a token
// is computed once.
type Key struct {
	ID, Algorithm string
	Public        json.RawMessage // the public JWK; nil for a shared secret

	header          string // of the access tokens it signs, encoded
	private, public any    // raw keys, which sign faster than a jwk.Key; private may be nil
	signer          jws.Signer
	verifier        jws.Verifier
	size            int // of a signature, encoded
}

// newKey returns a key for use with that kid and algorithm.
func newKey(raw any, id, alg string) (*Key, error) {
	if kind := keyKinds[alg]; !kind.fits(raw) {
		return nil, fmt.Errorf("not a key for %s, expected %s", alg, kind.name)
	}
	header, err := Header{Algorithm: alg, KeyID: id, Type: AccessTokenType}.encode(Reference{})
	if err != nil {
		return nil, err
	}
	k := &Key{ID: id, Algorithm: alg, header: header, public: raw}
	if k.signer, err = jws.NewSigner(jwa.SignatureAlgorithm(alg)); err != nil {
		return nil, err
	}
	if k.verifier, err = jws.NewVerifier(jwa.SignatureAlgorithm(alg)); err != nil {
		return nil, err
	}
	switch key := raw.(type) {
	case *ecdsa.PrivateKey:
		k.private, k.public = deterministic{key}, key.Public()
	case crypto.Signer:
		k.private, k.public = raw, key.Public()
	case []byte:
		k.private = raw
	}
	if err := k.publish(); err != nil {
		return nil, err
	}
	return k, k.probe()
}

// deterministic signs with ECDSA as in RFC 6979, which RFC 8725 §3.2 recommends: bad random numbers cannot reveal the key. It
// also takes a quarter less time.
//
// As a type of its own it keeps jws from signing with a copy of the key, for which crypto/ecdsa cannot use what it has cached for
// the original.
type deterministic struct{ *ecdsa.PrivateKey }

// Sign implements crypto.Signer.
func (k deterministic) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.PrivateKey.Sign(nil, digest, opts)
}

// publish sets the public JWK. It starts from the bare public key, so that no secret member of the original JWK can slip
// through.
func (k *Key) publish() error {
	if _, secret := k.public.([]byte); secret {
		return nil
	}
	key, err := jwk.FromRaw(k.public)
	if err != nil {
		return errJWK
	}
	k.Public, err = encodeJWK(key, k.ID, k.Algorithm)
	return err
}

// probe signs once, to detect a private key that does not belong to its public part before any token is signed with it.
func (k *Key) probe() error {
	if k.private == nil {
		return nil
	}
	signature, err := k.signer.Sign([]byte(k.header), k.private)
	if err != nil || !k.verify([]byte(k.header), signature) {
		return errors.New("a private key that does not belong to its public part")
	}
	k.size = base64.RawURLEncoding.EncodedLen(len(signature))
	return nil
}

// CanSign reports whether the key has a private half, or is a shared secret.
func (k *Key) CanSign() bool { return k.private != nil }

// Header returns the encoded header of the access tokens that the key signs.
func (k *Key) Header() string { return k.header }

// Sign returns the payload, a JSON object, as an access token.
func (k *Key) Sign(payload []byte) (string, error) { return k.join(k.header, payload) }

// SignAs returns the payload as a JWT of another type.
func (k *Key) SignAs(typ string, payload []byte) (string, error) {
	return k.signWith(typ, Reference{}, payload)
}

// SignReferenced is SignAs with a Reference in the header.
func (k *Key) SignReferenced(typ string, ref Reference, payload []byte) (string, error) {
	return k.signWith(typ, ref, payload)
}

func (k *Key) signWith(typ string, ref Reference, payload []byte) (string, error) {
	header, err := Header{Algorithm: k.Algorithm, KeyID: k.ID, Type: typ}.encode(ref)
	if err != nil {
		return "", err
	}
	return k.join(header, payload)
}

// join returns header, payload and signature as a JWS in compact serialization (RFC 7515 §5.1).
func (k *Key) join(header string, payload []byte) (string, error) {
	size := len(header) + 1 + base64.RawURLEncoding.EncodedLen(len(payload)) + 1 + k.size
	if size > maxLength {
		return "", fmt.Errorf("a token of %d bytes, over the limit of %d", size, maxLength)
	}
	buffer := scratch.Take()
	defer scratch.Release(buffer)
	buffer.Grow(size)
	token := append(buffer.AvailableBuffer(), header...)
	token = append(token, '.')
	token = base64.RawURLEncoding.AppendEncode(token, payload)
	signature, err := k.signer.Sign(token, k.private)
	if err != nil {
		return "", fmt.Errorf("signing with key %q: %w", k.ID, err)
	}
	token = append(token, '.')
	return string(base64.RawURLEncoding.AppendEncode(token, signature)), nil
}

func (k *Key) verify(signed, signature []byte) bool {
	return k.verifier.Verify(signed, signature, k.public) == nil
}
