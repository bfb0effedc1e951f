package jwttest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// Prover makes DPoP proofs (RFC 9449) with a key of its own, without the code that checks them.
type Prover struct {
	JWK        string // public
	Thumbprint string
	Now        func() time.Time

	alg string
	key crypto.Signer
	n   int // proofs so far
}

// NewProver returns a Prover with a new key for the algorithm: ES256, ES384, EdDSA, RS256 or PS256.
func NewProver(tb testing.TB, alg string, now func() time.Time) *Prover {
	tb.Helper()
	p := &Prover{alg: alg, Now: now}
	var err error
	switch alg {
	case "ES256":
		p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		p.key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "EdDSA":
		_, p.key, err = ed25519.GenerateKey(rand.Reader)
	default:
		p.key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		tb.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	switch public := p.key.Public().(type) { // the members of RFC 7638, sorted
	case *ecdsa.PublicKey:
		point, err := public.Bytes()
		if err != nil {
			tb.Fatal(err)
		}
		size := len(point) / 2
		p.JWK = fmt.Sprintf(`{"crv":%q,"kty":"EC","x":%q,"y":%q}`, public.Params().Name, encode(point[1:1+size]), encode(point[1+size:]))
	case ed25519.PublicKey:
		p.JWK = fmt.Sprintf(`{"crv":"Ed25519","kty":"OKP","x":%q}`, encode(public))
	case *rsa.PublicKey:
		p.JWK = fmt.Sprintf(`{"e":"AQAB","kty":"RSA","n":%q}`, encode(public.N.Bytes()))
	}
	sum := sha256.Sum256([]byte(p.JWK))
	p.Thumbprint = encode(sum[:])
	return p
}

// Claims returns good claims for a request, changed by pairs of names and values; nil removes one. token is the access token of the
// request, "" for none.
func (p *Prover) Claims(method, target, token string, pairs ...any) map[string]any {
	p.n++
	claims := map[string]any{"jti": fmt.Sprintf("%s-%d", p.Thumbprint, p.n), "htm": method, "htu": target, "iat": p.Now().Unix()}
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		claims["ath"] = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	for pair := range slices.Chunk(pairs, 2) {
		name := pair[0].(string)
		if claims[name] = pair[1]; pair[1] == nil {
			delete(claims, name)
		}
	}
	return claims
}

// Prove returns a proof for a request.
func (p *Prover) Prove(tb testing.TB, method, target, token string, pairs ...any) string {
	tb.Helper()
	payload, err := json.Marshal(p.Claims(method, target, token, pairs...))
	if err != nil {
		tb.Fatal(err)
	}
	return p.Sign(tb, `{"typ":"dpop+jwt","alg":"`+p.alg+`","jwk":`+p.JWK+`}`, string(payload))
}

// Sign returns a JWT with that header and payload, whatever they say, and a good signature.
func (p *Prover) Sign(tb testing.TB, header, payload string) string {
	tb.Helper()
	text := Encode(header) + "." + Encode(payload)
	signature, err := p.sign([]byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func (p *Prover) sign(text []byte) ([]byte, error) {
	if p.alg == "EdDSA" {
		return p.key.Sign(rand.Reader, text, crypto.Hash(0))
	}
	hash := crypto.SHA256
	if strings.HasSuffix(p.alg, "384") {
		hash = crypto.SHA384
	}
	h := hash.New()
	h.Write(text)
	var opts crypto.SignerOpts = hash
	if p.alg == "PS256" {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	signature, err := p.key.Sign(rand.Reader, h.Sum(nil), opts)
	if err != nil || !strings.HasPrefix(p.alg, "ES") {
		return signature, err
	}
	var point struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(signature, &point); err != nil {
		return nil, err
	}
	size := hash.Size() // RFC 7518 §3.4
	out := make([]byte, 2*size)
	point.R.FillBytes(out[:size])
	point.S.FillBytes(out[size:])
	return out, nil
}
