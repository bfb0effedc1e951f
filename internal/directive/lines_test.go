package directive_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
)

func TestFindSettings(t *testing.T) {
	dir := t.TempDir()
	part := filepath.Join(dir, "clients")
	if err := os.WriteFile(part, []byte("client imported {\n\tscopes a\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := `{
	oauth {
		issuer shop https://shop.example {
			client app {
				redirect_uris https://app.example/cb
				secret "{" x
			}
			import ` + part + `
		}
		issuer staff https://staff.example {
			client app {
				redirect_uris https://b.example/cb https://c.example/cb
			}
		}
	}
}

shop.example {
	oauth shop {
		user {rp.header.Remote-User}
	}
	oauth_guard /api/* {
		scopes a
	}
}
`
	lines, err := directive.ReadLines("Caddyfile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path  []string
		want  string
		whole bool
	}{
		{[]string{"issuer shop", "client app", "redirect_uris"}, "Caddyfile:5", true},
		{[]string{"issuer shop", "client app", "secret"}, "Caddyfile:6", true},
		{[]string{"issuer staff", "client app", "redirect_uris"}, "Caddyfile:12", true},
		{[]string{"issuer staff", "client app", "scopes"}, "Caddyfile:11", false},
		{[]string{"client imported", "scopes"}, "clients:2", true},
		{[]string{"oauth", "user"}, "Caddyfile:20", true},
		{[]string{"oauth_guard", "scopes"}, "Caddyfile:23", true},
		{[]string{"oauth_guard", "audience"}, "Caddyfile:22", false},
	} {
		line, whole, ok := directive.Find(lines, tt.path...)
		if got := fmt.Sprintf("%s:%d", filepath.Base(line.File), line.Number); !ok || got != tt.want || whole != tt.whole {
			t.Errorf("%v is at %s, whole %v; want %s, %v", tt.path, got, whole, tt.want, tt.whole)
		}
	}
	if line, _, ok := directive.Find(lines, "nothing"); ok {
		t.Errorf("nothing is at %v", line)
	}
	if _, err := directive.ReadLines("Caddyfile", []byte("{")); err == nil {
		t.Error("no error in a broken Caddyfile")
	}
}

func TestNearest(t *testing.T) {
	names := []string{"clients", "grants", "revoke", "keys", "explain"}
	for word, want := range map[string]string{
		"client": "clients", "revoek": "revoke", "key": "keys", "explian": "explain", "bogus": "", "": "",
	} {
		if got, _ := directive.Nearest(word, names); got != want {
			t.Errorf("nearest to %q is %q, want %q", word, got, want)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	names := []string{"audience", "grant_types", "name", "redirect_uris", "scopes", "secret"}
	for word, want := range map[string]string{
		"redirect_uri":   " (did you mean redirect_uris?)",
		"scope":          " (did you mean scopes?)",
		"secrte":         " (did you mean secret?)",
		"secret_file":    " (did you mean secret {file./path/of/the/file}?)",
		"response_types": " (did you mean grant_types?)",
		"callback_url":   " (did you mean redirect_uris?)",
		"ttl":            "", // there is no lifetime here
		"zebra":          "",
	} {
		if got := directive.DidYouMean(word, names); got != want {
			t.Errorf("%s: got %q, want %q", word, got, want)
		}
	}
}
