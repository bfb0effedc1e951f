package mtls_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/mtls"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls/mtlstest"
)

// subject returns an edit that sets the subject to RDNs in the order of the certificate, each of them pairs of OID and value.
func subject(t *testing.T, rdns ...[]any) mtlstest.Edit {
	t.Helper()
	var sequence pkix.RDNSequence
	for _, rdn := range rdns {
		var set pkix.RelativeDistinguishedNameSET
		for n := 0; n < len(rdn); n += 2 {
			var oid asn1.ObjectIdentifier
			for arc := range strings.SplitSeq(rdn[n].(string), ".") {
				number := 0
				for _, digit := range arc {
					number = number*10 + int(digit-'0')
				}
				oid = append(oid, number)
			}
			set = append(set, pkix.AttributeTypeAndValue{Type: oid, Value: rdn[n+1]})
		}
		sequence = append(sequence, set)
	}
	raw, err := asn1.Marshal(sequence)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *x509.Certificate) { c.RawSubject = raw }
}

const (
	oidCN, oidO, oidOU, oidC, oidEmail = "2.5.4.3", "2.5.4.10", "2.5.4.11", "2.5.4.6", "1.2.840.113549.1.9.1"
)

// RFC 8705 §2.1.2: the subject is compared as a name, and not as a text (RFC 4514, RFC 5280 §7.1).
func TestSubjects(t *testing.T) {
	plain := [][]any{{oidC, "DE"}, {oidO, "Example GmbH"}, {oidCN, "app"}}
	multi := [][]any{{oidC, "DE"}, {oidCN, "app", oidOU, "Payments"}}
	odd := [][]any{{oidO, `a, "b" + c=d; <e> \ #f`}, {oidCN, " x "}}
	for _, tt := range []struct {
		name string
		cert [][]any
		dn   string
		want bool
	}{
		{"as written", plain, "CN=app,O=Example GmbH,C=DE", true},
		{"spaces around separators", plain, "CN = app, O = Example GmbH , C=DE", true},
		{"other case", plain, "cn=APP,o=example gmbh,c=de", true},
		{"more spaces within", plain, "CN=app,O=Example   GmbH,C=DE", true},
		{"types as OIDs", plain, "2.5.4.3=app,2.5.4.10=Example GmbH,2.5.4.6=DE", true},
		{"an encoded value", plain, "CN=#0c03617070,O=Example GmbH,C=DE", true},
		{"escapes that are not needed", plain, `CN=\61pp,O=Example\20GmbH,C=DE`, true},
		{"the order of the certificate", plain, "C=DE,O=Example GmbH,CN=app", false},
		{"without one part", plain, "CN=app,O=Example GmbH", false},
		{"with one more", plain, "CN=app,OU=x,O=Example GmbH,C=DE", false},
		{"a longer value", plain, "CN=app2,O=Example GmbH,C=DE", false},
		{"no spaces within", plain, "CN=app,O=ExampleGmbH,C=DE", false},
		{"another type", plain, "UID=app,O=Example GmbH,C=DE", false},
		{"a separator within a value", plain, `CN=app\,O=Example GmbH,C=DE`, false},
		{"a multi-valued part", multi, "CN=app+OU=Payments,C=DE", true},
		{"a multi-valued part in another order", multi, "OU=Payments + CN=app, C=DE", true},
		{"a multi-valued part as two", multi, "CN=app,OU=Payments,C=DE", false},
		{"two parts as one", plain, "CN=app+O=Example GmbH,C=DE", false},
		{"special characters", odd, `CN=x,O=a\, \"b\" \+ c\=d\; \<e\> \\ \#f`, true},
		{"special characters in hex", odd, `CN=x,O=a\2C \22b\22 \2b c=d\3B \3Ce\3e \5C #f`, true},
		{"an escaped space at the end", odd, `CN=x\ ,O=a\, \"b\" \+ c\=d\; \<e\> \\ \#f`, true},
		{"UTF-8", [][]any{{oidCN, "Zürich"}}, `CN=z\C3\BCrich`, true},
		{"an email address", [][]any{{oidEmail, "a@example.com"}}, `emailAddress=a@example.com`, true},
		{"a text that looks like an encoded value", [][]any{{oidCN, "#0c03617070"}}, `CN=#0c03617070`, false},
		{"no subject", nil, "CN=app", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := mtls.CheckName(mtls.SubjectDN, tt.dn); err != nil {
				t.Fatal(err)
			}
			cert := &mtls.Certificate{Certificate: mtlstest.SelfSigned(t, subject(t, tt.cert...)).Leaf}
			if got := cert.HasName(mtls.SubjectDN, tt.dn); got != tt.want {
				t.Errorf("%s is %q: %v", cert, tt.dn, got)
			}
		})
	}
}

// What the log says of a subject can be copied into the setting.
func TestSubjectOfTheLogIsOneOfTheSetting(t *testing.T) {
	for _, rdns := range [][][]any{
		{{oidC, "DE"}, {oidO, `a, "b" + c=d; <e> \ #f`}, {oidCN, "app", oidOU, "x"}},
		{{oidEmail, "a@example.com"}, {oidCN, " x "}},
		{{oidCN, "Zürich"}},
	} {
		cert := &mtls.Certificate{Certificate: mtlstest.SelfSigned(t, subject(t, rdns...)).Leaf}
		_, text, _ := strings.Cut(strings.TrimSuffix(cert.String(), ")"), ", subject ")
		if err := mtls.CheckName(mtls.SubjectDN, text); err != nil || !cert.HasName(mtls.SubjectDN, text) {
			t.Errorf("%s: %v", cert, err)
		}
	}
}

