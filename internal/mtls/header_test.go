package mtls_test

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/mtls"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls/mtlstest"
)

// RFC 9440 §2.1, RFC 9651 §3.3.5.
func TestHeader(t *testing.T) {
	cert := mtlstest.SelfSigned(t).Leaf
	encoded := base64.StdEncoding.EncodeToString(cert.Raw)
	for _, tt := range []struct {
		name   string
		values []string
		want   string // of the error; "" for a certificate
	}{
		{"a certificate", []string{":" + encoded + ":"}, ""},
		{"without padding", []string{":" + strings.TrimRight(encoded, "=") + ":"}, ""},
		{"with spaces around it", []string{" :" + encoded + ": "}, ""},
		{"with parameters", []string{":" + encoded + ":;a=1"}, ""},
		{"two headers", []string{":" + encoded + ":", ":" + encoded + ":"}, "2 Client-Cert headers"},
		{"a list", []string{":" + encoded + ":, :" + encoded + ":"}, "no byte sequence"},
		{"no colons", []string{encoded}, "no byte sequence"},
		{"no colon at the end", []string{":" + encoded}, "no byte sequence"},
		{"PEM in a URL, as nginx has it", []string{"-----BEGIN%20CERTIFICATE-----%0A"}, "no byte sequence"},
		{"other characters", []string{":" + encoded[:8] + "-_" + encoded[10:] + ":"}, "no byte sequence"},
		{"a line break", []string{":" + encoded[:8] + "\n" + encoded[8:] + ":"}, "no byte sequence"},
		{"empty", []string{""}, "no byte sequence"},
		{"an empty byte sequence", []string{"::"}, "something else than a certificate"},
		{"no certificate", []string{":Y2VydA==:"}, "something else than a certificate"},
		{"something after the certificate", []string{":" + base64.StdEncoding.EncodeToString(append(slices.Clip(cert.Raw), 0)) + ":"}, "something else"},
		{"too long", []string{":" + strings.Repeat("A", 20<<10) + ":"}, "more than 16384"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := mtls.OfHeader(http.Header{mtls.Header: tt.values}, true)
			switch {
			case tt.want == "" && (err != nil || !got.Equal(cert) || !got.Verified):
				t.Errorf("got %v, %v", got, err)
			case tt.want != "" && (err == nil || got != nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, %v; want %q", got, err, tt.want)
			}
		})
	}
	if got, err := mtls.OfHeader(http.Header{}, true); got != nil || err != nil {
		t.Errorf("no header: %v, %v", got, err)
	}
	if got, err := mtls.OfHeader(http.Header{mtls.Header: {":" + encoded + ":"}}, false); err != nil || got.Verified {
		t.Errorf("not verified: %v, %v", got, err)
	}
}

func FuzzHeader(f *testing.F) {
	f.Add(":" + base64.StdEncoding.EncodeToString(mtlstest.SelfSigned(f).Leaf.Raw) + ":;a")
	f.Add("::")
	f.Fuzz(func(t *testing.T, value string) {
		got, err := mtls.OfHeader(http.Header{mtls.Header: {value}}, false)
		if (got == nil) == (err == nil) {
			t.Errorf("got %v, %v", got, err)
		}
		if got != nil && len(got.Thumbprint()) != 43 {
			t.Errorf("the thumbprint is %q", got.Thumbprint())
		}
	})
}
