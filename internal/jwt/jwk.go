package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
)

// errJWK replaces jwx's errors about an unreadable key, which may quote from it.
var errJWK = errors.New("not a readable JWK (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2)")

// MakeKey makes a key for the algorithm and returns its kid and its JWK, private part included. For RSA it can take
// seconds.
func MakeKey(alg string) (id string, encoded json.RawMessage, err error) {
	raw, err := generate(keyKinds[alg])
	if err != nil {
		return "", nil, fmt.Errorf("making a signing key: %w", err)
	}
	key, err := jwk.FromRaw(raw)
	if err != nil {
		return "", nil, fmt.Errorf("making a signing key: %w", err)
	}
	id = rand.Text()
	if encoded, err = encodeJWK(key, id, alg); err != nil {
		return "", nil, fmt.Errorf("making a signing key: %w", err)
	}
	return id, encoded, nil
}

func generate(kind keyKind) (any, error) {
	switch kind.kty {
	case "EC":
		return ecdsa.GenerateKey(kind.curve, rand.Reader)
	case "OKP":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case "RSA":
		return rsa.GenerateKey(rand.Reader, rsaMakeBits)
	}
	secret := make([]byte, kind.bytes)
	_, err := rand.Read(secret)
	return secret, err
}

func encodeJWK(key jwk.Key, id, alg string) (json.RawMessage, error) {
	err := errors.Join(
		key.Set(jwk.KeyIDKey, id),
		key.Set(jwk.AlgorithmKey, jwa.SignatureAlgorithm(alg)),
		key.Set(jwk.KeyUsageKey, jwk.ForSignature),
	)
	if err != nil {
		return nil, err
	}
	return json.Marshal(key)
}

// ParseKey returns the key of a JWK, private or public, for use with that kid and algorithm. No error contains any part
// of the key.
func ParseKey(encoded []byte, id, alg string) (*Key, error) {
	key, err := jwk.ParseKey(encoded)
	if err != nil {
		return nil, errJWK
	}
	raw, err := rawKey(key)
	if err != nil {
		return nil, err
	}
	return newKey(raw, id, alg)
}

// rawKey returns the key of a JWK for the crypto packages.
func rawKey(key jwk.Key) (raw any, err error) {
	if key.Raw(&raw) != nil {
		return nil, errJWK
	}
	switch r := raw.(type) {
	case *rsa.PrivateKey:
		if r.Validate() != nil {
			return nil, errors.New("an RSA private key whose parts do not fit, expected n, e, d, p and q of one key")
		}
		r.Precompute()
	case ed25519.PublicKey:
		if len(r) != ed25519.PublicKeySize { // crypto/ed25519 panics
			return nil, fmt.Errorf("an Ed25519 key of %d bytes, expected %d", len(r), ed25519.PublicKeySize)
		}
	case ed25519.PrivateKey:
		if len(r) != ed25519.PrivateKeySize {
			return nil, errors.New("an Ed25519 private key of the wrong length")
		}
	case *ecdsa.PublicKey:
		if _, err := r.ECDH(); err != nil {
			return nil, errors.New("an EC key whose x and y are no point on its curve")
		}
	}
	return raw, nil
}

// parseSet returns the JWKs of a JWK set (RFC 7517 §5), or false if the document is none.
func parseSet(document []byte) ([]json.RawMessage, bool) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(document, &set) != nil || set.Keys == nil {
		return nil, false
	}
	return set.Keys, true
}

// ParsePrivateKeys returns the keys of an owner's JWK set and the one of them that signs: the first private one for alg,
// or the first private one if alg is "". It skips keys for encryption. No error contains any part of a key.
func ParsePrivateKeys(document []byte, alg string) (keys []*Key, signer *Key, err error) {
	if alg != "" {
		if err := CheckAlgorithm(alg); err != nil {
			return nil, nil, err
		}
	}
	set, ok := parseSet(document)
	if !ok || len(set) == 0 {
		return nil, nil, errors.New("the file is no JWK set, expected a JSON object with keys in a member \"keys\" (RFC 7517 §5)")
	}
	for i, encoded := range set {
		key, err := parsePrivateKey(encoded, alg)
		if err != nil {
			return nil, nil, fmt.Errorf("key %d in the file%s: %w", i+1, label(encoded), err)
		}
		if key == nil {
			continue
		}
		if slices.ContainsFunc(keys, func(other *Key) bool { return other.ID == key.ID }) {
			return nil, nil, fmt.Errorf("key %d in the file has the kid %q of another, expected a unique one", i+1, key.ID)
		}
		keys = append(keys, key)
		if signer == nil && key.CanSign() && (alg == "" || key.Algorithm == alg) {
			signer = key
		}
	}
	if signer == nil {
		wanted := "one for any algorithm"
		if alg != "" {
			wanted = keyKinds[alg].name + " for " + alg
		}
		return nil, nil, fmt.Errorf("the file has no private key to sign with, expected %s", wanted)
	}
	return keys, signer, nil
}

