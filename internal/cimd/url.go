package cimd

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/internal/uris"
)

const maxID = 1024 // bytes

// IsURL reports whether a client ID may be meant as a URL. No other client may have such an ID.
func IsURL(id string) bool {
	for _, scheme := range []string{"https:", "http:"} {
		if len(id) >= len(scheme) && strings.EqualFold(id[:len(scheme)], scheme) {
			return true
		}
	}
	return false
}

var (
	// characters are those of a URL (RFC 3986 §2), without those of the fragment.
	characters = regexp.MustCompile(`^[0-9A-Za-z\-._~:/?\[\]@!$&'()*+,;=%]*$`)

	// domain is a name in lower case whose last label is not a number, so that nothing reads it as an address.
	domain = regexp.MustCompile(`^(?:[0-9a-z_-]+\.)*[a-z][0-9a-z-]*$`)
)

// checkID returns why a client ID is not the URL of a metadata document (section 3 of the draft). loopback allows URLs on this machine,
// for an issuer that is there too.
//
// IDs are compared letter by letter, so there must be no second way to write one. The draft leaves it open who normalizes what; here,
// what would change is refused: a host in upper case or with a dot at its end, a port with leading zeros, and addresses instead of names,
// which nobody recognizes on a page.
func checkID(id string, loopback bool) error {
	u, err := url.Parse(id)
	switch {
	case len(id) > maxID:
		return fmt.Errorf("expected a URL of at most %d bytes", maxID)
	case err != nil || !characters.MatchString(id) || u.String() != id:
		return errors.New("expected a URL (RFC 3986)")
	case u.Scheme == "http" && loopback && uris.IsLoopback(u.Hostname()) && strings.HasPrefix(id, "http://"):
	case !strings.HasPrefix(id, "https://"):
		return errors.New("expected a URL with https")
	}
	if u.User != nil || strings.Contains(u.Host, "@") {
		return errors.New("expected a URL without user name and password")
	}
	if err := checkHost(u, loopback); err != nil {
		return err
	}
	return checkPath(u)
}

func checkHost(u *url.URL, loopback bool) error {
	name, port := u.Hostname(), u.Port()
	address, err := netip.ParseAddr(name)
	switch {
	case err == nil && loopback && address.IsLoopback() && address.Zone() == "":
	case uris.IsLoopback(name) && !loopback:
		return errors.New("expected a URL with a public host, as this issuer is not on this machine only")
	case !domain.MatchString(name):
		return errors.New("expected a URL with the name of a host in lower case")
	}
	if strings.HasSuffix(u.Host, ":") {
		return errors.New("expected a URL with a port after the colon")
	}
	if number, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || number == 0 || strconv.FormatUint(number, 10) != port) {
		return errors.New("expected a URL with a port between 1 and 65535")
	}
	return nil
}

// checkPath refuses dot segments, also those that are only there once the path is decoded, as some servers decode it.
func checkPath(u *url.URL) error {
	if u.EscapedPath() == "" || u.EscapedPath() == "/" {
		return errors.New("expected a URL with a path, such as https://app.example.com/client.json")
	}
	path := u.Path // decoded
	for strings.Contains(path, "%") {
		decoded, err := url.PathUnescape(path)
		if err != nil || decoded == path {
			break
		}
		path = decoded
	}
	segments := strings.FieldsFunc(path, func(r rune) bool { return r == '/' || r == '\\' })
	if slices.Contains(segments, ".") || slices.Contains(segments, "..") {
		return errors.New("expected a URL without the segments . and .. in its path")
	}
	return nil
}

// hostOf returns the host of a client ID, without the port: whom people know the client by. It returns "" for an ID that is no URL.
func hostOf(id string) string {
	u, err := url.Parse(id)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// Policy says which hosts may have clients. The zero value is for all.
type Policy struct {
	// Allow are the only hosts whose clients are accepted, unless it is empty. *.example.com is for all names below example.com.
	Allow []string
	// Deny are hosts whose clients are not accepted, although Allow may have them.
	Deny []string
}

// hostPattern is a host of a policy.
var hostPattern = regexp.MustCompile(`^(?:\*\.)?(?:[0-9a-z_-]+\.)*[a-z][0-9a-z-]*$`)

// Check returns what is wrong with a host of the policy.
func (p Policy) Check() error {
	for _, host := range slices.Concat(p.Allow, p.Deny) {
		if !hostPattern.MatchString(strings.ToLower(host)) && !uris.IsLoopback(host) {
			return fmt.Errorf("expected a host, such as app.example.com or *.example.com, not %q", host)
		}
	}
	return nil
}

// permit returns why a host may not have clients.
func (p Policy) permit(host string) error {
	if len(p.Allow) > 0 && !matches(p.Allow, host) {
		return fmt.Errorf("expected one of the allowed hosts: %s", strings.Join(p.Allow, ", "))
	}
	if matches(p.Deny, host) {
		return fmt.Errorf("expected a host that is not denied, which %s is", host)
	}
	return nil
}

// matches reports whether a host is one of a policy.
func matches(patterns []string, host string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		pattern = strings.ToLower(pattern)
		if parent, ok := strings.CutPrefix(pattern, "*."); ok {
			return strings.HasSuffix(host, "."+parent)
		}
		return pattern == host
	})
}
