package mtls

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// dn is a distinguished name in a form that can be compared: its RDNs as RFC 4514 writes them, the most specific one first, and of each its
// attributes in order, as the OID of the type, an equals sign and the value.
type dn [][]string

const (
	maxDN         = 2 << 10 // bytes
	maxAttributes = 64
)

// attributeTypes are the types of attributes by their short names: those of RFC 4514 §3, and those that programs print beside them.
var attributeTypes = map[string]string{
	"CN": "2.5.4.3", "L": "2.5.4.7", "ST": "2.5.4.8", "O": "2.5.4.10", "OU": "2.5.4.11", "C": "2.5.4.6", "STREET": "2.5.4.9",
	"DC": "0.9.2342.19200300.100.1.25", "UID": "0.9.2342.19200300.100.1.1",

	"SERIALNUMBER": "2.5.4.5", "SN": "2.5.4.4", "GN": "2.5.4.42", "TITLE": "2.5.4.12", "POSTALCODE": "2.5.4.17",
	"BUSINESSCATEGORY": "2.5.4.15", "ORGANIZATIONIDENTIFIER": "2.5.4.97", "EMAILADDRESS": "1.2.840.113549.1.9.1", "E": "1.2.840.113549.1.9.1",
	"JURISDICTIONC": "1.3.6.1.4.1.311.60.2.1.3", "JURISDICTIONST": "1.3.6.1.4.1.311.60.2.1.2", "JURISDICTIONL": "1.3.6.1.4.1.311.60.2.1.1",
}

// parseDN reads a distinguished name as RFC 4514 writes it. Spaces around separators are allowed.
func parseDN(text string) (dn, error) {
	switch {
	case len(text) > maxDN:
		return nil, fmt.Errorf("expected at most %d bytes", maxDN)
	case !utf8.ValidString(text):
		return nil, errors.New("expected UTF-8")
	case strings.TrimSpace(text) == "":
		return nil, errors.New("expected a distinguished name, such as CN=app,O=Example,C=DE")
	}
	var name dn
	rdn, count := []string(nil), 0
	for rest, more := text, true; more; {
		var attribute string
		var separator byte
		var err error
		if attribute, separator, rest, err = parseAttribute(rest); err != nil {
			return nil, err
		}
		if count++; count > maxAttributes {
			return nil, fmt.Errorf("expected at most %d attributes", maxAttributes)
		}
		rdn = append(rdn, attribute)
		if more = separator != 0; separator != '+' {
			slices.Sort(rdn)
			name, rdn = append(name, rdn), nil
		}
	}
	return name, nil
}

// parseAttribute reads one attribute, and the separator after it: a comma, a plus sign, or 0 for the end.
func parseAttribute(text string) (attribute string, separator byte, rest string, err error) {
	typ, rest, ok := strings.Cut(text, "=")
	typ = strings.TrimSpace(typ)
	if !ok {
		return "", 0, "", fmt.Errorf("expected a type, = and a value, such as CN=app, not %s", strings.TrimSpace(text))
	}
	oid, known := attributeTypes[strings.ToUpper(typ)]
	if !known {
		if oid = typ; !isOID(typ) {
			return "", 0, "", fmt.Errorf("expected a type such as CN, O, C or 2.5.4.3, not %s", typ)
		}
	}
	value, separator, rest, err := parseValue(strings.TrimLeft(rest, " "))
	if err != nil {
		return "", 0, "", fmt.Errorf("the value of %s: %w", typ, err)
	}
	return oid + "=" + value, separator, rest, nil
}

func isOID(text string) bool {
	arcs := strings.Split(text, ".")
	return len(arcs) > 1 && !slices.ContainsFunc(arcs, func(arc string) bool {
		return arc == "" || len(arc) > 1 && arc[0] == '0' || strings.ContainsFunc(arc, func(r rune) bool { return r < '0' || r > '9' })
	})
}

