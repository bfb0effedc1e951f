package jwt

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"
)

// ProofType is the typ of DPoP proofs (RFC 9449 §4.2).
const ProofType = "dpop+jwt"

// ErrProofKey says that a proof brings no key, or one that nobody may prove to have.
const ErrProofKey InvalidToken = "jwk is no public key for the algorithm"

// ProofKey is a key that a proof has brought along, for the algorithm that it names.
type ProofKey struct {
	*Key

	Thumbprint string // SHA-256 (RFC 7638)
}

// ParseProofKey returns the key in the encoded header of a proof. This is the only kind of JWT that brings its own key: it does not say
// who made it, but that whoever did has the key. The caller limits the length of the header.
func ParseProofKey(header string) (*ProofKey, error) {
	decoded, err := decode(header)
	if err != nil || !uniqueMembers(decoded) {
		return nil, ErrMalformed
	}
	var h Header
	if json.Unmarshal(decoded, &h) != nil {
		return nil, ErrMalformed
	}
	for _, member := range []json.RawMessage{h.Critical, h.JWKSetURL, h.X509URL, h.X509Chain, h.Unencoded} {
		if member != nil {
			return nil, ErrHeader
		}
	}
	switch {
	case !h.IsType(ProofType):
		return nil, ErrType
	case !Asymmetric(h.Algorithm):
		return nil, ErrAlgorithm
	}
	return proofKey(h.JWK, h.Algorithm)
}

// privateMembers are the members of a JWK that are secret (RFC 7518 §6.2.2, §6.3.2, §6.4.1).
var privateMembers = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"}

// proofKey returns the key of a JWK for an algorithm. It refuses a JWK that is not in the one form that RFC 7638 has a thumbprint of.
func proofKey(encoded json.RawMessage, alg string) (*ProofKey, error) {
	var members map[string]json.RawMessage
	if !uniqueMembers(encoded) || json.Unmarshal(encoded, &members) != nil {
		return nil, ErrProofKey
	}
	for _, name := range privateMembers {
		if members[name] != nil {
			return nil, ErrProofKey
		}
	}
	if checkClientKey(encoded) != nil {
		return nil, ErrProofKey
	}
	key, err := jwk.ParseKey(encoded)
	if err != nil || key.KeyUsage() == jwk.ForEncryption.String() || key.Algorithm().String() != "" && key.Algorithm().String() != alg {
		return nil, ErrProofKey
	}
	if r, ok := key.(jwk.RSAPublicKey); ok && len(r.E()) > rsaMaxExponentBytes {
		return nil, ErrProofKey
	}
	raw, err := rawKey(key)
	if err != nil {
		return nil, ErrProofKey
	}
	if r, ok := raw.(*rsa.PublicKey); ok && (r.E < 3 || r.E%2 == 0) {
		return nil, ErrProofKey
	}
	made, err := newKey(raw, "", alg)
	if err != nil {
		return nil, ErrProofKey
	}
	thumbprint, err := thumbprintOf(key, raw)
	if err != nil {
		return nil, ErrProofKey
	}
	return &ProofKey{Key: made, Thumbprint: thumbprint}, nil
}

// rsaMaxExponentBytes limits the public exponent of a stranger's key: the time to verify grows with it, and crypto/rsa takes none over
// 31 bits.
const rsaMaxExponentBytes = 4

// thumbprintOf returns the thumbprint of a JWK that was sent, which must be that of the key itself.
func thumbprintOf(sent jwk.Key, raw any) (string, error) {
	own, err := jwk.FromRaw(raw)
	if err != nil {
		return "", errJWK
	}
	of := func(key jwk.Key) (string, error) {
		sum, err := key.Thumbprint(crypto.SHA256)
		return base64.RawURLEncoding.EncodeToString(sum), err
	}
	thumbprint, err1 := of(own)
	other, err2 := of(sent)
	if err1 != nil || err2 != nil || thumbprint != other {
		return "", errors.New("a JWK that is not in its shortest form")
	}
	return thumbprint, nil
}

// Proof has the claims of a DPoP proof (RFC 9449 §4.2).
type Proof struct {
	ID, Method, URL string // jti, htm, htu
	IssuedAt        time.Time
	TokenHash       string // ath; "" if there is none
	Nonce           string // "" if there is none
}

// ParseProof reads the payload of a proof, in which every claim stands once and those that are required are there.
func ParseProof(payload []byte) (*Proof, error) {
	var raw map[string]any
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	if d.Decode(&raw) != nil || d.InputOffset() != int64(len(payload)) || !isUnique(payload, raw) {
		return nil, ErrMalformed
	}
	r := claimReader{raw: raw}
	p := &Proof{
		ID: r.text("jti"), Method: r.text("htm"), URL: r.text("htu"), IssuedAt: r.time("iat"),
		TokenHash: r.text("ath"), Nonce: r.text("nonce"),
	}
	if raw["iat"] == nil {
		r.fail("iat")
	}
	for _, claim := range [...][2]string{{"jti", p.ID}, {"htm", p.Method}, {"htu", p.URL}} {
		if claim[1] == "" {
			r.fail(claim[0])
		}
	}
	return p, r.err
}
