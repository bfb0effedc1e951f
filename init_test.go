package caddyoauth_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What init writes is a Caddyfile that Caddy loads, and that passes the check.
func TestInitWritesACaddyfile(t *testing.T) {
	s := newServer(t)
	for _, tt := range []struct {
		name, stdin string
		args        []string
		want        []string
	}{
		{"only the questions", "\n\n\n\n\n", nil, []string{"https://example.com", "forward_auth", "redirect_uris https://app.example.com/callback", "oauth_guard /api/*"}},
		{
			"a wrong answer is asked again", "ftp://x\nhttp://localhost:8080\n\n\n\n\n", nil,
			[]string{"http://localhost:8080"},
		},
		{
			"an app by flags", "",
			[]string{"--url", "https://shop.example", "--upstream", "app:8080", "--login", "/me", "--client", "phone com.example.shop:/callback", "--guard", "/v1/*"},
			[]string{"https://shop.example", "reverse_proxy app:8080", "uri /me", "redirect_uris com.example.shop:/callback", "oauth_guard /v1/*"},
		},
		{
			"a script by flags", "",
			[]string{"--url", "https://shop.example", "--upstream", "app:8080", "--login", "none", "--client", "billing", "--guard", "/v1/*"},
			[]string{"client billing", "secret {file./", "billing.secret}"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "Caddyfile")
			out, err := s.command(t, tt.stdin, append([]string{"init", "--output", name}, tt.args...)...)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range tt.want {
				if !strings.Contains(string(text), want) {
					t.Errorf("expected %q in\n%s", want, text)
				}
			}
			if output, ok := caddyCommand(t, t.TempDir(), "validate", "--adapter", "caddyfile", "--config", name); !ok {
				t.Errorf("%s\n%s", text, output)
			}
			if report, status := s.check(t, "--offline", "--config", name); status != 0 {
				t.Errorf("the check: %+v\n%s", report, text)
			}
			if secret, err := os.ReadFile(filepath.Join(filepath.Dir(name), "billing.secret")); err == nil {
				if len(secret) < 43 || strings.Contains(out+string(text), strings.TrimSpace(string(secret))) {
					t.Errorf("the secret is short, or is in\n%s\n%s", out, text)
				}
			}
			if out, err := s.command(t, tt.stdin, append([]string{"init", "--output", name}, tt.args...)...); err == nil || !strings.Contains(out, "is there already") {
				t.Errorf("a second time: %v\n%s", err, out)
			}
		})
	}
	app := []string{"init", "--output", "-", "--url", "https://shop.example", "--upstream", "app:8080", "--guard", "/v1/*"}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{append(app, "--login", "none", "--client", "app https://a.example"), "an app for people needs a login"},
		{append(app, "--login", "whoami", "--client", "app"), "--login: expected a path"},
		{append(app, "--login", "/me", "--client", "app javascript:alert"), "redirect_uris: expected"},
		{append(app, "--login", "/me"), "no answer; give it with --client"},
	} {
		if out, err := s.command(t, "", tt.args...); err == nil || !strings.Contains(out, tt.want) {
			t.Errorf("%v: %v, expected %q in\n%s", tt.args, err, tt.want, out)
		}
	}
}