// parsePrivateKey returns a key of an owner's JWK set, or nil for one that is not for signatures. Without an alg, the key
// is for the preferred algorithm if it fits, else for the usual one of its type.
func parsePrivateKey(encoded []byte, preferred string) (*Key, error) {
	key, err := jwk.ParseKey(encoded)
	if err != nil {
		return nil, errJWK
	}
	if key.KeyUsage() == jwk.ForEncryption.String() {
		return nil, nil
	}
	raw, err := rawKey(key)
	if err != nil {
		return nil, err
	}
	alg := key.Algorithm().String()
	if alg == "" {
		if alg = algorithmFor(raw, preferred); alg == "" {
			return nil, errors.New("a key that fits no algorithm, expected EC on P-256, P-384 or P-521, OKP on Ed25519, RSA of at least 2048 bits or oct of at least 256 bits")
		}
	}
	if err := CheckAlgorithm(alg); err != nil {
		return nil, err
	}
	id := key.KeyID()
	if id == "" {
		thumbprint, err := key.Thumbprint(crypto.SHA256) // RFC 7638
		if err != nil {
			return nil, errJWK
		}
		id = base64.RawURLEncoding.EncodeToString(thumbprint)
	}
	return newKey(raw, id, alg)
}

// algorithmFor returns the preferred algorithm if the key fits it, else the first of the usual ones that it fits, else "".
func algorithmFor(raw any, preferred string) string {
	for _, alg := range []string{preferred, "ES256", "ES384", "ES512", "EdDSA", "RS256", "HS256"} {
		if keyKinds[alg].fits(raw) {
			return alg
		}
	}
	return ""
}

// label returns the kid of a JWK for an error message, or "" if it has none.
func label(encoded []byte) string {
	var named struct {
		KeyID string `json:"kid"`
	}
	if json.Unmarshal(encoded, &named) != nil || named.KeyID == "" {
		return ""
	}
	return fmt.Sprintf(" (kid %q)", named.KeyID)
}

// maxPublicKeys limits how many keys of an issuer elsewhere are read.
const maxPublicKeys = 64

// ParsePublicKeys returns the keys of another issuer's JWK set that can verify access tokens: public ones, for signatures,
// of a known kind. It skips all others (RFC 7517 §5). A key that names no algorithm is returned once for each that it
// fits.
func ParsePublicKeys(document []byte) ([]*Key, error) {
	set, ok := parseSet(document)
	if !ok {
		return nil, errors.New("expected a JWK set, a JSON object with keys in a member \"keys\" (RFC 7517 §5)")
	}
	var keys []*Key
	for _, encoded := range set[:min(len(set), maxPublicKeys)] {
		keys = append(keys, parsePublicKey(encoded)...)
	}
	return keys, nil
}

// parsePublicKey returns a key for each algorithm that the JWK can verify.
func parsePublicKey(encoded []byte) (keys []*Key) {
	key, err := jwk.ParseKey(encoded)
	if err != nil || key.KeyUsage() == jwk.ForEncryption.String() {
		return nil
	}
	if ops := key.KeyOps(); len(ops) > 0 && !slices.Contains(ops, jwk.KeyOpVerify) {
		return nil
	}
	public, err := key.PublicKey() // an issuer that publishes a private key by mistake still signs with it
	if err != nil {
		return nil
	}
	raw, err := rawKey(public)
	if _, secret := raw.([]byte); err != nil || secret {
		return nil
	}
	for _, alg := range Algorithms {
		if named := key.Algorithm().String(); named != "" && named != alg || !keyKinds[alg].fits(raw) {
			continue
		}
		if k, err := newKey(raw, key.KeyID(), alg); err == nil {
			keys = append(keys, k)
		}
	}
	return keys
}
