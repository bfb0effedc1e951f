// Package mtls has the certificates by which clients authenticate on the TLS connection (mutual TLS, RFC 8705).
//
// Start reading at [Certificate]. names.go compares the names of a certificate with those that a client is registered with, and header.go
// reads the certificate that a proxy before this server has received (RFC 9440).
package mtls

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Certificate is the certificate of a client. The client has the private key: it has signed the handshake.
type Certificate struct {
	*x509.Certificate

	// Verified says that the certificate is of a CA that the owner trusts, and that it is neither expired nor of a server only. Otherwise
	// anybody can have made it, with any name.
	Verified bool
}

// Peer is who has sent a request, as far as the site trusts what it is told.
type Peer struct {
	Address     string       // the IP address
	Certificate *Certificate // by which the peer has authenticated its connection; nil: none
	Problem     error        // what is wrong with what was sent for a certificate; nil: nothing
}

// OfConnection returns the certificate that the client of a TLS connection has sent, nil if it has sent none.
func OfConnection(state *tls.ConnectionState) *Certificate {
	if state == nil || len(state.PeerCertificates) == 0 {
		return nil
	}
	return &Certificate{Certificate: state.PeerCertificates[0], Verified: len(state.VerifiedChains) > 0}
}

// Thumbprint returns what a token says of the certificate that it is bound to (x5t#S256, RFC 8705 §3.1).
func (c *Certificate) Thumbprint() string {
	sum := sha256.Sum256(c.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// String describes the certificate for the log: whether it is verified, the thumbprint, and its names. These come last, since whoever has made
// the certificate chooses their length, and the log cuts long texts.
func (c *Certificate) String() string {
	trust := "not verified by a trusted CA"
	if c.Verified {
		trust = "verified"
	}
	names := []string{trust, "x5t#S256 " + c.Thumbprint(), "subject " + subjectText(c.RawSubject)}
	for n, name := range alternativeNames(c.Certificate) {
		if n == maxNamesInLog {
			names = append(names, "…")
			break
		}
		names = append(names, name.kind+" "+name.value)
	}
	return "a certificate (" + strings.Join(names, ", ") + ")"
}

const maxNamesInLog = 8

// ParseCertificates returns the certificates in a file, in DER. The file has them in PEM, or one in DER.
func ParseCertificates(file []byte) (all [][]byte, err error) {
	if !bytes.Contains(file, []byte("-----BEGIN")) {
		if _, err := x509.ParseCertificate(file); err != nil {
			return nil, errors.New("expected a certificate in PEM or DER")
		}
		return [][]byte{file}, nil
	}
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("expected a CERTIFICATE in PEM, and nothing else, not a %s", block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, errors.New("the CERTIFICATE in PEM is not readable")
		}
		all = append(all, block.Bytes)
	}
	if len(all) == 0 {
		return nil, errors.New("expected a certificate in PEM or DER")
	}
	return all, nil
}
