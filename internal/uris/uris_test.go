package uris

import "testing"

func TestIsLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost":         true,
		"app.localhost":     true,
		"a.b-c_d.localhost": true,
		"127.0.0.1":         true,
		"127.1.2.3":         true,
		"::1":               true,
		"::ffff:127.0.0.1":  true,

		"":                         false,
		".localhost":               false,
		"a..localhost":             false,
		"localhost.":               false,
		"localhost.example":        false,
		"evil-localhost":           false,
		"evil.example／.localhost":  false,
		"evil.example\\.localhost": false,
		"localhost:8080":           false,
		"127.0.0.1.example":        false,
		"127.1":                    false,
		"2130706433":               false,
		"0.0.0.0":                  false,
		"::":                       false,
		"::1%lo":                   false,
		"[::1]":                    false,
		"10.0.0.1":                 false,
	} {
		if got := IsLoopback(host); got != want {
			t.Errorf("%q: got %v, want %v", host, got, want)
		}
	}
}

func TestCheckIssuer(t *testing.T) {
	for uri, want := range map[string]bool{
		"https://example.com":            true,
		"https://example.com:8443/a/b-c": true,
		"https://example.com/":           true,
		"http://localhost:8080":          true,
		"http://shop.localhost":          true,
		"http://127.0.0.1":               true,
		"http://[::1]:8080":              true,

		"":                          false,
		"example.com":               false,
		"http://example.com":        false,
		"http://localhost.example":  false,
		"ftp://example.com":         false,
		"https://:8443":             false,
		"https:example.com":         false,
		"https://alice@example.com": false,
		"https://example.com?":      false,
		"https://example.com#x":     false,
		"https://example.com//a":    false,
		"https://example.com/../a":  false,
		"https://example.com/a%20b": false,
		"https://Example.com":       false,
		"HTTPS://example.com":       false,
	} {
		if err := CheckIssuer(uri); (err == nil) != want {
			t.Errorf("%q: got error %v, want accepted: %v", uri, err, want)
		}
	}
}

func TestIssuerName(t *testing.T) {
	for issuerURL, want := range map[string]string{
		"https://example.com":         "example.com",
		"https://example.com/":        "example.com",
		"https://example.com/shop/v1": "example.com-shop-v1",
		"http://localhost:8080":       "localhost-8080",
		"http://[::1]:8080/shop":      "1-8080-shop",
		"https://":                    "",
		"https://exa mple.com":        "",
	} {
		if got := IssuerName(issuerURL); got != want {
			t.Errorf("%s: %q, want %q", issuerURL, got, want)
		}
	}
}
