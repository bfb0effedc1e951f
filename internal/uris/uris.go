// Package uris holds the rules for the URLs that the rest of this module trusts: the URL of an issuer
// (CheckIssuer) and the redirect URIs of clients (CheckRedirect, MatchRedirect).
//
// Both allow plain http on the person's own machine only, and IsLoopback is the one place that says which hosts
// those are.
package uris

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
)

// loopbackName matches localhost and the names below it, which resolve to the machine that asks (RFC 6761 §6.3). Other
// characters than these could be split differently by another parser.
var loopbackName = regexp.MustCompile(`^(?:[0-9A-Za-z_-]+\.)*localhost$`)

// IsLoopback reports whether a host, without its port, is the machine that asks for it: localhost, a name below
// localhost, or a loopback address.
func IsLoopback(host string) bool {
	return loopbackName.MatchString(host) || net.ParseIP(host).IsLoopback()
}

// CheckIssuer returns why a URL cannot identify an issuer (RFC 8414 §2). Clients compare it letter by letter, and the
// paths of the endpoints and of the metadata are derived from it.
func CheckIssuer(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return fmt.Errorf("expected the issuer's URL, such as https://example.com, not %s", s)
	case u.User != nil:
		return errors.New("expected an issuer URL without user name and password")
	case strings.ContainsAny(s, "?#"):
		return errors.New("expected an issuer URL without query and fragment")
	case u.Scheme == "http" && !IsLoopback(u.Hostname()):
		return errors.New("expected https; http is for loopback hosts such as localhost only")
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("expected an issuer URL with https")
	case u.Path != "" && u.EscapedPath() != u.Path || strings.Contains(u.Path, "//") || strings.Contains(u.Path, "/."):
		return errors.New("expected an issuer URL whose path needs no escaping and has no empty or dot segments")
	case u.Host != strings.ToLower(u.Host) || !strings.HasPrefix(s, u.Scheme):
		return errors.New("expected scheme and host of the issuer URL in lower case, as clients compare it letter by letter")
	}
	return nil
}

// IssuerName returns the name of an issuer that has no other: the host of its URL, with the port and the path if it has any, as in
// example.com-shop.
func IssuerName(issuerURL string) string {
	u, err := url.Parse(issuerURL)
	if err != nil {
		return ""
	}
	return strings.Join(strings.FieldsFunc(u.Host+u.Path, func(r rune) bool { return strings.ContainsRune("/:[]", r) }), "-")
}
