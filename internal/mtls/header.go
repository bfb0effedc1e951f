package mtls

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// The names of the headers by which a proxy that ends TLS tells of the certificate of a client, and of the chain of that (RFC 9440 §2), as
// net/http spells them.
const (
	Header      = "Client-Cert"
	ChainHeader = "Client-Cert-Chain"
)

const maxHeader = 16 << 10 // bytes; a certificate has about 2 KB

// OfHeader returns the certificate in the header of a proxy that the owner trusts, nil if there is none. verified says that the proxy lets
// only certificates pass that are of a CA of the owner. The chain is for a proxy that leaves this to others, and is not read.
func OfHeader(h http.Header, verified bool) (*Certificate, error) {
	switch values := h.Values(Header); {
	case len(values) == 0:
		return nil, nil //nolint:nilnil // there is no certificate
	case len(values) > 1:
		return nil, fmt.Errorf("%d Client-Cert headers", len(values))
	case len(values[0]) > maxHeader:
		return nil, fmt.Errorf("a Client-Cert header of %d bytes, more than %d", len(values[0]), maxHeader)
	default:
		der, ok := readBinary(values[0])
		if !ok {
			return nil, errors.New("a Client-Cert header that is no byte sequence, a certificate in base64 between two colons (RFC 9440 section 2.1)")
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, errors.New("a Client-Cert header with something else than a certificate in DER")
		}
		return &Certificate{Certificate: cert, Verified: verified}, nil
	}
}

// readBinary reads a structured field that is a byte sequence (RFC 9651 §3.3.5). Its parameters mean nothing (RFC 9440 §2.1).
func readBinary(value string) ([]byte, bool) {
	text, ok := strings.CutPrefix(strings.Trim(value, " "), ":")
	if !ok {
		return nil, false
	}
	text, parameters, ok := strings.Cut(text, ":")
	if !ok || parameters != "" && parameters[0] != ';' {
		return nil, false
	}
	if strings.ContainsAny(text, "\r\n") { // which the decoder skips
		return nil, false
	}
	der, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	return der, err == nil
}
