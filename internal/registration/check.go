package registration

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/internal/uris"
)

const (
	maxRedirects      = 10
	maxRedirectLength = 512
)

// Check returns an *Error for metadata that no client may have: without redirect URIs or with one that checkRedirect refuses, or
// with keys that nobody can use.
func (m *Metadata) Check() error {
	switch n := len(m.RedirectURIs); {
	case n == 0:
		return &Error{InvalidRedirectURI, "redirect_uris", "expected at least one"}
	case n > maxRedirects:
		return &Error{InvalidRedirectURI, "redirect_uris", fmt.Sprintf("expected at most %d, not %d", maxRedirects, n)}
	}
	for _, uri := range m.RedirectURIs {
		if err := checkRedirect(uri); err != nil {
			return &Error{InvalidRedirectURI, "redirect_uris", err.Error() + ": " + short(uri)}
		}
	}
	if m.JWKS != nil && m.JWKSURI != "" {
		return invalid("jwks_uri", "expected either jwks or jwks_uri") // RFC 7591 §2
	}
	if m.JWKSURI != "" && !isSecureURL(m.JWKSURI) {
		return invalid("jwks_uri", "expected an https URL: "+short(m.JWKSURI))
	}
	return nil
}

// short returns a text as an error may show it.
func short(text string) string { return fmt.Sprintf("%.120s", text) }

// checkRedirect returns why a client that describes itself cannot have a redirect URI. It may have an app's own scheme without a
// period, as Cursor does. Plain http must stay on the person's own device. Out-of-band URIs are for the owner's clients: to have
// somebody copy a code is how a stranger would steal it.
func checkRedirect(uri string) error {
	if len(uri) > maxRedirectLength {
		return fmt.Errorf("expected at most %d bytes", maxRedirectLength)
	}
	// People see the host of the URI when they are asked for consent.
	if strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"<>\\^`{|}", r) }) {
		return errors.New("expected a URI, which has only some of the visible ASCII characters (RFC 3986 §2)")
	}
	if uris.IsOutOfBand(uri) {
		return errors.New("expected a URI that leads to the client")
	}
	if err := uris.CheckInsecureRedirect(uri); err != nil {
		return err
	}
	u, err := url.Parse(uri)
	switch {
	case err != nil:
		return errors.New("expected a URI")
	case u.Scheme == "http" && !uris.IsLoopback(u.Hostname()):
		return errors.New("expected https, as http is for loopback hosts such as 127.0.0.1 only")
	case isSystemScheme(u.Scheme):
		return fmt.Errorf("expected https or the client's own scheme, as %s is not a client's", u.Scheme)
	}
	return nil
}

// systemSchemes open parts of an operating system or programs that are on most devices. None belongs to an OAuth client.
var systemSchemes = []string{
	"afp", "android-app", "cifs", "dav", "davs", "facetime", "gopher", "hcp", "help", "imap", "intent", "irc", "ldap", "ldaps", "market", "mhtml",
	"mk", "news", "nfs", "nntp", "pop", "res", "rtsp", "search", "sftp", "shell", "sip", "sips", "skype", "sms", "smb", "ssh", "telnet", "tftp", "vnc",
	"webcal", "wyciwyg", "xmpp",
}

func isSystemScheme(scheme string) bool {
	return slices.Contains(systemSchemes, scheme) || strings.HasPrefix(scheme, "ms-") || strings.HasPrefix(scheme, "search-ms") ||
		strings.HasPrefix(scheme, "itms") || strings.HasPrefix(scheme, "x-apple")
}
