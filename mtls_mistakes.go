package caddyoauth

import (
	"crypto/tls"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// mistakes finds a subject that is written in the order of the certificate, as openssl prints it, and not in that of RFC 4514.
func (c *ClientCertificates) mistakes(id string) (found []mistake) {
	dn := c.TLSClientAuthSubjectDN
	parts := strings.Split(strings.ToUpper(strings.ReplaceAll(dn, " ", "")), ",")
	if last := parts[len(parts)-1]; strings.HasPrefix(parts[0], "C=") && strings.HasPrefix(last, "CN=") {
		found = append(found, mistake{
			path: []string{"client " + id, "tls_client_auth"}, seen: "the subject of the client " + id + " begins with the country, and RFC 4514 begins with the name of the client itself",
			instead: "what openssl x509 -noout -subject -nameopt RFC2253 prints",
		})
	}
	return found
}

// certificateMistakes finds clients of an issuer that need certificates which no site of it asks for. sites are those that serve it.
func (i *Issuer) certificateMistakes(name string, sites []servingSite) (found []mistake) {
	asks, verifies, takesAny := i.certificateModes(sites)
	for _, id := range slices.Sorted(maps.Keys(i.Clients)) {
		c := i.Clients[id]
		self := c.SelfSignedTLSClientAuth != nil
		add := func(setting, seen, instead string) {
			found = append(found, mistake{path: []string{"issuer " + name, "client " + id, setting}, seen: seen, instead: instead})
		}
		switch setting := "tls_client_certificate_bound_access_tokens"; {
		case !c.hasCertificate() && !c.TLSClientCertificateBoundAccessTokens:
		case c.hasCertificate() && !self && !verifies:
			add("tls_client_auth", "no site of the issuer checks TLS certificates, by which the client "+id+" authenticates",
				"tls { client_auth { mode verify_if_given; trust_pool file <CA> } } in a site of the issuer")
		case self && !takesAny:
			add("self_signed_tls_client_auth", "no site of the issuer takes TLS certificates that are of no CA, by which the client "+id+" authenticates",
				"tls { client_auth { mode request } } in a site of the issuer")
		case !asks:
			add(setting, "no site of the issuer asks for TLS certificates, which the client "+id+" must have", "tls { client_auth { mode request } } in a site of the issuer")
		}
	}
	return found
}

// certificateModes says what the sites do about certificates: whether one asks for them, whether one checks them, and whether one takes
// any.
func (i *Issuer) certificateModes(sites []servingSite) (asks, verifies, takesAny bool) {
	if i.ClientCertHeader != "" {
		asks, takesAny = true, true
		verifies = i.ClientCertHeader == "verified"
	}
	for _, site := range sites {
		for _, mode := range site.clientAuth() {
			checks := mode == tls.VerifyClientCertIfGiven || mode == tls.RequireAndVerifyClientCert
			asks = asks || mode != tls.NoClientCert
			verifies = verifies || checks
			takesAny = takesAny || mode != tls.NoClientCert && !checks
		}
	}
	return asks, verifies, takesAny
}

// servingSite is a site of an issuer: a server, and the hosts of the site there; none: all.
type servingSite struct {
	server *caddyhttp.Server
	hosts  []string
}

// clientAuth returns what the server does about certificates on connections for the hosts of the site, and about all that it accepts if
// that also depends on other things.
func (s servingSite) clientAuth() (modes []tls.ClientAuthType) {
	policies := s.server.TLSConnPolicies
	choose := policies.TLSConfig(caddy.Context{}).GetConfigForClient
	seen, all := new(noConn), len(s.hosts) == 0
	for _, host := range s.hosts {
		config, err := choose(&tls.ClientHelloInfo{ServerName: host, Conn: seen})
		if err == nil && config != nil {
			modes = append(modes, config.ClientAuth)
		}
		all = all || seen.asked || unresolved(host)
	}
	if !all {
		return modes
	}
	for _, policy := range policies {
		if policy.TLSConfig != nil {
			modes = append(modes, policy.TLSConfig.ClientAuth)
		}
	}
	return modes
}

// noConn is the connection of nobody. It notes that a policy is for some addresses only.
type noConn struct {
	net.Conn

	asked bool
}

func (c *noConn) RemoteAddr() net.Addr {
	c.asked = true
	return &net.TCPAddr{IP: net.IPv6loopback}
}

func (c *noConn) LocalAddr() net.Addr { return c.RemoteAddr() }

// aliasHost returns the host of the second site of the issuer, "" if there is none.
func (s *MutualTLSSettings) aliasHost() string {
	u, err := url.Parse(s.MTLSEndpointAliases)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// wrongAlias is the mistake of a second site of an issuer that is not there.
func wrongAlias(issuer *Issuer, sites []string, path ...string) mistake {
	return mistake{
		path: path, seen: "no site of the issuer " + issuer.URL + " has the host of " + issuer.MTLSEndpointAliases + ", but " + strings.Join(sites, ", "),
		instead: "a site " + strings.TrimPrefix(issuer.MTLSEndpointAliases, "https://") + " with tls { client_auth { ... } } and oauth",
	}
}
