package jwt

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/lestrrat-go/jwx/v2/jwk"
)

const (
	// MaxClientKeys is how many keys of a client are used. A signature without a kid is checked with each of them.
	MaxClientKeys = 20

	rsaMaxBits = 8192 // of a stranger's key: the time to verify grows with the square of its length
)

// AssertionAlgorithms are the algorithms by which clients may sign.
func AssertionAlgorithms() (algs []string) {
	for _, alg := range Algorithms {
		if Asymmetric(alg) {
			algs = append(algs, alg)
		}
	}
	return algs
}

// FAPIAlgorithms are the algorithms of JWTs under FAPI 2.0 Security Profile §5.4.1.
func FAPIAlgorithms() []string { return []string{"ES256", "EdDSA", "PS256"} }

// ParseClientKeys returns the keys of a client's JWK set that can verify its signatures: public ones, for signatures, of a known
// kind. It skips all others, also a private key, since everybody who reads the set can sign with it. A key that names no
// algorithm is returned once for each that it fits.
func ParseClientKeys(document []byte) ([]*Key, error) {
	set, ok := parseSet(document)
	if !ok {
		return nil, errNoSet
	}
	var keys []*Key
	for _, encoded := range set[:min(len(set), MaxClientKeys)] {
		if checkClientKey(encoded) == nil {
			keys = append(keys, parsePublicKey(encoded)...)
		}
	}
	return keys, nil
}

// ParseClientCertificates returns the certificates in a client's JWK set, in DER: of each key, the first one in x5c, which is a certificate
// of this key (RFC 7517 §4.7). It skips the keys that ParseClientKeys skips: those that are private, and those for encryption.
func ParseClientCertificates(document []byte) (certificates [][]byte) {
	set, ok := parseSet(document)
	if !ok {
		return nil
	}
	for _, encoded := range set[:min(len(set), MaxClientKeys)] {
		var key struct {
			Chain []string `json:"x5c"`
		}
		if json.Unmarshal(encoded, &key) != nil || len(key.Chain) == 0 {
			continue
		}
		der, err := base64.StdEncoding.DecodeString(key.Chain[0])
		if err == nil && checkClientKey(encoded) == nil && isCertificateOf(der, encoded) {
			certificates = append(certificates, der)
		}
	}
	return certificates
}

// isCertificateOf reports whether a certificate in DER is of the key of a public JWK for signatures.
func isCertificateOf(der, encoded []byte) bool {
	key, err := jwk.ParseKey(encoded)
	if err != nil || key.KeyUsage() == jwk.ForEncryption.String() {
		return false
	}
	raw, err := rawKey(key)
	if err != nil {
		return false
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return false
	}
	public, ok := certificate.PublicKey.(interface {
		Equal(other crypto.PublicKey) bool
	})
	return ok && public.Equal(raw)
}

var errNoSet = errors.New("expected a JWK set, a JSON object with keys in a member \"keys\" (RFC 7517 §5)")

// CheckClientKeys returns an error that says what is wrong with a client's JWK set. It contains no part of a key.
func CheckClientKeys(document []byte) error {
	set, ok := parseSet(document)
	switch {
	case !ok:
		return errNoSet
	case len(set) == 0:
		return errors.New("expected at least one key")
	case len(set) > MaxClientKeys:
		return fmt.Errorf("expected at most %d keys, not %d", MaxClientKeys, len(set))
	}
	usable := false
	for n, encoded := range set {
		if err := checkClientKey(encoded); err != nil {
			return fmt.Errorf("key %d%s: %w", n+1, label(encoded), err)
		}
		usable = usable || len(parsePublicKey(encoded)) > 0
	}
	if !usable {
		return errors.New("expected a key to verify signatures with: EC on P-256, P-384 or P-521, OKP on Ed25519, or RSA of 2048 to 8192 bits")
	}
	return nil
}

// checkClientKey refuses keys that no client may authenticate with.
func checkClientKey(encoded []byte) error {
	key, err := jwk.ParseKey(encoded)
	if err != nil {
		return errJWK
	}
	if key.KeyType() == "oct" {
		return errors.New("a shared secret, expected a public key")
	}
	raw, err := rawKey(key)
	if err != nil {
		return err
	}
	switch r := raw.(type) {
	case *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey:
		return errors.New("a private key, expected the public one: the client keeps the private key to itself")
	case *rsa.PublicKey:
		if r.N.BitLen() > rsaMaxBits {
			return fmt.Errorf("an RSA key of %d bits, expected at most %d", r.N.BitLen(), rsaMaxBits)
		}
	}
	return nil
}

// ReadClientKeys returns the JWK set of a file with a client's public keys: a JWK set, one JWK, or keys in PEM as openssl writes
// them (SubjectPublicKeyInfo, RFC 7468 §13). The error contains no part of a key.
func ReadClientKeys(file []byte) (document json.RawMessage, err error) {
	file = bytes.TrimSpace(file)
	switch {
	case bytes.HasPrefix(file, []byte("-----BEGIN")):
		document, err = setOfPEM(file)
	case isKey(file):
		document, err = json.Marshal(map[string]any{"keys": []json.RawMessage{file}})
	default:
		document = file
	}
	if err != nil {
		return nil, err
	}
	return document, CheckClientKeys(document)
}

func isKey(file []byte) bool {
	var key struct {
		Type string `json:"kty"`
	}
	return json.Unmarshal(file, &key) == nil && key.Type != ""
}

func setOfPEM(file []byte) (json.RawMessage, error) {
	set := jwk.NewSet()
	for len(file) > 0 {
		block, rest := pem.Decode(file)
		if block == nil {
			return nil, errors.New("expected keys in PEM, each between its BEGIN and END lines")
		}
		if block.Type != "PUBLIC KEY" {
			return nil, fmt.Errorf("expected a PUBLIC KEY in PEM, not a %s; make one with: openssl pkey -in <private key> -pubout", block.Type)
		}
		raw, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, errors.New("the PUBLIC KEY in PEM is not readable")
		}
		key, err := jwk.FromRaw(raw)
		if err != nil {
			return nil, errJWK
		}
		if err := set.AddKey(key); err != nil {
			return nil, errJWK
		}
		file = bytes.TrimSpace(rest)
	}
	return json.Marshal(set)
}
