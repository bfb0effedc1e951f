package cimd

import (
	"net/url"
	"strings"
	"testing"
)

func TestCheckID(t *testing.T) {
	for id, want := range map[string]bool{
		"https://app.example.com/client.json":                      true,
		"https://chatgpt.com/oauth/a-b_c/client.json":              true,
		"https://claude.ai/oauth/claude-code-client-metadata":      true,
		"https://vscode.dev/oauth/client-metadata.json":            true,
		"https://app.example.com:8443/client":                      true,
		"https://app.example.com:443/client":                       true,
		"https://app.example.com/a//b":                             true,
		"https://app.example.com/a%20b":                            true,
		"https://app.example.com/..a/b..":                          true,
		"https://app.example.com/client?version=1":                 true,
		"https://xn--bcher-kva.example/client":                     true,
		"https://app.example.com/@user":                            true,
		"https://app.example.com/" + strings.Repeat("a", maxID-24): true,
		"https://app.example.com/" + strings.Repeat("a", maxID-23): false,
		"":                                        false,
		"app":                                     false,
		"https:":                                  false,
		"https://":                                false,
		"https://app.example.com":                 false,
		"https://app.example.com/":                false,
		"https://app.example.com?x":               false,
		"https://app.example.com/#":               false,
		"https://app.example.com/a#b":             false,
		"https://app.example.com/a?":              true,
		"http://app.example.com/client":           false,
		"http://localhost/client":                 false,
		"http://127.0.0.1/client":                 false,
		"HTTPS://app.example.com/client":          false,
		"Https://app.example.com/client":          false,
		"https://App.example.com/client":          false,
		"https://app.example.com./client":         false,
		"https://.app.example.com/client":         false,
		"https://app..example.com/client":         false,
		"https://app.example.com:/client":         false,
		"https://app.example.com:0/client":        false,
		"https://app.example.com:0443/client":     false,
		"https://app.example.com:65536/a":         false,
		"https://user@app.example.com/client":     false,
		"https://user:pw@app.example.com/a":       false,
		"https://@app.example.com/client":         false,
		"https://app.example.com@evil.example/a":  false,
		"https://app.example.com%40evil.example/": false,
		"https://app.example.com/./client":        false,
		"https://app.example.com/a/..":            false,
		"https://app.example.com/../a":            false,
		"https://app.example.com/%2e%2e/a":        false,
		"https://app.example.com/%2E/a":           false,
		"https://app.example.com/.%2e/a":          false,
		"https://app.example.com/%252e%252e/a":    false,
		"https://app.example.com/a%2f..%2fb":      false,
		"https://app.example.com/a%5c..%5cb":      false,
		`https://app.example.com/a\..\b`:          false,
		`https://app.example.com\@evil.example/a`: false,
		"https:/app.example.com/a":                false,
		"https:///app.example.com/a":              false,
		"https:app.example.com/a":                 false,
		"https://app.example.com/%zz":             false,
		"https://app.example.com/a b":             false,
		"https://app.example.com/a\n":             false,
		" https://app.example.com/a":              false,
		"https://app.example.com/é":               false,
		"https://bücher.example/a":                false,
		"https://аpp.example.com/a":               false, // Cyrillic
		"https://127.0.0.1/a":                     false,
		"https://93.184.216.34/a":                 false,
		"https://2130706433/a":                    false,
		"https://0x7f.1/a":                        false,
		"https://017700000001/a":                  false,
		"https://[::1]/a":                         false,
		"https://[2606:2800::1]/a":                false,
		"https://[fe80::1%25eth0]/a":              false,
		"https://localhost/a":                     false,
		"https://app.localhost/a":                 false,
		"ftp://app.example.com/a":                 false,
		"javascript:alert(1)":                     false,
	} {
		if err := checkID(id, false); (err == nil) != want {
			t.Errorf("%q: %v", id, err)
		}
	}
	for id, want := range map[string]bool{
		"http://localhost:8080/client": true, "http://127.0.0.1/client": true, "https://127.0.0.1:8443/client": true, "http://[::1]:1/client": true,
		"http://app.localhost/client": true, "https://app.example.com/client": true,
		"http://app.example.com/client": false, "http://localhost/": false, "http://localhost.example/a": false, "http://10.0.0.1/a": false,
		"https://10.0.0.1/a": false, "http://localhost@evil.example/a": false, "HTTP://localhost/a": false, "http://0.0.0.0/a": false,
	} {
		if err := checkID(id, true); (err == nil) != want {
			t.Errorf("on loopback, %q: %v", id, err)
		}
	}
}

