package guides

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/internal/testneeds"
)

// TestKeyInsteadOfSecret makes the keys of the guide with openssl, and gets a token with its program for Node.
func TestKeyInsteadOfSecret(t *testing.T) {
	const guide = "keys-instead-of-secrets.md"
	testneeds.Program(t, "openssl", "openssl")
	node, dir := nodeProject(t)
	if output, err := integration.Output(t.Context(), dir, nil, "sh", "-ec", snippet(t, guide, "sh")); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	s := integration.Start(t, integration.Config{
		Sites: strings.NewReplacer(
			"https://billing.example.com", "{$ISSUER}", "billing.example.com {", "{$SITE} {", "/etc/caddy", dir,
		).Replace(snippet(t, guide, "caddyfile")),
		Secrets: new(integration.Secrets),
	})
	program := strings.Replace(snippet(t, guide, "js"), // the issuer of the test has no https
		"{ algorithm: 'oauth2' }", "{ algorithm: 'oauth2', execute: [client.allowInsecureRequests] }", 1)
	must(t, os.WriteFile(filepath.Join(dir, "main.mjs"), []byte(program), 0o600))
	get := func() (string, error) {
		return integration.Output(t.Context(), dir, []string{"ISSUER=" + s.URL}, node, "main.mjs")
	}
	token, err := get()
	if err != nil || strings.Count(token, ".") != 2 {
		t.Fatalf("got %v\n%s", err, token)
	}
	s.Secrets.Add(strings.TrimSpace(token))

	// Another key, which the issuer does not know.
	if output, err := integration.Output(t.Context(), dir, nil, "sh", "-ec", snippet(t, guide, "sh")); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if output, err := get(); err == nil || !strings.Contains(output, "status: 401") {
		t.Errorf("with another key: got %v\n%s", err, output)
	}
}
