package dpop

import (
	"net/url"
	"slices"
	"strings"
)

// sameTarget reports whether two URLs are the same without their query and fragment, after the normalization of RFC 3986 §6.2.2 and §6.2.3
// (RFC 9449 §4.3).
func sameTarget(a, b string) bool {
	one, ok1 := target(a)
	other, ok2 := target(b)
	return ok1 && ok2 && one == other
}

// target returns the normal form of an http or https URL, without query and fragment, and false for anything else.
func target(text string) (string, bool) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Opaque != "" || u.User != nil || u.Hostname() == "" {
		return "", false
	}
	authority, ok := Authority(u.Scheme, u.Host)
	return u.Scheme + "://" + authority + cleanPath(u.EscapedPath()), ok
}

// Authority returns the normal form of a host with its port: in lower case, and without the default port of the scheme. It returns false
// for a port that is none.
func Authority(scheme, host string) (string, bool) {
	u := url.URL{Host: host}
	name, port := u.Hostname(), u.Port()
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	if rest, ok := strings.CutPrefix(strings.ToLower(host), strings.ToLower(name)); !ok || rest != "" && rest != ":"+port {
		return "", false
	}
	if name = strings.ToLower(name); port == "" || port == "443" && scheme == "https" || port == "80" && scheme == "http" {
		return name, name != ""
	}
	return name + ":" + port, name != ""
}

// cleanPath returns the normal form of an encoded path: unreserved characters are not encoded, all others in upper case, and there are no
// dot segments.
func cleanPath(encoded string) string {
	if strings.Contains(encoded, "%") {
		encoded = normalEscapes(encoded)
	}
	if !strings.Contains(encoded, "/.") {
		if encoded == "" {
			return "/"
		}
		return encoded
	}
	segments := strings.Split(strings.TrimPrefix(encoded, "/"), "/")
	kept := make([]string, 0, len(segments)+1)
	for i, segment := range segments {
		dots := segment == "." || segment == ".."
		if segment == ".." {
			kept = kept[:max(0, len(kept)-1)]
		}
		switch {
		case !dots:
			kept = append(kept, segment)
		case i == len(segments)-1:
			kept = append(kept, "")
		}
	}
	return "/" + strings.Join(kept, "/")
}

// normalEscapes decodes the unreserved characters of an encoded path, and writes the other escapes in upper case.
func normalEscapes(encoded string) string {
	out := make([]byte, 0, len(encoded))
	for i := 0; i < len(encoded); i++ {
		if encoded[i] != '%' || i+2 >= len(encoded) {
			out = append(out, encoded[i])
			continue
		}
		char, err := url.PathUnescape(encoded[i : i+3])
		if err == nil && len(char) == 1 && isUnreserved(char[0]) {
			out = append(out, char[0])
		} else {
			out = append(out, strings.ToUpper(encoded[i:i+3])...)
		}
		i += 2
	}
	return string(out)
}

// isUnreserved reports whether a character never needs to be encoded (RFC 3986 §2.3).
func isUnreserved(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return slices.Contains([]byte("-._~"), c)
}
