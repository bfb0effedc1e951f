package jwt_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"maps"
	"testing"

	"github.com/lestrrat-go/jwx/v2/jwk"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls/mtlstest"
)

// A client authenticates by the certificates of keys that could also verify its signatures (RFC 7517 §4.2, §4.7).
func TestParseClientCertificates(t *testing.T) {
	cert, other := mtlstest.SelfSigned(t), mtlstest.SelfSigned(t)
	members := func(raw any, pairs map[string]any) json.RawMessage {
		t.Helper()
		key, err := jwk.FromRaw(raw)
		if err != nil {
			t.Fatal(err)
		}
		encoded, err := json.Marshal(key)
		if err != nil {
			t.Fatal(err)
		}
		all := make(map[string]any)
		if err := json.Unmarshal(encoded, &all); err != nil {
			t.Fatal(err)
		}
		maps.Copy(all, pairs)
		if encoded, err = json.Marshal(map[string]any{"keys": []any{all}}); err != nil {
			t.Fatal(err)
		}
		return encoded
	}
	chain := func(certs ...*x509.Certificate) (encoded []string) {
		for _, c := range certs {
			encoded = append(encoded, base64.StdEncoding.EncodeToString(c.Raw))
		}
		return encoded
	}
	public := cert.Leaf.PublicKey
	for name, tt := range map[string]struct {
		set  json.RawMessage
		good bool
	}{
		"of its key":             {members(public, map[string]any{"x5c": chain(cert.Leaf)}), true},
		"for signatures":         {members(public, map[string]any{"x5c": chain(cert.Leaf), "use": "sig"}), true},
		"the first of a chain":   {members(public, map[string]any{"x5c": chain(cert.Leaf, other.Leaf)}), true},
		"of another key":         {members(public, map[string]any{"x5c": chain(other.Leaf)}), false},
		"later in the chain":     {members(public, map[string]any{"x5c": chain(other.Leaf, cert.Leaf)}), false},
		"for encryption":         {members(public, map[string]any{"x5c": chain(cert.Leaf), "use": "enc"}), false},
		"of a private key":       {members(cert.PrivateKey.(*ecdsa.PrivateKey), map[string]any{"x5c": chain(cert.Leaf)}), false},
		"of a shared secret":     {members([]byte("secret"), map[string]any{"x5c": chain(cert.Leaf)}), false},
		"something else than it": {members(public, map[string]any{"x5c": []string{"AAAA"}}), false},
		"no x5c":                 {members(public, nil), false},
	} {
		found := jwt.ParseClientCertificates(tt.set)
		if (len(found) > 0) != tt.good || tt.good && !bytes.Equal(found[0], cert.Leaf.Raw) {
			t.Errorf("%s: found %d certificates", name, len(found))
		}
	}
}
