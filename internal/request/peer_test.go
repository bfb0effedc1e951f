package request

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oauth/caddy-oauth/internal/mtls"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls/mtlstest"
)

// Which certificate counts depends on whose connection it is.
func TestCertificate(t *testing.T) {
	client, proxy := mtlstest.SelfSigned(t), mtlstest.SelfSigned(t)
	const none = ""
	thumbprint := func(c *x509.Certificate) string { return (&mtls.Certificate{Certificate: c}).Thumbprint() }
	connection := func(complete bool) *tls.ConnectionState {
		return &tls.ConnectionState{HandshakeComplete: complete, PeerCertificates: []*x509.Certificate{proxy.Leaf}}
	}
	for name, tt := range map[string]struct {
		trusted bool
		tls     *tls.ConnectionState
		setting string
		via     string
		want    string
	}{
		"a proxy that is trusted":             {true, connection(true), "verified", "", thumbprint(client.Leaf)},
		"without TLS":                         {true, nil, "verified", "", thumbprint(client.Leaf)},
		"before the handshake is complete":    {true, connection(false), "verified", "", thumbprint(proxy.Leaf)},
		"and without a certificate":           {true, &tls.ConnectionState{}, "verified", "", none},
		"and with a proxy between":            {true, connection(false), "verified", "1.1 proxy", none},
		"anybody else":                        {false, connection(true), "verified", "", thumbprint(proxy.Leaf)},
		"anybody else without a certificate":  {false, &tls.ConnectionState{HandshakeComplete: true}, "verified", "", none},
		"no setting":                          {true, connection(true), "", "", thumbprint(proxy.Leaf)},
		"no setting, and a proxy between":     {true, connection(true), "", "1.1 proxy", none},
		"no setting, and a header of anybody": {false, connection(true), "", "1.1 proxy", thumbprint(proxy.Leaf)},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r = r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, map[string]any{caddyhttp.TrustedProxyVarKey: tt.trusted}))
			r.TLS = tt.tls
			r.Header.Set("Client-Cert", ":"+base64.StdEncoding.EncodeToString(client.Leaf.Raw)+":")
			if tt.via != "" {
				r.Header.Set("Via", tt.via)
			}
			certificate, err := Certificate(r, tt.setting)
			got := none
			if certificate != nil {
				got = certificate.Thumbprint()
			}
			if got != tt.want || (err != nil) != (tt.want == none) {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
			if early := tt.tls != nil && !tt.tls.HandshakeComplete; fromTrustedProxy(r) != (tt.trusted && !early) {
				t.Errorf("from a trusted proxy: %v", fromTrustedProxy(r))
			}
		})
	}
}
