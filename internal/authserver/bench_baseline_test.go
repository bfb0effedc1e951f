package authserver

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// The cost that no server can avoid: the signature by the crypto packages, and the work of net/http for a handler that reads a form
// and writes JSON.

var benchAlgorithms = []string{"ES256", "EdDSA", "RS256"}

// rawBenchKey is a key with what the crypto packages need to sign the SHA-256 of a JWT or, with Ed25519, the JWT itself.
type rawBenchKey struct {
	sign   func(signed []byte) (signature []byte, err error)
	verify func(signed, signature []byte) bool
}

func newRawBenchKey(tb testing.TB, algorithm string) rawBenchKey {
	tb.Helper()
	switch algorithm {
	case "ES256":
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(tb, err)
		// The signature in a JWS (RFC 7518 §3.4) has the same numbers in another encoding.
		return hashed(
			func(sum []byte) ([]byte, error) { return ecdsa.SignASN1(rand.Reader, key, sum) },
			func(sum, signature []byte) bool { return ecdsa.VerifyASN1(&key.PublicKey, sum, signature) })
	case "EdDSA":
		public, key, err := ed25519.GenerateKey(rand.Reader)
		must(tb, err)
		return rawBenchKey{
			func(signed []byte) ([]byte, error) { return ed25519.Sign(key, signed), nil },
			func(signed, signature []byte) bool { return ed25519.Verify(public, signed, signature) },
		}
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(tb, err)
	return hashed(
		func(sum []byte) ([]byte, error) { return rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum) },
		func(sum, signature []byte) bool {
			return rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, sum, signature) == nil
		})
}

func hashed(sign func(sum []byte) ([]byte, error), verify func(sum, signature []byte) bool) rawBenchKey {
	return rawBenchKey{
		func(signed []byte) ([]byte, error) {
			sum := sha256.Sum256(signed)
			return sign(sum[:])
		},
		func(signed, signature []byte) bool {
			sum := sha256.Sum256(signed)
			return verify(sum[:], signature)
		},
	}
}

// plainSigned has the length of header and payload of a usual token.
var plainSigned = []byte(strings.Repeat("e", 430))

func BenchmarkRawSignature(b *testing.B) {
	for _, algorithm := range benchAlgorithms {
		key := newRawBenchKey(b, algorithm)
		b.Run(algorithm+"/sign", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := key.sign(plainSigned); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(algorithm+"/verify", func(b *testing.B) {
			signature, err := key.sign(plainSigned)
			must(b, err)
			b.ReportAllocs()
			for b.Loop() {
				if !key.verify(plainSigned, signature) {
					b.Fatal("a good signature is refused")
				}
			}
		})
	}
}

// plainJSON is a response of usual length.
var plainJSON = []byte(`{"access_token":"` + strings.Repeat("e", 617) + `","token_type":"Bearer","expires_in":3600,"scope":"read write"}`)

// servePlain reads a form and writes JSON, without any OAuth.
func servePlain(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	_, _, ok := r.BasicAuth()
	if err := r.ParseForm(); err != nil || !ok || r.PostForm.Get("grant_type") == "" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(plainJSON) // the client has gone
}

func BenchmarkNetHTTP(b *testing.B) {
	r := newForm("/oauth/token", url.Values{"grant_type": {"client_credentials"}, "scope": {"profile orders"}})
	answer := sink{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		answer.reset()
		r.body.Reset(r.form)
		r.Body, r.Form, r.PostForm = &r.body, nil, nil
		servePlain(&answer, r.Request)
		if answer.status != http.StatusOK {
			b.Fatal(answer.status)
		}
	}
}
