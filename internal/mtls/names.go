package mtls

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// The kinds of names that a certificate can have beside its subject, as RFC 8705 §2.1.2 calls them.
const (
	SANDNS   = "san_dns"
	SANURI   = "san_uri"
	SANIP    = "san_ip"
	SANEmail = "san_email"

	SubjectDN = "subject_dn"
)

// Kinds are the kinds of names by which a client can be known (RFC 8705 §2.1.2).
var Kinds = []string{SubjectDN, SANDNS, SANURI, SANIP, SANEmail}

// alternativeName is one name of the extension subjectAltName (RFC 5280 §4.2.1.6).
type alternativeName struct{ kind, value string }

var subjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// alternativeNames returns the names of a certificate. It reads the extension itself, since crypto/x509 keeps URIs in parsed form, of which
// two different texts can be the same.
func alternativeNames(cert *x509.Certificate) (names []alternativeName) {
	for _, extension := range cert.Extensions {
		if !extension.Id.Equal(subjectAltName) {
			continue
		}
		var values []asn1.RawValue
		if rest, err := asn1.Unmarshal(extension.Value, &values); err != nil || len(rest) > 0 {
			return nil
		}
		for _, value := range values {
			if value.Class != asn1.ClassContextSpecific {
				continue
			}
			switch value.Tag {
			case 1:
				names = append(names, alternativeName{SANEmail, string(value.Bytes)})
			case 2:
				names = append(names, alternativeName{SANDNS, string(value.Bytes)})
			case 6:
				names = append(names, alternativeName{SANURI, string(value.Bytes)})
			case 7:
				if ip, ok := netip.AddrFromSlice(value.Bytes); ok {
					names = append(names, alternativeName{SANIP, ip.String()})
				}
			}
		}
	}
	return names
}

// CheckName reports a name that no certificate can have.
func CheckName(kind, name string) error {
	switch kind {
	case SubjectDN:
		_, err := parseDN(name)
		return err
	case SANDNS:
		if strings.ContainsAny(name, "*/:@ ") || !isASCII(name) || name == "" {
			return fmt.Errorf("expected a host name in ASCII without wildcard, such as app.example.com, not %s", name)
		}
	case SANURI:
		if scheme, rest, ok := strings.Cut(name, ":"); !ok || scheme == "" || rest == "" || !isASCII(name) || strings.Contains(name, " ") {
			return fmt.Errorf("expected a URI, such as spiffe://example.com/app, not %s", name)
		}
	case SANIP:
		if ip, err := netip.ParseAddr(name); err != nil || ip.Zone() != "" {
			return fmt.Errorf("expected an IP address, not %s", name)
		}
	case SANEmail:
		if local, host, ok := cutEmail(name); !ok || local == "" || host == "" || !isASCII(name) {
			return fmt.Errorf("expected an email address, not %s", name)
		}
	default:
		return fmt.Errorf("expected one of %s, not %s", strings.Join(Kinds, ", "), kind)
	}
	return nil
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// HasName reports whether a certificate has a name of a kind (RFC 8705 §2.1.2). The value must have passed CheckName.
func (c *Certificate) HasName(kind, want string) bool {
	if kind == SubjectDN {
		wanted, err := parseDN(want)
		if err != nil {
			return false
		}
		subject, err := readDN(c.RawSubject)
		return err == nil && slices.EqualFunc(wanted, subject, slices.Equal)
	}
	return slices.ContainsFunc(alternativeNames(c.Certificate), func(name alternativeName) bool {
		return name.kind == kind && sameName(kind, name.value, want)
	})
}

func sameName(kind, a, b string) bool {
	switch kind {
	case SANDNS:
		return isASCII(a) && strings.EqualFold(a, b)
	case SANIP:
		ip, err := netip.ParseAddr(b)
		return err == nil && a == ip.String()
	case SANEmail: // RFC 5280 §7.5
		localA, hostA, okA := cutEmail(a)
		localB, hostB, okB := cutEmail(b)
		return okA && okB && localA == localB && isASCII(hostA) && strings.EqualFold(hostA, hostB)
	}
	return a == b
}

// cutEmail splits an email address at its last @, as a quoted local part can have one too.
func cutEmail(address string) (local, host string, ok bool) {
	n := strings.LastIndexByte(address, '@')
	if n < 0 {
		return "", "", false
	}
	return address[:n], address[n+1:], true
}
