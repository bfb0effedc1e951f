package bearer

import (
	"iter"
	"net/url"
	"strings"
)

// Ambiguous reports whether two programs can read the target of a request as two different paths. A guard that decides by
// the path, and the site behind it, could then mean different things by it. Such a target
//
//   - has no path that begins with a slash, such as http:api/orders;
//   - has dot segments (RFC 3986 §3.3), which many programs remove before they look at the path, and some after they
//     have decoded it. Some of them split it at backslashes too, and ignore parameters, as in /..;a=b/;
//   - has a zero byte, where some programs end the path.
//
// An escaped slash alone is a character like any other.
func Ambiguous(target *url.URL) bool {
	if target.Opaque != "" || !strings.HasPrefix(target.Path, "/") {
		return true
	}
	path := target.Path
	for range 3 { // a proxy before the site, a program and its library may each decode once
		if strings.ContainsRune(path, 0) || hasDotSegment(path) {
			return true
		}
		decoded := unescape(path)
		if decoded == path {
			return false
		}
		path = decoded
	}
	return hasDotSegment(path)
}

func hasDotSegment(path string) bool {
	if !strings.Contains(path, ".") {
		return false
	}
	for segment := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
		if name, _, _ := strings.Cut(segment, ";"); name == "." || name == ".." {
			return true
		}
	}
	return false
}

// unescape decodes the escapes in a path, and keeps what is not one, as lenient programs do.
func unescape(path string) string {
	if !strings.Contains(path, "%") {
		return path
	}
	var decoded strings.Builder
	for len(path) > 0 {
		if path[0] == '%' && len(path) > 2 {
			if c, err := url.PathUnescape(path[:3]); err == nil {
				decoded.WriteString(c)
				path = path[3:]
				continue
			}
		}
		decoded.WriteByte(path[0])
		path = path[1:]
	}
	return decoded.String()
}

// Readings returns a path, and what other programs may take it for: some ignore the parameters in a segment (RFC 3986 §3.3), as
// in /api;a=b/orders, and some take a backslash for a slash. A guard of any of these is a guard of the path.
func Readings(path string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if !yield(path) {
			return
		}
		slashes := strings.ReplaceAll(path, `\`, "/")
		if slashes != path && !yield(slashes) {
			return
		}
		for _, p := range []string{path, slashes} {
			if bare := withoutParameters(p); bare != p && !yield(bare) {
				return
			}
		}
	}
}

func withoutParameters(path string) string {
	if !strings.Contains(path, ";") {
		return path
	}
	var bare strings.Builder
	for segment := range strings.SplitAfterSeq(path, "/") {
		name, _, found := strings.Cut(segment, ";")
		bare.WriteString(name)
		if found && strings.HasSuffix(segment, "/") {
			bare.WriteByte('/')
		}
	}
	return bare.String()
}