func TestIsURL(t *testing.T) {
	for id, want := range map[string]bool{
		"https://a/b": true, "HTTPS://a": true, "http://localhost": true, "https:": true, "httpx": false, "": false, "app": false, "urn:a": false,
	} {
		if IsURL(id) != want {
			t.Error(id)
		}
	}
}

func TestPolicy(t *testing.T) {
	for _, c := range []struct {
		policy Policy
		host   string
		want   bool
	}{
		{Policy{}, "a.example", true},
		{Policy{Allow: []string{"a.example"}}, "a.example", true},
		{Policy{Allow: []string{"A.Example"}}, "a.example", true},
		{Policy{Allow: []string{"a.example"}}, "b.a.example", false},
		{Policy{Allow: []string{"a.example"}}, "xa.example", false},
		{Policy{Allow: []string{"*.a.example"}}, "b.a.example", true},
		{Policy{Allow: []string{"*.a.example"}}, "c.b.a.example", true},
		{Policy{Allow: []string{"*.a.example"}}, "a.example", false},
		{Policy{Allow: []string{"*.a.example"}}, "xa.example", false},
		{Policy{Deny: []string{"a.example"}}, "a.example", false},
		{Policy{Deny: []string{"a.example"}}, "b.example", true},
		{Policy{Deny: []string{"*.a.example"}}, "b.a.example", false},
		{Policy{Allow: []string{"*.a.example"}, Deny: []string{"b.a.example"}}, "b.a.example", false},
		{Policy{Allow: []string{"*.a.example"}, Deny: []string{"b.a.example"}}, "c.a.example", true},
	} {
		if got := c.policy.permit(c.host) == nil; got != c.want {
			t.Errorf("%+v, %s: %v", c.policy, c.host, got)
		}
	}
	for host, want := range map[string]bool{
		"a.example": true, "*.a.example": true, "A.example": true, "localhost": true, "127.0.0.1": true,
		"": false, "*": false, "a.*.example": false, "https://a.example": false, "a.example/": false, "a.example:443": false, "a example": false,
	} {
		if err := (Policy{Allow: []string{host}}).Check(); (err == nil) != want {
			t.Errorf("%q: %v", host, err)
		}
		if err := (Policy{Deny: []string{host}}).Check(); (err == nil) != want {
			t.Errorf("%q: %v", host, err)
		}
	}
}

// What is accepted is read by everybody in the same way.
func FuzzCheckID(f *testing.F) {
	for _, seed := range []string{
		"https://app.example.com/client.json", "https://a@b/c", "https://a:443/%2e%2e/c", "http://localhost:1/a", "https://[::1]/a", "https://a/b?c=d",
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, id string, loopback bool) {
		if checkID(id, loopback) != nil {
			return
		}
		u, err := url.Parse(id)
		if err != nil || u.String() != id || u.User != nil || u.Fragment != "" || u.Host == "" || u.Host != strings.ToLower(u.Host) || len(u.Path) < 2 {
			t.Errorf("%q is %#v", id, u)
		}
		if !loopback && u.Scheme != "https" || !IsURL(id) {
			t.Errorf("%q has another scheme", id)
		}
		if strings.ContainsAny(id, "\\ #\"<>^`{|}") || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			t.Errorf("%q has other characters", id)
		}
		if rest := strings.SplitN(id, "/", 4); len(rest) != 4 || rest[2] != u.Host {
			t.Errorf("%q has another host than %s", id, u.Host)
		}
		if resolved := u.JoinPath().Path; strings.Contains("/"+u.Path+"/", "/../") || strings.Contains("/"+u.Path+"/", "/./") {
			t.Errorf("%q leads to %s", id, resolved)
		}
	})
}

// No document makes a panic, or a client that is not its own.
func FuzzDocument(f *testing.F) {
	const id = "https://app.example.com/client.json"
	for _, seed := range []string{
		`{"client_id":"` + id + `","client_name":"a","redirect_uris":["https://a.example/"]}`,
		`{"client_id":"` + id + `","client_name":"a","redirect_uris":["http://127.0.0.1/"],"jwks":{"keys":[]},"client_secret":null}`,
		`{"Client_ID":"` + id + `"}`, `[]`, ``, `null`, `{"client_id":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := parse(id, body)
		if err != nil {
			return
		}
		if m.ClientID != id || len(m.RedirectURIs) == 0 || m.ClientName == "" || m.HasSecret {
			t.Errorf("%q: %+v", body, m)
		}
		if changed(body, body) {
			t.Errorf("%q is not the same as itself", body)
		}
	})
}