// The log cuts long texts. Whoever makes a certificate cannot hide by its names which one it is, and that nobody has checked it.
func TestLongNamesComeLast(t *testing.T) {
	cert := &mtls.Certificate{Certificate: mtlstest.SelfSigned(t, subject(t, []any{oidCN, strings.Repeat("x", 1000)})).Leaf}
	if start := cert.String()[:120]; !strings.Contains(start, cert.Thumbprint()) || !strings.Contains(start, "not verified by a trusted CA") {
		t.Errorf("it begins with %s", start)
	}
}

func TestAlternativeNames(t *testing.T) {
	uri := func(text string) *url.URL {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	cert := &mtls.Certificate{Certificate: mtlstest.SelfSigned(t, func(c *x509.Certificate) {
		c.DNSNames = []string{"app.example.com", "*.wild.example.com"}
		c.URIs = []*url.URL{uri("spiffe://example.com/app"), uri("https://example.com/App?x#f")}
		c.IPAddresses = []net.IP{net.ParseIP("192.0.2.1").To4(), net.ParseIP("2001:db8::1")}
		c.EmailAddresses = []string{"App@example.com"}
	}).Leaf}
	for _, tt := range []struct {
		kind, name string
		want       bool
	}{
		{mtls.SANDNS, "app.example.com", true},
		{mtls.SANDNS, "APP.example.COM", true},
		{mtls.SANDNS, "example.com", false},
		{mtls.SANDNS, "x.wild.example.com", false}, // a name, and not a pattern
		{mtls.SANDNS, "192.0.2.1", false},
		{mtls.SANURI, "spiffe://example.com/app", true},
		{mtls.SANURI, "spiffe://example.com/app/", false},
		{mtls.SANURI, "spiffe://example.com/App", false},
		{mtls.SANURI, "SPIFFE://example.com/app", false},
		{mtls.SANURI, "https://example.com/App?x#f", true},
		{mtls.SANIP, "192.0.2.1", true},
		{mtls.SANIP, "::ffff:192.0.2.1", false},
		{mtls.SANIP, "2001:DB8:0::1", true},
		{mtls.SANIP, "192.0.2.2", false},
		{mtls.SANEmail, "App@EXAMPLE.com", true},
		{mtls.SANEmail, "app@example.com", false},
		{mtls.SANEmail, "App@example.org", false},
		{mtls.SubjectDN, "CN=app,O=Example,C=DE", true},
	} {
		if err := mtls.CheckName(tt.kind, tt.name); err != nil {
			t.Error(err)
		}
		if got := cert.HasName(tt.kind, tt.name); got != tt.want {
			t.Errorf("%s %s: %v", tt.kind, tt.name, got)
		}
	}
	none := &mtls.Certificate{Certificate: mtlstest.SelfSigned(t).Leaf}
	for _, kind := range mtls.Kinds[1:] {
		if none.HasName(kind, "") || none.HasName(kind, "app") {
			t.Errorf("%s: a certificate without names has one", kind)
		}
	}
}

func TestImpossibleNames(t *testing.T) {
	for _, tt := range []struct{ kind, name, want string }{
		{"san", "x", "expected one of subject_dn, san_dns"},
		{mtls.SANDNS, "*.example.com", "without wildcard"},
		{mtls.SANDNS, "https://example.com", "expected a host name"},
		{mtls.SANDNS, "zürich.example", "in ASCII"},
		{mtls.SANDNS, "", "expected a host name"},
		{mtls.SANURI, "example.com", "expected a URI"},
		{mtls.SANIP, "192.0.2", "expected an IP address"},
		{mtls.SANIP, "fe80::1%eth0", "expected an IP address"},
		{mtls.SANEmail, "example.com", "expected an email address"},
		{mtls.SubjectDN, "", "expected a distinguished name"},
		{mtls.SubjectDN, "app", "expected a type, = and a value"},
		{mtls.SubjectDN, "CN=app,", "expected a type, = and a value"},
		{mtls.SubjectDN, "XY=app", "expected a type such as CN"},
		{mtls.SubjectDN, "2.05.4=app", "expected a type such as CN"},
		{mtls.SubjectDN, "CN=", "it is empty"},
		{mtls.SubjectDN, `CN="app"`, `expected \" for "`},
		{mtls.SubjectDN, `CN=a;b`, `expected \; for ;`},
		{mtls.SubjectDN, `CN=a\`, `two hex digits`},
		{mtls.SubjectDN, `CN=\FF`, `expected UTF-8`},
		{mtls.SubjectDN, `CN=#0c`, `expected the DER encoding`},
		{mtls.SubjectDN, `CN=#xy`, `expected hex digits`},
		{mtls.SubjectDN, "CN=" + strings.Repeat("x", 3000), "at most 2048 bytes"},
		{mtls.SubjectDN, strings.Repeat("CN=x,", 100) + "CN=x", "at most 64 attributes"},
	} {
		if err := mtls.CheckName(tt.kind, tt.name); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %q: %v, want %q", tt.kind, tt.name, err, tt.want)
		}
	}
}

func FuzzCheckName(f *testing.F) {
	for _, seed := range []string{"CN=app,O=Example,C=DE", `CN=a\,b+OU=\C3\BC`, "CN=#0c03617070", `CN=\ `, "1.2=#0500"} {
		f.Add(seed)
	}
	cert := &mtls.Certificate{Certificate: mtlstest.SelfSigned(f).Leaf}
	f.Fuzz(func(t *testing.T, text string) {
		for _, kind := range mtls.Kinds {
			if mtls.CheckName(kind, text) != nil && kind == mtls.SubjectDN && cert.HasName(kind, text) {
				t.Errorf("an impossible %s is that of a certificate", kind)
			}
		}
	})
}
