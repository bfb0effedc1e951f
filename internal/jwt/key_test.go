package jwt

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/lestrrat-go/jwx/v2/jwk"
)

func TestRFC7518EveryAlgorithmSignsAndVerifies(t *testing.T) {
	t.Parallel()
	if len(keyKinds) != len(Algorithms) {
		t.Errorf("%d kinds of keys for %d algorithms", len(keyKinds), len(Algorithms))
	}
	for _, alg := range Algorithms {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			key := newTestKey(t, alg)
			token := sign(t, key, `{"sub":"alice"}`)
			split, err := Split(token)
			if err != nil {
				t.Fatal(err)
			}
			got, err := split.Verify(key)
			if err != nil || string(got) != `{"sub":"alice"}` {
				t.Fatalf("Verify returns %s, %v", got, err)
			}
			h, err := split.ParseHeader()
			if err != nil || h.Algorithm != alg || h.Type != "at+jwt" || h.KeyID != key.ID {
				t.Errorf("header is %+v, %v", h, err)
			}
			if Asymmetric(alg) == strings.HasPrefix(alg, "HS") || Asymmetric(alg) != (key.Public != nil) {
				t.Errorf("asymmetric: %t, public key: %s", Asymmetric(alg), key.Public)
			}
			if !Asymmetric(alg) {
				return
			}
			jwks := keySet(string(key.Public))
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(jwks)) }))
			defer server.Close()
			got, err = oidc.NewRemoteKeySet(t.Context(), server.URL).VerifySignature(t.Context(), token)
			if err != nil || string(got) != `{"sub":"alice"}` {
				t.Errorf("another implementation returns %s, %v", got, err)
			}
		})
	}
}

func TestRFC8725DeterministicECDSA(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"ES256", "ES384", "ES512"} {
		key := newTestKey(t, alg)
		if first, second := sign(t, key, `{"sub":"alice"}`), sign(t, key, `{"sub":"alice"}`); first != second {
			t.Errorf("%s: two signatures of one token differ", alg)
		}
	}
}

func newTestKey(tb testing.TB, alg string) *Key {
	tb.Helper()
	id, jwk, err := MakeKey(alg)
	if err != nil {
		tb.Fatal(err)
	}
	key, err := ParseKey(jwk, id, alg)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func sign(tb testing.TB, key *Key, payload string) string {
	tb.Helper()
	token, err := key.Sign([]byte(payload))
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

func TestJOSEVectors(t *testing.T) {
	var vectors []struct {
		Name, Alg, JWS string
		JWK            json.RawMessage
	}
	readJSON(t, "testdata/jose_vectors.json", &vectors)
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			key, err := ParseKey(v.JWK, "example", v.Alg)
			if err != nil {
				t.Fatal(err)
			}
			token, err := Split(v.JWS)
			if err != nil {
				t.Fatal(err)
			}
			payload, err := token.Verify(key)
			if err != nil {
				t.Fatalf("the example does not verify: %v", err)
			}
			key.header = token.Header
			made, err := key.Sign(payload)
			if err != nil {
				t.Fatal(err)
			}
			if deterministic := !strings.HasPrefix(v.Alg, "ES"); deterministic && made != v.JWS {
				t.Errorf("signed again, it is\n%s", made)
			}
			if again, err := Split(made); err != nil {
				t.Error(err)
			} else if _, err := again.Verify(key); err != nil {
				t.Errorf("signed again, it does not verify: %v", err)
			}
		})
	}
}

// rfc7638Key is the example in RFC 7638 §3.1.
const rfc7638Key = `{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB"}`

