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

// What cannot be saved: the signature, as the crypto packages make it, and what net/http does for any handler that takes
// a form and answers with JSON.

var benchAlgorithms = []string{"ES256", "EdDSA", "RS256"}

// rawSigner returns what the crypto packages need to sign the SHA-256 of a JWT or, with Ed25519, the JWT itself.
func rawSigner(tb testing.TB, algorithm string) func(signed []byte) {
	tb.Helper()
	hashed := func(sign func(sum []byte) error) func([]byte) {
		return func(signed []byte) {
			sum := sha256.Sum256(signed)
			must(tb, sign(sum[:]))
		}
	}
	switch algorithm {
	case "ES256":
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(tb, err)
		return hashed(func(sum []byte) error {
			_, _, err := ecdsa.Sign(rand.Reader, key, sum) // the two numbers that a JWS wants (RFC 7518 §3.4)
			return err
		})
	case "EdDSA":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		must(tb, err)
		return func(signed []byte) { ed25519.Sign(key, signed) }
	}
	key, err := rsa.GenerateKey(rand.Reader, rsaMakeBits)
	must(tb, err)
	return hashed(func(sum []byte) error {
		_, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum)
		return err
	})
}

func BenchmarkRawSignature(b *testing.B) {
	for _, algorithm := range benchAlgorithms {
		b.Run(algorithm, func(b *testing.B) {
			sign := rawSigner(b, algorithm)
			signed := []byte(strings.Repeat("e", 430)) // as long as header and payload of a usual token
			b.ReportAllocs()
			for b.Loop() {
				sign(signed)
			}
		})
	}
}

// plainJSON is an answer of a usual length.
var plainJSON = []byte(`{"access_token":"` + strings.Repeat("e", 617) + `","token_type":"Bearer","expires_in":3600,"scope":"read write"}`)

// servePlain does what a handler with net/http does, and nothing of OAuth.
func servePlain(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	_, _, ok := r.BasicAuth()
	if err := r.ParseForm(); err != nil || !ok || r.PostForm.Get("grant_type") == "" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(plainJSON) // nobody is left to tell
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
