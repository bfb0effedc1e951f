package authserver

import (
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/uris"
)

// The response is added to the registered redirect URI, and removes nothing from it (RFC 6749 §3.1.2).
func TestWithParams(t *testing.T) {
	params := [][2]string{{"code", "a+b&c=d#e f"}, {"iss", "https://example.com"}}
	const added = "code=a%2Bb%26c%3Dd%23e+f&iss=https%3A%2F%2Fexample.com"
	for uri, want := range map[string]string{
		"https://app.example.com":            "https://app.example.com?" + added,
		"https://app.example.com/cb":         "https://app.example.com/cb?" + added,
		"https://app.example.com/cb?x=%20&y": "https://app.example.com/cb?x=%20&y&" + added,
		"https://app.example.com/cb?":        "https://app.example.com/cb?&" + added,
		"com.example.app:/cb":                "com.example.app:/cb?" + added,
	} {
		if got := withParams(uri, params); got != want {
			t.Errorf("%s: got %s, want %s", uri, got, want)
		}
	}
}

func FuzzWithParams(f *testing.F) {
	for _, seed := range []string{"https://app.example.com/cb?x=%20", "http://[::1]/", "com.example.app:/cb", "https://a/?"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		if uris.CheckRedirect(uri) != nil || uris.IsOutOfBand(uri) {
			return
		}
		answered, err := url.Parse(withParams(uri, [][2]string{{"code", "a b"}}))
		if err != nil || answered.Query().Get("code") != "a b" && !strings.Contains(uri, "?") {
			t.Errorf("%q is answered at %v, error %v", uri, answered, err)
		}
	})
}
