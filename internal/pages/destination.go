package pages

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/net/idna"

	"github.com/caddy-oauth/caddy-oauth/internal/uris"
)

// destination is where a redirect URI leads.
type destination struct {
	host   string // of a web page, as people may read it, else ""
	web    bool   // http or https
	device string // the loopback host or the scheme of an app on the person's device, else ""
	code   bool   // a page of ours shows a code
}

// words returns the destination for a person who is sent there.
func (d destination) words(l *locale) string {
	switch {
	case d.device != "":
		return l.text("to_device", "name", d.device)
	case d.code:
		return l.text("to_code")
	}
	return d.host
}

// asciiHost converts a host name to its ASCII form (xn--…), in which no two hosts look alike.
var asciiHost = idna.New(idna.MapForLookup(), idna.StrictDomainName(false))

// HostOf returns the host and port of an https URL, the host in its ASCII form, or "" if there is none.
func HostOf(httpsURL string) string {
	to, err := parseDestination(httpsURL)
	if err != nil || to.device != "" {
		return ""
	}
	return to.host
}

func parseDestination(redirectURI string) (destination, error) {
	u, err := url.Parse(redirectURI)
	if err != nil {
		return destination{}, fmt.Errorf("redirect URI: %w", err)
	}
	switch u.Scheme {
	case "http", "https":
		return parseWeb(u)
	case "":
		return destination{}, nil
	case "urn": // the out-of-band URNs, see CodePage
		return destination{code: true}, nil
	default: // a private-use scheme (RFC 8252 §7.1)
		return destination{device: u.Scheme}, nil
	}
}

func parseWeb(u *url.URL) (destination, error) {
	host, ip := u.Hostname(), net.ParseIP(u.Hostname())
	if ip == nil {
		var err error
		if host, err = asciiHost.ToASCII(host); err != nil {
			return destination{}, fmt.Errorf("redirect URI: %w", err)
		}
	}
	if host == "" {
		return destination{}, errors.New("redirect URI without a host")
	}
	hostPort := host
	if port := u.Port(); port != "" {
		hostPort = net.JoinHostPort(host, port)
	}
	if u.Scheme == "https" {
		return destination{host: clean(hostPort), web: true}, nil
	}
	if uris.IsLoopback(host) {
		return destination{device: host, web: true}, nil
	}
	return destination{host: clean("http://" + hostPort), web: true}, nil
}

// clean returns text from others as one line that is safe to read: without control characters, and without the
// invisible characters that reverse the direction of the text after them. It keeps the two zero-width joiners, which
// some scripts need.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\u200c', r == '\u200d':
			return r
		case unicode.Is(unicode.Cf, r):
			return -1
		case unicode.IsControl(r):
			return ' '
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}

// cleanName returns the name of an application, or the ID of one that has no name.
func cleanName(app App) string { return cmp.Or(clean(app.Name), clean(app.ID)) }

// cleanScopes returns scopes with their descriptions.
func cleanScopes(scopes []Scope, descriptions map[string]string) []Scope {
	scopes = slices.Clone(scopes)
	for i, s := range scopes {
		scopes[i].Name, scopes[i].Description = clean(s.Name), clean(descriptions[s.Name])
	}
	return scopes
}
