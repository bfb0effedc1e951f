package uris

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// The out-of-band redirect URIs: the person is shown the code, instead of being sent back to the client with it. No RFC
// defines them; clients from before RFC 8252 use them.
const (
	OutOfBand     = "urn:ietf:wg:oauth:2.0:oob"
	OutOfBandAuto = "urn:ietf:wg:oauth:2.0:oob:auto"
)

// IsOutOfBand reports whether a redirect URI is one of the out-of-band ones.
func IsOutOfBand(uri string) bool { return uri == OutOfBand || uri == OutOfBandAuto }

// CheckRedirect returns why a client cannot register a redirect URI. The URI must be absolute and have no fragment
// (RFC 6749 §3.1.2). It must use https, or http on the person's own machine (RFC 8252 §7.3), or an app's own scheme, which
// is the app's domain name reversed (RFC 8252 §7.1).
func CheckRedirect(uri string) error {
	u, err := parseRedirect(uri)
	switch {
	case u == nil || err != nil:
		return err
	case u.Scheme == "http" && !IsLoopback(u.Hostname()):
		return errors.New("expected https, or http on 127.0.0.1, [::1] or localhost, or allow_insecure_redirects at the client")
	case u.Scheme != "http" && u.Scheme != "https" && !strings.Contains(u.Scheme, "."):
		return errors.New("expected https, or an app's own scheme with a period in it, such as com.example.app, " +
			"or allow_insecure_redirects at the client")
	}
	return nil
}

// CheckInsecureRedirect is CheckRedirect for a client whose owner allows http on every host, and schemes without a period.
func CheckInsecureRedirect(uri string) error {
	_, err := parseRedirect(uri)
	return err
}

// dangerous are schemes of URIs that run or show their own content, or that of the person's device. No app has them.
var dangerous = []string{
	"about", "blob", "chrome", "data", "file", "filesystem", "ftp", "jar", "javascript", "mailto", "resource", "tel", "urn", "vbscript",
	"view-source", "ws", "wss",
}

// parseRedirect checks what every redirect URI must keep to. It returns nil for an out-of-band one.
func parseRedirect(uri string) (*url.URL, error) {
	if IsOutOfBand(uri) {
		return nil, nil //nolint:nilnil // it is none that is followed
	}
	u, err := url.Parse(uri)
	switch {
	case err != nil || !u.IsAbs() || strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return nil, errors.New("expected an absolute URI")
	case strings.Contains(uri, "#"):
		return nil, errors.New("expected a URI without a fragment")
	case strings.Contains(uri, "*"):
		return nil, errors.New("expected an exact URI, there are no wildcards")
	case u.User != nil:
		return nil, errors.New("expected a URI without user name and password")
	case (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() == "":
		return nil, errors.New("expected a host")
	case slices.Contains(dangerous, u.Scheme):
		return nil, fmt.Errorf("expected https or an app's own scheme, as %s can never be allowed", u.Scheme)
	}
	return u, nil
}

// MatchRedirect reports whether a redirect URI is among the registered ones. They must be equal character by character
// (RFC 9700 §2.1). Only the port of a loopback host may differ: the system assigns it to a native app when the app starts
// (RFC 8252 §7.3).
func MatchRedirect(registered []string, uri string) bool {
	if slices.Contains(registered, uri) {
		return true
	}
	portless, ok := withoutLoopbackPort(uri)
	return ok && slices.ContainsFunc(registered, func(one string) bool {
		r, ok := withoutLoopbackPort(one)
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
	if err != nil || u.User != nil || u.Fragment != "" || !IsLoopback(u.Hostname()) || !strings.HasPrefix(rest, u.Host) {
		return "", false
	}
	host := strings.TrimSuffix(u.Host, ":"+u.Port())
	return "http://" + host + strings.TrimPrefix(rest, u.Host), true
}

// CommonHost returns the host that all these URIs are on, in lower case and without a port; "" if there is none.
func CommonHost(list []string) string {
	var common string
	for _, uri := range list {
		u, err := url.Parse(uri)
		if err != nil || u.Hostname() == "" || common != "" && !strings.EqualFold(common, u.Hostname()) {
			return ""
		}
		common = strings.ToLower(u.Hostname())
	}
	return common
}
