// Package mtlstest makes the certificates of clients for tests.
package mtlstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Edit changes the template of a certificate.
type Edit func(template *x509.Certificate)

// CA is a certificate authority.
type CA struct {
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA returns a CA of its own.
func NewCA(tb testing.TB) *CA {
	tb.Helper()
	made := SelfSigned(tb, func(c *x509.Certificate) {
		c.Subject, c.IsCA, c.BasicConstraintsValid, c.KeyUsage = pkix.Name{CommonName: "Test CA"}, true, true, x509.KeyUsageCertSign
		c.ExtKeyUsage = nil // any
	})
	return &CA{made.Leaf, made.PrivateKey.(*ecdsa.PrivateKey)}
}

// Issue returns a certificate of the CA, with its key.
func (ca *CA) Issue(tb testing.TB, edits ...Edit) tls.Certificate {
	tb.Helper()
	return issue(tb, ca, edits)
}

// SelfSigned returns a certificate that its own key has signed.
func SelfSigned(tb testing.TB, edits ...Edit) tls.Certificate {
	tb.Helper()
	return issue(tb, nil, edits)
}

func issue(tb testing.TB, ca *CA, edits []Edit) tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "app", Organization: []string{"Example"}, Country: []string{"DE"}},
		NotBefore: time.Now().AddDate(-10, 0, 0), NotAfter: time.Now().AddDate(10, 0, 0), // the clocks of some tests stand still
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, edit := range edits {
		edit(template)
	}
	parent, signer := template, key
	if ca != nil {
		parent, signer = ca.Cert, ca.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		tb.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// DNS has the certificate name hosts.
func DNS(names ...string) Edit { return func(c *x509.Certificate) { c.DNSNames = names } }

// State returns the state of a connection with a client that has sent the certificate.
func State(cert tls.Certificate, verified bool) *tls.ConnectionState {
	state := &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: []*x509.Certificate{cert.Leaf}}
	if verified {
		state.VerifiedChains = [][]*x509.Certificate{{cert.Leaf}}
	}
	return state
}

// PEM returns a certificate in PEM.
func PEM(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

// Write writes a certificate and its key to files in PEM, and returns their names.
func Write(tb testing.TB, cert tls.Certificate) (certFile, keyFile string) {
	tb.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, content := range map[string][]byte{
		certFile: PEM(cert.Leaf), keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return certFile, keyFile
}
