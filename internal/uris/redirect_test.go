package uris

import (
	"regexp"
	"strings"
	"testing"
)

func TestCheckInsecureRedirect(t *testing.T) {
	for uri, want := range map[string]bool{
		"cursor://anysphere.cursor-mcp/oauth/callback": true, "myapp:/callback": true, "vscode://x.y/z": true, "claude://cb": true,
		"http://192.168.1.10:3000/cb": true, "http://homeassistant.local:8123/cb": true, "https://app.example.com/cb": true,
		"javascript:alert(1)": false, "JavaScript:alert(1)": false, "java\tscript:alert(1)": false, "data:text/html,x": false,
		"file:///etc/passwd": false, "vbscript:x": false, "blob:https://a.example/1": false, "about:blank": false,
		"view-source:https://a.example": false, "urn:x": false, "http:///cb": false, "https://u:p@a.example/": false,
		"cursor://cb#x": false, "cursor://*": false, "/cb": false, "": false,
	} {
		if err := CheckInsecureRedirect(uri); (err == nil) != want {
			t.Errorf("%q: %v", uri, err)
		}
	}
}

func TestCheckRedirect(t *testing.T) {
	for _, c := range []struct {
		name, uri string
		want      bool
	}{
		{"RFC 6749 §3.1.2 https", "https://app.example.com/callback?tenant=1", true},
		{"RFC 6749 §3.1.2 https without a path", "https://app.example.com", true},
		{"RFC 8252 §7.3 IPv4 loopback", "http://127.0.0.1/callback", true},
		{"RFC 8252 §7.3 another IPv4 loopback, with a port", "http://127.0.0.2:8080/callback", true},
		{"RFC 8252 §7.3 IPv6 loopback", "http://[::1]:8080/callback", true},
		{"RFC 8252 §8.3 localhost", "http://localhost/callback", true},
		{"RFC 6761 §6.3 a name below localhost", "http://app.localhost:8080/callback", true},
		{"RFC 8252 §7.1 private-use scheme", "com.example.app:/oauth2redirect", true},
		{"RFC 8252 §7.1 private-use scheme with a host", "com.example.app://callback", true},
		{"out of band", "urn:ietf:wg:oauth:2.0:oob:auto", true},

		{"RFC 6749 §3.1.2 relative", "/callback", false},
		{"RFC 6749 §3.1.2 without a scheme", "//app.example.com/callback", false},
		{"RFC 6749 §3.1.2 host only", "app.example.com", false},
		{"RFC 6749 §3.1.2 nothing", "", false},
		{"RFC 6749 §3.1.2 fragment", "https://app.example.com/callback#x", false},
		{"RFC 6749 §3.1.2 empty fragment", "https://app.example.com/callback#", false},
		{"RFC 6749 §3.1.2.1 http on another host", "http://app.example.com/callback", false},
		{"RFC 8252 §7.1 scheme without a period", "myapp:/callback", false},
		{"RFC 8252 §7.1 javascript", "javascript:alert(1)", false},
		{"RFC 8252 §7.1 data", "data:text/html,x", false},
		{"RFC 8252 §7.1 file", "file:///tmp/x", false},
		{"other things out of band", "urn:ietf:wg:oauth:2.0:oob:other", false},
		{"https without a host", "https:///callback", false},
		{"https with a port and no host", "https://:443/callback", false},
		{"https that is opaque", "https:app.example.com", false},
		{"https with one slash", "https:/app.example.com", false},
		{"user name", "https://alice@app.example.com/", false},
		{"empty user name", "https://@app.example.com/", false},
		{"backslash before another host", `https://app.example.com\@evil.example/`, false},
		{"backslash in the host", `https://evil.example\.app.example.com/`, false},
		{"backslashes for slashes", `https:\\app.example.com/`, false},
		{"port that is no number", "https://app.example.com:x/", false},
		{"loopback as the beginning of another host", "http://127.0.0.1.evil.example/", false},
		{"loopback as a user name", "http://127.0.0.1@evil.example/", false},
		{"loopback as a user name and password", "http://localhost:80@evil.example/", false},
		{"localhost as the end of another host", "http://evil-localhost/", false},
		{"all addresses", "http://0.0.0.0/", false},
		{"loopback in one number", "http://2130706433/", false},
		{"wildcard", "https://*.example.com/", false},
		{"white space", "https://app.example.com/ callback", false},
		{"white space before it", " https://app.example.com/", false},
		{"line end", "https://app.example.com/\r\nSet-Cookie: x", false},
		{"NUL", "https://app.example.com/\x00", false},
		{"DEL", "https://app.example.com/\x7f", false},
		{"bad escape", "https://app.example.com/%zz", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := CheckRedirect(c.uri); (err == nil) != c.want {
				t.Errorf("%q: got error %v, want accepted: %v", c.uri, err, c.want)
			}
		})
	}
}

