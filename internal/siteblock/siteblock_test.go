package siteblock

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
)

func site(addresses ...string) *Site {
	s := new(Site)
	for _, address := range addresses {
		s.block.Keys = append(s.block.Keys, caddyfile.Token{Text: address})
	}
	return s
}

func TestOrigin(t *testing.T) {
	for _, tt := range []struct {
		issuer    string
		addresses []string
		want      string
	}{
		{"", []string{"shop.example"}, "https://shop.example"},
		{"", []string{"shop.example:80"}, "http://shop.example"},
		{"", []string{"http://shop.example:8080"}, "http://shop.example:8080"},
		{"", []string{"https://shop.example:443"}, "https://shop.example"},
		{"", []string{"shop.example", "www.shop.example"}, ""},
		{"", []string{"*.example"}, ""},
		{"", []string{":8080"}, ""},
		{"https://shop.example/login", []string{"http://SHOP.example:8080", "other.example"}, "https://shop.example"}, // behind a proxy
		{"https://shop.example", []string{":8080"}, "https://shop.example"},
		{"https://login.example", []string{"shop.example"}, "https://shop.example"},
		{"{env.ISSUER}", []string{"shop.example"}, "https://shop.example"},
	} {
		if got := site(tt.addresses...).Origin(tt.issuer); got != tt.want {
			t.Errorf("%s with the issuer %q: %q, want %q", tt.addresses, tt.issuer, got, tt.want)
		}
	}
}

func TestDiffers(t *testing.T) {
	for _, tt := range []struct {
		issuer    string
		addresses []string
		want      string
	}{
		{"https://shop.example", []string{"shop.example"}, ""},
		{"https://shop.example", []string{"other.example", "shop.example"}, ""},
		{"https://shop.example", []string{"other.example", "third.example"}, "host"},
		{"https://shop.example:8443", []string{"shop.example"}, "port"},
		{"http://localhost", []string{"localhost"}, "scheme"},
		{"https://shop.example", []string{"http://shop.example:8080"}, ""}, // behind a proxy
		{"https://shop.example", []string{":8080"}, ""},
		{"https://shop.example", []string{"*.example"}, ""},
		{"{env.ISSUER}", []string{"shop.example"}, ""},
	} {
		if got, _ := site(tt.addresses...).Differs(tt.issuer); got != tt.want {
			t.Errorf("%s with the issuer %q: %q, want %q", tt.addresses, tt.issuer, got, tt.want)
		}
	}
	moved := site("shop.example")
	moved.ownPorts = true
	if got, _ := moved.Differs("https://shop.example:8443"); got != "" {
		t.Errorf("with http_port or https_port, the port of an address says nothing, got %q", got)
	}
}

// What Caddy has taken out of a directive is in the file.
func TestFileHasWhatCaddyTookOut(t *testing.T) {
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte("shop.example {\n\tbasic_auth /admin {\n\t\talice secret\n\t}\n\tforward_auth {$UPSTREAM:secret}\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	line := func(name string, number int) directive.Line {
		return directive.Line{File: file, Number: number, Words: []string{name}}
	}
	for _, tt := range []struct {
		line    directive.Line
		matcher bool
		word    bool
	}{
		{line("basic_auth", 2), true, false},
		{line("alice", 3), false, true},
		{line("forward_auth", 5), false, false}, // the word is a default
		{line("forward_auth", 50), true, false},
	} {
		if matcher, word := HasMatcher(tt.line), HasWord(tt.line, "secret"); matcher != tt.matcher || word != tt.word {
			t.Errorf("%s in line %d: a matcher %v, the word %v", tt.line.Words[0], tt.line.Number, matcher, word)
		}
	}
	if ReadFile(file+".none") != nil {
		t.Error("a file that is not there has lines")
	}
}