// parseValue reads a value up to the next separator: a text with escapes, or the hex digits of its encoding (RFC 4514 §2.4).
func parseValue(text string) (value string, separator byte, rest string, err error) {
	var plain []byte
	keep := 0 // the length that an escaped space at the end needs
	for n := 0; n <= len(text); n++ {
		if n == len(text) || text[n] == ',' || text[n] == '+' {
			if n < len(text) {
				separator, rest = text[n], text[n+1:]
			}
			for len(plain) > keep && plain[len(plain)-1] == ' ' {
				plain = plain[:len(plain)-1]
			}
			value, err := normalValue(string(plain), strings.HasPrefix(text, "#"))
			return value, separator, rest, err
		}
		switch text[n] {
		case '"', ';', '<', '>':
			return "", 0, "", fmt.Errorf(`expected \%c for %c`, text[n], text[n])
		case '\\':
			escaped, length := unescape(text[n+1:])
			if length == 0 {
				return "", 0, "", errors.New(`expected a special character or two hex digits after \`)
			}
			plain, n = append(plain, escaped), n+length
			keep = len(plain)
			continue
		}
		plain = append(plain, text[n])
	}
	panic("unreachable")
}

// unescape returns the byte that stands after a backslash, and how long it is there: 0 for what cannot stand there.
func unescape(text string) (byte, int) {
	if len(text) > 1 {
		if b, err := hex.DecodeString(text[:2]); err == nil {
			return b[0], 2
		}
	}
	if text != "" && strings.IndexByte(` "#+,;<=>\`, text[0]) >= 0 {
		return text[0], 1
	}
	return 0, 0
}

// normalValue returns a value in the form for comparisons (RFC 5280 §7.1): neither case nor the number of spaces counts. An encoded value
// that is no text stays as it is.
func normalValue(value string, encoded bool) (string, error) {
	if encoded {
		der, err := hex.DecodeString(value[1:])
		if err != nil {
			return "", errors.New("expected hex digits after #")
		}
		var raw asn1.RawValue
		if rest, err := asn1.Unmarshal(der, &raw); err != nil || len(rest) > 0 {
			return "", errors.New("expected the DER encoding of a value after #")
		}
		return decodedValue(raw), nil
	}
	if !utf8.ValidString(value) {
		return "", errors.New("expected UTF-8")
	}
	if value == "" {
		return "", errors.New("it is empty")
	}
	return normalText(value), nil
}

// normalText marks a text, so that it cannot be the same as an encoded value.
func normalText(text string) string {
	return "text:" + strings.ToLower(strings.Join(strings.Fields(text), " "))
}

func decodedValue(raw asn1.RawValue) string {
	var value any
	if _, err := asn1.Unmarshal(raw.FullBytes, &value); err == nil {
		if text, ok := value.(string); ok && utf8.ValidString(text) {
			return normalText(text)
		}
	}
	return "der:" + hex.EncodeToString(raw.FullBytes)
}

// readDN reads the distinguished name of a certificate.
func readDN(der []byte) (dn, error) {
	var sequence []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &sequence); err != nil || len(rest) > 0 {
		return nil, errors.New("the subject is malformed")
	}
	name := make(dn, 0, len(sequence))
	for _, raw := range slices.Backward(sequence) {
		var attributes []struct {
			Type  asn1.ObjectIdentifier
			Value asn1.RawValue
		}
		if rest, err := asn1.UnmarshalWithParams(raw.FullBytes, &attributes, "set"); err != nil || len(rest) > 0 {
			return nil, errors.New("the subject is malformed")
		}
		rdn := make([]string, 0, len(attributes))
		for _, attribute := range attributes {
			rdn = append(rdn, attribute.Type.String()+"="+decodedValue(attribute.Value))
		}
		slices.Sort(rdn)
		name = append(name, rdn)
	}
	return name, nil
}

// subjectText writes the subject of a certificate as RFC 4514 does, so that it can be copied into a setting.
func subjectText(der []byte) string {
	var sequence pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &sequence); err != nil || len(rest) > 0 {
		return "malformed"
	}
	return sequence.String()
}