func TestMatchRedirect(t *testing.T) {
	const web, app = "https://app.example.com/cb", "com.example.app:/cb"
	registered := []string{
		web, app, "http://127.0.0.1/cb", "http://[::1]:1/cb?x=y", "http://localhost:8080/cb", "http://app.localhost/cb",
	}
	for _, c := range []struct {
		name, uri string
		want      bool
	}{
		{"RFC 9700 §2.1 identical", web, true},
		{"RFC 9700 §2.1 identical, private-use scheme", app, true},
		{"RFC 8252 §7.3 any port", "http://127.0.0.1:49152/cb", true},
		{"RFC 8252 §7.3 no port instead of a registered one", "http://[::1]/cb?x=y", true},
		{"RFC 8252 §7.3 another port than the registered one", "http://[::1]:49152/cb?x=y", true},
		{"RFC 8252 §8.3 any port of localhost", "http://localhost:49152/cb", true},
		{"RFC 6761 §6.3 any port of a name below localhost", "http://app.localhost:49152/cb", true},

		{"RFC 9700 §2.1 longer path", web + "/x", false},
		{"RFC 9700 §2.1 shorter", web[:len(web)-1], false},
		{"RFC 9700 §2.1 trailing slash", web + "/", false},
		{"RFC 9700 §2.1 further query", web + "?x=y", false},
		{"RFC 9700 §2.1 fragment", web + "#", false},
		{"RFC 9700 §2.1 dot segment", "https://app.example.com/x/../cb", false},
		{"RFC 9700 §2.1 host in another case", "https://APP.example.com/cb", false},
		{"RFC 9700 §2.1 scheme in another case", "HTTPS://app.example.com/cb", false},
		{"RFC 9700 §2.1 escaped", "https://app.example.com/%63b", false},
		{"RFC 9700 §2.1 its standard port", "https://app.example.com:443/cb", false},
		{"RFC 9700 §2.1 http for https", "http://app.example.com/cb", false},
		{"RFC 9700 §2.1 other private-use scheme", "com.example.app2:/cb", false},
		{"nothing", "", false},

		{"RFC 8252 §7.3 https on the loopback address", "https://127.0.0.1:49152/cb", false},
		{"RFC 8252 §7.3 another loopback address", "http://127.0.0.2/cb", false},
		{"RFC 8252 §7.3 localhost for the address", "http://localhost/cb?x=y", false},
		{"RFC 6761 §6.3 another name below localhost", "http://other.localhost:49152/cb", false},
		{"RFC 8252 §7.3 another path", "http://127.0.0.1:49152/cb2", false},
		{"RFC 8252 §7.3 another query", "http://[::1]:49152/cb?x=z", false},
		{"RFC 8252 §7.3 no query", "http://[::1]:49152/cb", false},
		{"RFC 8252 §7.3 fragment", "http://127.0.0.1:49152/cb#x", false},
		{"RFC 8252 §7.3 empty fragment", "http://127.0.0.1:49152/cb#", false},
		{"RFC 8252 §7.3 user name", "http://x@127.0.0.1:49152/cb", false},
		{"RFC 8252 §7.3 empty user name", "http://@127.0.0.1:49152/cb", false},
		{"the address as a user name", "http://127.0.0.1:80@evil.example/cb", false},
		{"the address and a backslash", `http://127.0.0.1\@evil.example/cb`, false},
		{"the address, a port and a backslash", `http://127.0.0.1:80\.evil.example/cb`, false},
		{"a port that is no number", "http://127.0.0.1:x/cb", false},
		{"two ports", "http://127.0.0.1:80:80/cb", false},
		{"the address as the beginning of a name", "http://127.0.0.1.evil.example/cb", false},
		{"the address escaped", "http://%3127.0.0.1/cb", false},
		{"a zone", "http://[::1%25lo]:1/cb?x=y", false},
		{"white space after it", "http://127.0.0.1/cb ", false},
		{"another path by a backslash", `http://127.0.0.1\cb`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := MatchRedirect(registered, c.uri); got != c.want {
				t.Errorf("%q: got %v, want %v", c.uri, got, c.want)
			}
		})
	}
}

