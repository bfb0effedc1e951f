package check

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// tlsPolicy is what a server does about the certificates of clients.
type tlsPolicy struct {
	Match struct {
		SNI []string `json:"sni"`
	} `json:"match"`
	ClientAuth *struct {
		Mode  string          `json:"mode"`
		CA    json.RawMessage `json:"ca"`
		Certs []string        `json:"trusted_ca_certs"`
		Files []string        `json:"trusted_ca_certs_pem_files"`
	} `json:"client_authentication"`
}

// clientCertificates are the settings of a client that authenticates with a TLS certificate, or whose tokens are bound to one.
type clientCertificates struct {
	SubjectDN  string          `json:"tls_client_auth_subject_dn"`
	SANDNS     string          `json:"tls_client_auth_san_dns"`
	SANURI     string          `json:"tls_client_auth_san_uri"`
	SANIP      string          `json:"tls_client_auth_san_ip"`
	SANEmail   string          `json:"tls_client_auth_san_email"`
	SelfSigned json.RawMessage `json:"self_signed_tls_client_auth"`
	Bound      bool            `json:"tls_client_certificate_bound_access_tokens"`
}

// byName reports whether a name in the certificate authenticates the client.
func (c *clientCertificates) byName() bool {
	return c.SubjectDN+c.SANDNS+c.SANURI+c.SANIP+c.SANEmail != ""
}

const certificateGuide = "docs/guides/mutual-tls.md"

// checkCertificates finds clients that need TLS certificates, and sites that do not ask for them.
func checkCertificates(r *Report, c *config, i *issuer) {
	asks, verifies, takesAny, anyCA := c.certificateModes(i)
	header := i.ClientCertHeader
	asks, takesAny, verifies = asks || header != "", takesAny || header != "", verifies || header == "verified"
	checked := false
	for _, id := range slices.Sorted(maps.Keys(i.Clients)) {
		client := i.Clients[id]
		if client == nil {
			continue
		}
		fail := func(seen, why, paste string) {
			r.add(Finding{Verdict: Fail, Check: "certificates", Issuer: i.Name, Client: id, Seen: seen, Why: why, Paste: paste, Read: certificateGuide})
		}
		checked = checked || client.byName()
		switch {
		case client.byName() && !verifies:
			fail("no site checks TLS certificates, by which it authenticates", "Every request of it is refused.",
				"tls {\n\tclient_auth {\n\t\tmode verify_if_given\n\t\ttrust_pool file <the CA>\n\t}\n}")
		case client.SelfSigned != nil && !takesAny:
			fail("no site takes TLS certificates that are of no CA, by which it authenticates", "Every request of it is refused.", requestMode)
		case client.Bound && !asks:
			fail("no site asks for TLS certificates, to which its tokens are bound", "It gets no tokens.", requestMode)
		}
	}
	if checked && anyCA {
		r.add(Finding{
			Verdict: Warning, Check: "certificates", Issuer: i.Name, Seen: "a site trusts the certificates of all CAs of the system (client_auth without trust_pool)",
			Why: "Whoever owns a host name in the world can get a certificate with that name.", Paste: "trust_pool file <the CA>", Read: certificateGuide,
		})
	}
	if header != "" && !slices.ContainsFunc(c.Servers, func(s server) bool { return s.TrustedProxies != nil }) {
		r.add(Finding{
			Verdict: Fail, Check: "client_cert_header", Issuer: i.Name, Seen: "Client-Cert headers (client_cert_header) are ignored, as no server has trusted_proxies",
			Why: "Clients of the proxy have no certificate.", Paste: believeOnlyProxy, Read: certificateGuide,
		})
	}
	if wide := c.privateNetworks(); header == "verified" && len(wide) > 0 {
		r.add(Finding{
			Verdict: Warning, Check: "client_cert_header", Issuer: i.Name, Seen: "everybody in a private network is believed who sends Client-Cert (" + strings.Join(wide, " ") + ")",
			Why: "Any container or machine there can authenticate as any client of tls_client_auth.", Paste: believeOnlyProxy, Read: certificateGuide,
		})
	}
}

const believeOnlyProxy = "{\n\tservers {\n\t\ttrusted_proxies static <addresses of the proxy>\n\t}\n}"

// privateNetworks returns the ranges of trusted_proxies that are a whole private network, such as those of private_ranges.
func (c *config) privateNetworks() (ranges []string) {
	for _, s := range c.Servers {
		if s.TrustedProxies == nil {
			continue
		}
		for _, text := range s.TrustedProxies.Ranges {
			prefix, err := netip.ParsePrefix(text)
			if err == nil && prefix.Addr().IsPrivate() && prefix.Bits() <= prefix.Addr().BitLen()/2 && !slices.Contains(ranges, text) {
				ranges = append(ranges, text)
			}
		}
	}
	slices.Sort(ranges)
	return ranges
}

const requestMode = "tls {\n\tclient_auth {\n\t\tmode request\n\t}\n}"

// certificateModes says what is done about certificates at the sites of an issuer: whether one asks for them, whether one checks them, whether
// one takes any, and whether one trusts every CA of the system.
func (c *config) certificateModes(i *issuer) (asks, verifies, takesAny, anyCA bool) {
	for _, s := range c.Servers {
		for _, policy := range s.Policies {
			auth := policy.ClientAuth
			if auth == nil || !c.isFor(policy, i) {
				continue
			}
			hasCA := auth.CA != nil || len(auth.Certs)+len(auth.Files) > 0
			check := strings.Contains(auth.Mode, "verify") || auth.Mode == "" && hasCA
			asks, verifies, takesAny = true, verifies || check, takesAny || !check
			anyCA = anyCA || check && !hasCA
		}
	}
	return asks, verifies, takesAny, anyCA
}

// isFor reports whether a policy may be for a site of an issuer.
func (c *config) isFor(policy tlsPolicy, i *issuer) bool {
	names := policy.Match.SNI
	if len(names) == 0 {
		return true
	}
	for _, s := range c.Served {
		if !c.means(s.Issuer, i) {
			continue
		}
		if len(s.hosts) == 0 || slices.ContainsFunc(s.hosts, func(host string) bool {
			return strings.ContainsAny(host, "*{") || slices.ContainsFunc(names, func(name string) bool {
				return strings.EqualFold(name, host) || strings.ContainsAny(name, "*{")
			})
		}) {
			return true
		}
	}
	return false
}
