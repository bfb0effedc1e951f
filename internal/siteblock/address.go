package siteblock

import (
	"cmp"
	"net"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// Origin returns the origin of the site, as its clients know it: that of the issuer with this URL if both have the same host, or else the
// only address. It is "" if there is no single one. The URL may be "".
func (s *Site) Origin(issuer string) string {
	var issued *url.URL
	if issuer != "" && !strings.Contains(issuer, "{") {
		issued, _ = url.Parse(issuer)
	}
	if s.block.IsNamedRoute {
		return ""
	}
	found := ""
	for _, key := range s.block.Keys {
		a, err := httpcaddyfile.ParseAddress(key.Text)
		if err != nil {
			return ""
		}
		if issued != nil && (a.Host == "" || strings.EqualFold(a.Host, issued.Hostname())) {
			return issued.Scheme + "://" + issued.Host
		}
		if found != "" || a.Host == "" || strings.ContainsAny(key.Text, "*{") {
			return ""
		}
		found = originOf(a)
	}
	return found
}

// originOf returns the origin of the address of a site.
func originOf(a httpcaddyfile.Address) string {
	scheme := schemeOf(a)
	if a.Port == "" || a.Port == portOf("", scheme) {
		return scheme + "://" + a.Host
	}
	return scheme + "://" + net.JoinHostPort(a.Host, a.Port)
}

// Differs returns which part of the URL of an issuer no address of the site has: the host, the scheme or the port; "" if one has all, or
// may have them. A proxy before Caddy may have https where the site has http, and then another port.
func (s *Site) Differs(issuer string) (part string, addresses []string) {
	u, err := url.Parse(issuer)
	if err != nil || strings.Contains(issuer, "{") || s.block.IsNamedRoute {
		return "", nil
	}
	for _, key := range s.block.Keys {
		a, err := httpcaddyfile.ParseAddress(key.Text)
		if err != nil || strings.ContainsAny(key.Text, "*{") || a.Host == "" {
			return "", nil
		}
		addresses = append(addresses, key.Text)
		scheme := schemeOf(a)
		switch {
		case !strings.EqualFold(a.Host, u.Hostname()):
			part = cmp.Or(part, "host")
		case s.ownPorts || scheme == "http" && u.Scheme == "https":
			return "", nil
		case scheme != u.Scheme:
			part = "scheme"
		case portOf(a.Port, scheme) != portOf(u.Port(), u.Scheme):
			part = "port"
		default:
			return "", nil
		}
	}
	return part, addresses
}

// schemeOf returns the scheme of an address, which without one is that of Caddy's default.
func schemeOf(a httpcaddyfile.Address) string {
	if a.Scheme == "" && a.Port == "80" {
		return "http"
	}
	return cmp.Or(a.Scheme, "https")
}

func portOf(port, scheme string) string {
	switch {
	case port != "":
		return port
	case scheme == "http":
		return "80"
	}
	return "443"
}