func FuzzCheckRedirect(f *testing.F) {
	for _, seed := range []string{
		"https://app.example.com/cb", "http://127.0.0.1:1/cb", "http://[::1]/", "com.example.app:/cb", OutOfBandAuto,
		`https://a\@b/`, "https://a@b/", "https:a", "https://:1/", "HTTPS://a/", "http://localhost:80@b/", "http://a.localhost/", `http://b\.localhost/`, "https://[v1.a]/", "//a/", "a.b:#",
	} {
		f.Add(seed)
	}
	loopback := regexp.MustCompile(`^(?i:http)://((?:[0-9A-Za-z_-]+\.)*localhost|127(\.\d+){3}|\[[0-9a-fA-F:.]+\])(:\d*)?([/?]|$)`)
	f.Fuzz(func(t *testing.T, uri string) {
		if CheckRedirect(uri) != nil || IsOutOfBand(uri) {
			return
		}
		if strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' }) {
			t.Errorf("%q has a fragment or white space", uri)
		}
		scheme, rest, _ := strings.Cut(uri, ":")
		switch scheme = strings.ToLower(scheme); scheme {
		case "http":
			if !loopback.MatchString(uri) {
				t.Errorf("%q leads off this device", uri)
			}
		case "https":
			// What browsers and this server take for the host must be the same.
			authority, ok := strings.CutPrefix(rest, "//")
			if end := strings.IndexAny(authority, "/?"); end >= 0 {
				authority = authority[:end]
			}
			if !ok || strings.TrimLeft(authority, ":0123456789") == "" && !strings.ContainsAny(authority, "0123456789") ||
				strings.HasPrefix(authority, ":") || strings.ContainsAny(authority, `@\%`) {
				t.Errorf("%q has the authority %q", uri, authority)
			}
		default:
			if !strings.Contains(scheme, ".") {
				t.Errorf("%q is no app's own", uri)
			}
		}
		if !MatchRedirect([]string{uri}, uri) {
			t.Errorf("%q does not match itself", uri)
		}
	})
}

// A match is either equal byte by byte, or both lead to one loopback host and differ in the port only.
func FuzzMatchRedirect(f *testing.F) {
	for _, seed := range [][2]string{
		{"https://app.example.com/cb", "https://app.example.com/cb"},
		{"http://127.0.0.1/cb", "http://127.0.0.1:49152/cb"},
		{"http://127.0.0.1:1/cb", "http://127.0.0.1:/cb"},
		{"http://[::1]/cb", "http://[::1]:1/cb"},
		{"http://localhost/cb", "http://localhost:80@evil.example/cb"},
		{"http://localhost/cb", `http://localhost:1\cb`},
		{"http://localhost/cb", "http://localhost/cb#"},
		{"http://localhost/@evil.example", "http://localhost:1/@evil.example"},
		{"http://localhost?x", "http://localhost:1?x"},
		{"com.example.app:/cb", "com.example.app:1/cb"},
	} {
		f.Add(seed[0], seed[1])
	}
	parts := regexp.MustCompile(`(?s)^http://((?:[0-9A-Za-z_-]+\.)*localhost|127(?:\.\d+){3}|\[[0-9a-fA-F:.]+\])(?::\d*)?((?:[/?][^#]*)?)$`)
	f.Fuzz(func(t *testing.T, registered, uri string) {
		if CheckRedirect(registered) != nil || !MatchRedirect([]string{registered}, uri) {
			return
		}
		if registered == uri {
			return
		}
		one, two := parts.FindStringSubmatch(registered), parts.FindStringSubmatch(uri)
		if one == nil || two == nil || one[1] != two[1] || one[2] != two[2] {
			t.Errorf("%q matches the registered %q", uri, registered)
		}
	})
}