func TestPrivateKeysOfASet(t *testing.T) {
	rsa, small := rawJWK(t, "RS256", nil), rawJWK(t, "HS256", map[string]any{"k": "c2hvcnQtc2VjcmV0"})
	ec := rawJWK(t, "ES256", nil)
	p384 := rawJWK(t, "ES384", nil)
	foreign := rawJWK(t, "ES256", map[string]any{"d": rawMember(t, "ES256", "d")})
	tests := []struct {
		name, file, alg string
		wantKid         string // the kid of the signer, or its part before the thumbprint
		wantKeys        int
		wantErr         string
	}{
		{name: "one key for the algorithm", file: keySet(with(ec, "kid", "one")), alg: "ES256", wantKid: "one", wantKeys: 1},
		{name: "the first that fits", file: keySet(with(p384, "kid", "a"), with(ec, "kid", "b"), with(ec, "kid", "c")), alg: "ES256", wantKid: "b", wantKeys: 3},
		{name: "no algorithm named", file: keySet(with(p384, "kid", "a")), wantKid: "a", wantKeys: 1},
		{name: "the algorithm of the policy decides for RSA", file: keySet(with(rsa, "kid", "r")), alg: "PS384", wantKid: "r", wantKeys: 1},
		{name: "keys for encryption are skipped", file: keySet(with(ec, "use", "enc"), with(ec, "kid", "s")), alg: "ES256", wantKid: "s", wantKeys: 1},
		{name: "RFC 7638 a key without kid", file: keySet(rfc7638Key, with(ec, "kid", "s")), wantKid: "s", wantKeys: 2},

		{name: "no JSON", file: "secret", wantErr: "no JWK set"},
		{name: "no keys", file: `{"keys":[]}`, wantErr: "no JWK set"},
		{name: "no key type", file: keySet(`{"kid":"x"}`), wantErr: `key 1 in the file (kid "x"): not a readable JWK`},
		{name: "public keys only", file: keySet(rfc7638Key), wantErr: "no private key"},
		{name: "none for the algorithm", file: keySet(ec), alg: "ES512", wantErr: "expected an EC key on P-521 for ES512"},
		{name: "alg and key do not fit", file: keySet(with(ec, "alg", "ES384")), wantErr: "key 1 in the file: not a key for ES384, expected an EC key on P-384"},
		{name: "alg for encryption", file: keySet(with(rsa, "alg", "RSA-OAEP")), wantErr: `algorithm "RSA-OAEP", expected one of ES256`},
		{name: "same kid twice", file: keySet(with(ec, "kid", "a"), with(p384, "kid", "a")), wantErr: `key 2 in the file has the kid "a" of another`},
		{name: "RFC 7518 §3.2 a short secret", file: keySet(small), wantErr: "oct of at least 256 bits"},
		{name: "RFC 7518 §3.2 a secret for a longer hash", file: keySet(with(rawJWK(t, "HS256", nil), "alg", "HS512")), wantErr: "oct key of at least 512 bits"},
		{name: "RFC 7518 §3.3 a short RSA key", file: keySet(with(rfc7638Key, "n", "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQ")), wantErr: "RSA of at least 2048 bits"},
		{name: "a private part of another key", file: keySet(foreign), wantErr: "does not belong to its public part"},
		{name: "a point off the curve", file: keySet(without(with(ec, "x", rawMember(t, "ES256", "x")), "d")), wantErr: "no point on its curve"},
		{name: "half an RSA key", file: keySet(without(rsa, "p")), wantErr: "expected n, e, d, p and q"},
		{name: "unknown algorithm in the policy", file: keySet(ec), alg: "none", wantErr: `algorithm "none"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			keys, signer, err := ParsePrivateKeys([]byte(tt.file), tt.alg)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error is %v, want %q in it", err, tt.wantErr)
				}
				for _, secret := range secretsIn(tt.file) {
					if strings.Contains(err.Error(), secret) {
						t.Errorf("error %q quotes a key", err)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if signer.ID != tt.wantKid || len(keys) != tt.wantKeys {
				t.Errorf("of %d keys, %q signs", len(keys), signer.ID)
			}
			if split, err := Split(sign(t, signer, `{}`)); err != nil {
				t.Error(err)
			} else if _, err := split.Verify(signer); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRFC7638Thumbprint(t *testing.T) {
	key, err := parsePrivateKey([]byte(rfc7638Key), "")
	if err != nil || key.ID != "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" {
		t.Errorf("kid is %v, %v", key, err)
	}
	raw := rawJWK(t, "ES256", nil)
	parsed, err := jwk.ParseKey([]byte(without(raw, "d")))
	if err != nil {
		t.Fatal(err)
	}
	thumbprint, err := parsed.Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	want := base64.RawURLEncoding.EncodeToString(thumbprint)
	if key, err := parsePrivateKey([]byte(raw), ""); err != nil || key.ID != want {
		t.Errorf("kid of a private key is %v, %v", key, err)
	}
}

func readJSON(t *testing.T, name string, v any) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

// rawJWK returns a new private key of the algorithm without kid, alg and use, with those members.
func rawJWK(t *testing.T, alg string, members map[string]any) string {
	t.Helper()
	_, made, err := MakeKey(alg)
	if err != nil {
		t.Fatal(err)
	}
	key := without(string(made), "kid", "alg", "use")
	for name, value := range members {
		key = with(key, name, value)
	}
	return key
}

// rawMember returns one member of a new private key.
func rawMember(t *testing.T, alg, name string) any {
	t.Helper()
	return object(rawJWK(t, alg, nil))[name]
}

func object(jwk string) map[string]any {
	var members map[string]any
	if err := json.Unmarshal([]byte(jwk), &members); err != nil {
		panic(err)
	}
	return members
}

func encode(members map[string]any) string {
	encoded, err := json.Marshal(members)
	if err != nil {
		panic(err)
	}
	return string(encoded)
}

func with(jwk, name string, value any) string {
	members := object(jwk)
	members[name] = value
	return encode(members)
}

func without(jwk string, names ...string) string {
	members := object(jwk)
	for _, name := range names {
		delete(members, name)
	}
	return encode(members)
}

func keySet(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

// secretsIn returns the private members of the keys in a file.
func secretsIn(file string) (secrets []string) {
	var set struct{ Keys []map[string]any }
	if json.Unmarshal([]byte(file), &set) != nil {
		return []string{file}
	}
	for _, key := range set.Keys {
		for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "k"} {
			if s, ok := key[name].(string); ok {
				secrets = append(secrets, s)
			}
		}
	}
	return secrets
}

// A published secret is skipped, although no token could use it anyway.
func TestRFC8725PublishedSecretIsNoKey(t *testing.T) {
	keys, err := ParsePublicKeys([]byte(keySet(`{"kty":"oct","kid":"k","k":"` + encode64(strings.Repeat("k", 64)) + `"}`)))
	if err != nil || len(keys) != 0 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}

func TestSignRefusesWhatSplitWould(t *testing.T) {
	if token, err := newTestKey(t, "ES256").Sign([]byte(strings.Repeat(" ", maxLength))); err == nil {
		t.Errorf("a token of %d bytes is signed", len(token))
	}
}

func BenchmarkSign(b *testing.B) {
	for _, alg := range []string{"ES256", "ES384", "EdDSA", "RS256", "PS256", "HS256"} {
		b.Run(alg, func(b *testing.B) {
			key := newTestKey(b, alg)
			payload := fmt.Appendf(nil, `{"sub":"alice","scope":%q}`, strings.Repeat("scope ", 50))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := key.Sign(payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
