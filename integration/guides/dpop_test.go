package guides

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// TestDPoP gets a token that is bound to a key, and uses it, with the program of the guide for Node.
func TestDPoP(t *testing.T) {
	const guide = "dpop.md"
	node, dir := nodeProject(t)
	secrets := new(integration.Secrets)
	secrets.Add(billingSecret)
	s := integration.Start(t, integration.Config{
		Sites: strings.NewReplacer("https://ledger.example.com", "{$ISSUER}", "ledger.example.com {", "{$SITE} {", "reverse_proxy app:8080", "respond ok").
			Replace(snippet(t, guide, "caddyfile")),
		Secrets: secrets,
		Env:     []string{"BILLING_SECRET=" + billingSecret},
	})
	program := strings.Replace(snippet(t, guide, "js"), // the issuer of the test has no https
		"{ algorithm: 'oauth2' }", "{ algorithm: 'oauth2', execute: [client.allowInsecureRequests] }", 1)
	must(t, os.WriteFile(filepath.Join(dir, "main.mjs"), []byte(program), 0o600))
	output, err := integration.Output(t.Context(), dir, []string{"ISSUER=" + s.URL, "BILLING_SECRET=" + billingSecret}, node, "main.mjs")
	if err != nil || strings.TrimSpace(strings.ToLower(output)) != "dpop 200" {
		t.Errorf("got %v\n%s", err, output)
	}
}
