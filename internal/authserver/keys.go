package authserver

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// keyKind is what an algorithm asks of its key.
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
	rsaKind  = keyKind{kty: "RSA", name: "an RSA key of at least 2048 bits"}
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

func checkAlgorithm(alg string) error {
	if _, ok := keyKinds[alg]; ok {
		return nil
	}
	return fmt.Errorf("signing keys: algorithm %q, expected ES256, ES384, ES512, EdDSA, RS256, RS384, RS512, PS256, PS384, PS512, HS256, HS384 or HS512", alg)
}

// fits checks a raw key against its kind.
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

// publicJWK is a public key in JSON.
type publicJWK = json.RawMessage

// signingKey is a key with all that can be worked out before a token comes along.
type signingKey struct {
	id, algorithm string
	header        string    // of the tokens it signs, encoded
	published     publicJWK // nil for a secret

	private, public any // raw keys, which sign at less cost than a jwk.Key; private may be nil
	signer          signer
	verifier        verifier
	size            int // of a signature, encoded
}

type signer interface {
	Sign(payload []byte, key any) ([]byte, error)
}

type verifier interface {
	Verify(payload, signature []byte, key any) error
}

// algorithm returns who signs and verifies with an algorithm.
func algorithm(alg string) (signer, verifier, error) {
	s, err := jws.NewSigner(jwa.SignatureAlgorithm(alg))
	if err != nil {
		return nil, nil, err
	}
	v, err := jws.NewVerifier(jwa.SignatureAlgorithm(alg))
	return s, v, err
}

// sign returns the payload as an access token.
func (k *signingKey) sign(payload []byte) (string, error) { return k.join(k.header, payload) }

// signAs returns the payload as a JWT of another type.
func (k *signingKey) signAs(typ string, payload []byte) (string, error) {
	header, err := json.Marshal(tokenHeader{Algorithm: k.algorithm, KeyID: k.id, Type: typ})
	if err != nil {
		return "", err
	}
	return k.join(base64.RawURLEncoding.EncodeToString(header), payload)
}

// join returns header, payload and signature as a JWS in compact form (RFC 7515 §5.1).
func (k *signingKey) join(header string, payload []byte) (string, error) {
	size := len(header) + 1 + base64.RawURLEncoding.EncodedLen(len(payload)) + 1 + k.size
	if size > maxTokenLength {
		return "", fmt.Errorf("a token of %d bytes, over the limit of %d", size, maxTokenLength)
	}
	token := make([]byte, 0, size)
	token = append(token, header...)
	token = append(token, '.')
	token = base64.RawURLEncoding.AppendEncode(token, payload)
	signature, err := k.signer.Sign(token, k.private)
	if err != nil {
		return "", fmt.Errorf("signing with key %q: %w", k.id, err)
	}
	token = append(token, '.')
	token = base64.RawURLEncoding.AppendEncode(token, signature)
	return string(token), nil
}

// verify reports whether the signature is this key's over the signed part of a token.
func (k *signingKey) verify(signed, signature []byte) bool {
	return k.verifier.Verify(signed, signature, k.public) == nil
}

// makeKey makes a key for the algorithm. RSA takes up to seconds.
func makeKey(alg string) (*scheduledKey, error) {
	raw, err := generate(keyKinds[alg])
	if err != nil {
		return nil, fmt.Errorf("making a signing key: %w", err)
	}
	key, err := jwk.FromRaw(raw)
	if err != nil {
		return nil, fmt.Errorf("making a signing key: %w", err)
	}
	id := rand.Text()
	encoded, err := encodeJWK(key, id, alg)
	if err != nil {
		return nil, fmt.Errorf("making a signing key: %w", err)
	}
	return &scheduledKey{ID: id, Algorithm: alg, JWK: encoded}, nil
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

// errJWK stands for what jwx says of an unreadable key, which may quote from it.
var errJWK = errors.New("not a readable JWK (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2)")

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
	case *ecdsa.PublicKey:
		if _, err := r.ECDH(); err != nil {
			return nil, errors.New("an EC key whose x and y are no point on its curve")
		}
	}
	return raw, nil
}

