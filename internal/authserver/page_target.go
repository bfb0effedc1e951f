package authserver

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
)

// target is where a redirect goes.
type target struct {
	words  string // for a person
	source string // for form-action, where "https:" does not cover it
	web    bool   // http or https
	device string // by what an app is known on the device it runs on, "" if it does not
}

var (
	// Turns a host into the ASCII form that cannot be mistaken for another (xn--…).
	asciiHost = idna.New(idna.MapForLookup(), idna.StrictDomainName(false))

	// The hosts a policy can name (CSP 3 §2.3.1). Of the addresses it knows 127.0.0.1 alone (§6.7.2.9).
	policyHost = regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)*$`)
)

func targetOf(redirectURI string) (target, error) {
	u, err := url.Parse(redirectURI)
	if err != nil {
		return target{}, fmt.Errorf("redirect URI: %w", err)
	}
	switch u.Scheme {
	case "http", "https":
		return webTarget(u)
	case "":
		return target{}, nil
	case "urn": // the out-of-band URNs: the code is shown, and the person carries it over
		return target{words: "a page that shows a code to copy into the app"}, nil
	default: // a private-use scheme (RFC 8252 §7.1)
		return target{words: "an app on this device (" + u.Scheme + ")", source: u.Scheme + ":", device: u.Scheme}, nil
	}
}

func webTarget(u *url.URL) (target, error) {
	host, ip := u.Hostname(), net.ParseIP(u.Hostname())
	if ip == nil {
		var err error
		if host, err = asciiHost.ToASCII(host); err != nil {
			return target{}, fmt.Errorf("redirect URI: %w", err)
		}
	}
	if host == "" {
		return target{}, errors.New("redirect URI without a host")
	}
	shown, port := host, u.Port()
	if port != "" {
		shown = net.JoinHostPort(host, port)
	}
	if u.Scheme == "https" {
		return target{words: plain(shown), web: true}, nil
	}

	to := target{words: plain("http://" + shown), source: "http:", web: true}
	named := policyHost.MatchString(host) && (ip == nil || host == "127.0.0.1")
	if named {
		to.source = "http://" + shown
	}
	// RFC 8252 §7.3: the port of a loopback redirect is whatever was free. From there an app under
	// development may send people on to its pages at the other name of this device.
	if host == "localhost" || ip.IsLoopback() {
		to.words, to.device = "an app on this device ("+host+")", host
		if named {
			to.source = "http://127.0.0.1:* http://localhost:*"
		}
	}
	return to, nil
}

// plain makes text that others wrote safe to read in one line: without control characters and without the
// invisible ones that turn the direction of what follows. The two joiners stay, scripts need them.
func plain(s string) string {
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
