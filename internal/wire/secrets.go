package wire

import (
	"net/url"
	"strings"
)

// secretParams are the parameters whose values are secrets: of OAuth, and those that people mistake for them. They have no place
// in a URL, as logs, histories and Referer headers keep URLs.
var secretParams = map[string]bool{
	"access_token": true, "refresh_token": true, "id_token": true, "id_token_hint": true, "token": true,
	"code": true, "code_verifier": true, "device_code": true, "user_code": true, "request": true, "request_uri": true,
	"client_secret": true, "client_assertion": true, "assertion": true, "subject_token": true, "actor_token": true,
	"registration_access_token": true, "password": true, "secret": true, "api_key": true,
}

// hiddenSecret stands in the place of a secret.
const hiddenSecret = "HIDDEN"

// HideSecrets returns a URL, or the target of a request, without the secrets in it: the password of its user information, and the
// values of secret parameters in its path, its query and its fragment, also if they are in a URL that is itself the value of a parameter.
// All else stays as it is, byte by byte. A URL without secrets stays the same.
func HideSecrets(target string) string { return hideSecrets(target, 2) }

// MayHaveSecrets reports whether a URL, or the target of a request, has any of the parts that HideSecrets looks into.
func MayHaveSecrets(target string) bool { return strings.ContainsAny(target, "?#@;") }

// maxLogged is how many bytes of a value from a request the log has. Whoever sends the request chooses its length.
const maxLogged = 512

// Loggable returns a value from a request as the log may have it: not too long, and without the secrets of a URL. A JWT is a
// token in the wrong place.
func Loggable(s string) string {
	if strings.HasPrefix(s, "eyJ") && strings.Count(s, ".") >= 2 {
		return "a JWT"
	}
	s = HideSecrets(s)
	if len(s) <= maxLogged {
		return s
	}
	return strings.ToValidUTF8(s[:maxLogged], "") + "…"
}

// hideSecrets is HideSecrets for URLs within URLs up to that depth.
func hideSecrets(target string, depth int) string {
	start := strings.IndexAny(target, "?#")
	if start < 0 {
		start = len(target)
	}
	head, query := hideInPath(hidePassword(target[:start])), target[start:]
	var out strings.Builder
	out.Grow(len(query))
	for query != "" { // each round takes a separator and the parameter after it
		end := 1 + strings.IndexAny(query[1:], "?#&;")
		if end == 0 {
			end = len(query)
		}
		out.WriteByte(query[0])
		out.WriteString(hideParameter(query[1:end], depth))
		query = query[end:]
	}
	return head + out.String()
}

// hideInPath hides the secrets of /path;name=value/more (RFC 3986 section 3.3).
func hideInPath(path string) string {
	start := strings.IndexByte(path, ';')
	if start < 0 {
		return path
	}
	var out strings.Builder
	out.WriteString(path[:start])
	for path = path[start:]; path != ""; { // each round takes a semicolon or a slash, and what is after it
		end := 1 + strings.IndexAny(path[1:], ";/")
		if end == 0 {
			end = len(path)
		}
		name, value, _ := strings.Cut(path[1:end], "=")
		if path[0] == ';' && value != "" && secretParams[parameterName(name)] {
			out.WriteString(";" + name + "=" + hiddenSecret)
		} else {
			out.WriteString(path[:end])
		}
		path = path[end:]
	}
	return out.String()
}

// hidePassword hides the password of https://user:password@host.
func hidePassword(s string) string {
	start := strings.Index(s, "//")
	if start < 0 {
		return s
	}
	authority := s[start+2:]
	if end := strings.IndexByte(authority, '/'); end >= 0 {
		authority = authority[:end]
	}
	at := strings.LastIndexByte(authority, '@')
	if at < 0 {
		return s
	}
	user, _, found := strings.Cut(authority[:at], ":")
	if !found {
		return s
	}
	return s[:start+2] + user + ":" + hiddenSecret + s[start+2+at:]
}

// hideParameter hides the value of name=value if it is a secret, or the secrets in it if it is a URL.
func hideParameter(param string, depth int) string {
	name, value, found := strings.Cut(param, "=")
	switch {
	case !found || value == "":
		return param
	case secretParams[parameterName(name)]:
		return name + "=" + hiddenSecret
	case depth == 0:
		return param
	}
	inner, err := url.QueryUnescape(value)
	if err != nil {
		return param
	}
	if hidden := hideSecrets(inner, depth-1); hidden != inner {
		return name + "=" + url.QueryEscape(hidden)
	}
	return param
}

// parameterName returns the name that lenient programs read: decoded, in lower case, and without the brackets of an array.
func parameterName(encoded string) string {
	name, err := url.QueryUnescape(encoded)
	if err != nil {
		name = encoded
	}
	name, _, _ = strings.Cut(name, "[")
	return strings.ToLower(strings.TrimSpace(name))
}
