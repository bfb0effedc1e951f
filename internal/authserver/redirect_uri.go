package authserver

import (
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// The out-of-band redirects: the code is shown to the person instead of sent to the client. They came with no RFC; clients of
// before RFC 8252 use them.
const (
	oobManual    = "urn:ietf:wg:oauth:2.0:oob"
	oobAutomatic = "urn:ietf:wg:oauth:2.0:oob:auto"
)

func outOfBand(redirectURI string) bool {
	return redirectURI == oobManual || redirectURI == oobAutomatic
}

// CheckRedirectURI reports why a URI cannot be registered as a redirect_uri: it must be absolute, have no
// fragment (RFC 6749 §3.1.2), and lead over https, to this device (RFC 8252 §7.3), or to an app by a
// scheme of its own that is the app's domain name reversed (RFC 8252 §7.1).
func CheckRedirectURI(uri string) error {
	if outOfBand(uri) {
		return nil
	}
	u, err := url.Parse(uri)
	switch {
	case err != nil || !u.IsAbs() || strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return errors.New("expected an absolute URI")
	case strings.Contains(uri, "#"):
		return errors.New("expected a URI without a fragment")
	case strings.Contains(uri, "*"):
		return errors.New("expected an exact URI, there are no wildcards")
	case u.User != nil:
		return errors.New("expected a URI without user name and password")
	}
	switch {
	case u.Scheme == "https" && u.Hostname() != "", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	case u.Scheme == "https":
		return errors.New("expected a host")
	case u.Scheme == "http":
		return errors.New("expected https, or http on 127.0.0.1, [::1] or localhost")
	case strings.Contains(u.Scheme, "."):
		return nil
	}
	return errors.New("expected https, or an app's own scheme with a period in it, such as com.example.app")
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// matchRedirectURI reports whether a client has registered a redirect_uri: character by character (RFC 9700
// §2.1), but for the port of a loopback address, which a native app gets from its system (RFC 8252 §7.3).
func matchRedirectURI(client *storage.Client, uri string) bool {
	if slices.Contains(client.RedirectURIs, uri) {
		return true
	}
	portless, ok := withoutLoopbackPort(uri)
	return ok && slices.ContainsFunc(client.RedirectURIs, func(registered string) bool {
		r, ok := withoutLoopbackPort(registered)
		return ok && r == portless
	})
}

// withoutLoopbackPort returns an http URI to a loopback host without its port, and false for any other.
func withoutLoopbackPort(uri string) (string, bool) {
	rest, ok := strings.CutPrefix(uri, "http://")
	if !ok {
		return "", false
	}
	u, err := url.Parse(uri)
	if err != nil || u.User != nil || u.Fragment != "" || !isLoopback(u.Hostname()) || !strings.HasPrefix(rest, u.Host) {
		return "", false
	}
	host := strings.TrimSuffix(u.Host, ":"+u.Port())
	return "http://" + host + strings.TrimPrefix(rest, u.Host), true
}

// impersonable reports whether another program on the person's device could pose as the client: it
// has no secret, and its redirect goes to whoever is listening there (RFC 8252 §8.6).
func impersonable(client *storage.Client, redirectURI string) bool {
	return client.Public() && !strings.HasPrefix(redirectURI, "https://")
}

// withParams returns a redirect URI with parameters added to its query (RFC 6749 §3.1.2, §4.1.2).
func withParams(redirectURI string, params [][2]string) string {
	var b strings.Builder
	b.Grow(len(redirectURI) + 256)
	b.WriteString(redirectURI)
	separator := byte('?')
	if strings.Contains(redirectURI, "?") {
		separator = '&'
	}
	for _, p := range params {
		if p[1] == "" {
			continue
		}
		b.WriteByte(separator)
		b.WriteString(p[0])
		b.WriteByte('=')
		b.WriteString(url.QueryEscape(p[1]))
		separator = '&'
	}
	return b.String()
}
