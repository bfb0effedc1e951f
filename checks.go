package caddyoauth

import (
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// These checks return what was expected instead of a value, or "". They skip values that still have
// placeholders: when a Caddyfile is adapted, only those without are known.

// unresolved reports whether a value has a placeholder, whose value is known only when the server runs.
func unresolved(s string) bool { return strings.Contains(s, "{") }

// checkIssuerURL returns what is wrong with an issuer's URL (RFC 8414 §2).
func checkIssuerURL(s string) (problem string) {
	if unresolved(s) {
		return ""
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return "expected the issuer's URL, such as https://example.com, not " + s
	case u.User != nil:
		return "expected an issuer URL without user name and password"
	case strings.ContainsAny(s, "?#"):
		return "expected an issuer URL without query and fragment"
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return "expected https; http is for loopback hosts such as localhost only"
	case u.Scheme != "http" && u.Scheme != "https":
		return "expected an issuer URL with https"
	case u.Path != "" && u.EscapedPath() != u.Path || strings.Contains(u.Path, "//") || strings.Contains(u.Path, "/."):
		return "expected an issuer URL whose path needs no escaping and has no empty or dot segments"
	case u.Host != strings.ToLower(u.Host) || !strings.HasPrefix(s, u.Scheme):
		return "expected scheme and host of the issuer URL in lower case, as clients compare it letter by letter"
	}
	return ""
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

func checkScopes(scopes []Scope) (problem, setting string) {
	seen := make(map[string]bool)
	for _, s := range scopes {
		switch {
		case !grants.ValidScope(s.Name):
			return "expected a name of printable ASCII without spaces, quotes and backslashes", "scope " + s.Name
		case seen[s.Name]:
			return "expected once, and it is there already", "scope " + s.Name
		}
		seen[s.Name] = true
	}
	return "", ""
}

func checkAudience(audience []string) (problem string) {
	for _, a := range audience {
		if !unresolved(a) && !grants.ValidResource(a) {
			return "expected absolute URIs without fragment (RFC 8707), not " + a
		}
	}
	return ""
}

func checkConsent(mode storage.ConsentMode) (problem string) {
	modes := []storage.ConsentMode{"", storage.ConsentOnce, storage.ConsentAlways, storage.ConsentNever}
	if slices.Contains(modes, mode) {
		return ""
	}
	return "expected once, always or never, not " + string(mode)
}