// parseKey returns the key of a JWK, private or public, for use with that kid and algorithm. No error
// holds any part of the key.
func parseKey(encoded []byte, id, alg string) (*signingKey, error) {
	key, err := jwk.ParseKey(encoded)
	if err != nil {
		return nil, errJWK
	}
	raw, err := rawKey(key)
	if err != nil {
		return nil, err
	}
	return newSigningKey(raw, id, alg)
}

func newSigningKey(raw any, id, alg string) (*signingKey, error) {
	if kind := keyKinds[alg]; !kind.fits(raw) {
		return nil, fmt.Errorf("not a key for %s, expected %s", alg, kind.name)
	}
	header, err := json.Marshal(tokenHeader{Algorithm: alg, KeyID: id, Type: tokenType})
	if err != nil {
		return nil, err
	}
	k := &signingKey{id: id, algorithm: alg, header: base64.RawURLEncoding.EncodeToString(header), public: raw}
	if k.signer, k.verifier, err = algorithm(alg); err != nil {
		return nil, err
	}
	switch key := raw.(type) {
	case *ecdsa.PrivateKey:
		// jws signs with a copy of an *ecdsa.PrivateKey, for which crypto/ecdsa cannot use what it has cached for the
		// original. It passes any other crypto.Signer on as it is.
		k.private, k.public = struct{ crypto.Signer }{key}, key.Public()
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

// publish works out the published form. It starts from the bare public key, so that no member of a
// JWK that happens to be secret can slip through.
func (k *signingKey) publish() error {
	if _, secret := k.public.([]byte); secret {
		return nil
	}
	key, err := jwk.FromRaw(k.public)
	if err != nil {
		return errJWK
	}
	k.published, err = encodeJWK(key, k.id, k.algorithm)
	return err
}

// probe signs once, to find a private part that is not the public part's before a token does.
func (k *signingKey) probe() error {
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

// parseFileKey returns a key of an owner's JWKS, or nil for one that is not for signatures. A missing
// alg is the preferred one if that fits the key, else the usual one of its type.
func parseFileKey(encoded []byte, preferred string) (*signingKey, error) {
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
			return nil, errors.New("a key of no use, expected EC on P-256, P-384 or P-521, OKP on Ed25519, RSA of at least 2048 bits or oct of at least 256 bits")
		}
	}
	if err := checkAlgorithm(alg); err != nil {
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
	return newSigningKey(raw, id, alg)
}

const remoteMostKeys = 64

// parsePublicKeys returns the keys of somebody else's JWKS that can verify access tokens: public ones, for signatures, of a
// kind that is known here. All others are passed over (RFC 7517 §5). A key that names no algorithm is there once for each that
// fits it.
func parsePublicKeys(document []byte) ([]*signingKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(document, &set) != nil || set.Keys == nil {
		return nil, errors.New("expected a JWK set, a JSON object with keys in a member \"keys\" (RFC 7517 §5)")
	}
	var keys []*signingKey
	for _, encoded := range set.Keys[:min(len(set.Keys), remoteMostKeys)] {
		keys = append(keys, parsePublicKey(encoded)...)
	}
	return keys, nil
}

// parsePublicKey returns a key for each algorithm it can verify.
func parsePublicKey(encoded []byte) (keys []*signingKey) {
	key, err := jwk.ParseKey(encoded)
	if err != nil || key.KeyUsage() == jwk.ForEncryption.String() {
		return nil
	}
	if ops := key.KeyOps(); len(ops) > 0 && !slices.Contains(ops, jwk.KeyOpVerify) {
		return nil
	}
	public, err := key.PublicKey() // whoever publishes a private key still signs with it
	if err != nil {
		return nil
	}
	raw, err := rawKey(public)
	if _, secret := raw.([]byte); err != nil || secret {
		return nil
	}
	for alg, kind := range keyKinds {
		if named := key.Algorithm().String(); named != "" && named != alg || !kind.fits(raw) {
			continue
		}
		if k, err := newSigningKey(raw, key.KeyID(), alg); err == nil {
			keys = append(keys, k)
		}
	}
	return keys
}
