package caddyoauth_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// examples returns the Caddyfiles that come with the module.
func examples(t *testing.T) []string {
	t.Helper()
	more, err := filepath.Glob("examples/*.Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	return append(more, "Caddyfile.example")
}

func TestExamplesAreFormatted(t *testing.T) {
	for _, name := range examples(t) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		formatted := caddyfile.Format(text)
		if !bytes.Equal(formatted, text) {
			t.Errorf("%s: expected as caddy fmt has it:\n%s", name, formatted)
		}
		if again := caddyfile.Format(formatted); !bytes.Equal(again, formatted) {
			t.Errorf("%s: caddy fmt changes it the second time:\n%s", name, again)
		}
	}
}

func TestExampleIsValid(t *testing.T) {
	if output, ok := caddyCommand(t, t.TempDir(), "validate", "--adapter", "caddyfile", "--config", "Caddyfile.example"); !ok {
		t.Error(output)
	}
}
