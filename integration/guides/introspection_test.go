package guides

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// introspectionProgram prints what the function of the guide says.
const introspectionProgram = `
import { introspect } from './introspect.mjs'
console.log(JSON.stringify(await introspect(process.env.TOKEN)))
`

// TestIntrospectionAsJWT checks signed answers (RFC 9701) with the function of the guide: the library finds the key in our JWK set.
func TestIntrospectionAsJWT(t *testing.T) {
	node, dir := nodeProject(t)
	text := snippet(t, "resource-servers.md", "javascript")
	must(t, os.WriteFile(filepath.Join(dir, "introspect.mjs"), []byte(text), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "introspection.mjs"), []byte(introspectionProgram), 0o600))
	s := issuer(t)
	ask := func(token string, env ...string) (string, error) {
		return integration.Output(t.Context(), dir, append(env, "ISSUER="+s.URL, "ORDERS_API_SECRET="+apiSecret, "TOKEN="+token), node, "introspection.mjs")
	}
	good := token(t, s, api)
	if got, err := ask(good); err != nil || !strings.Contains(got, `"active":true`) || !strings.Contains(got, `"client_id":"billing"`) {
		t.Errorf("a token for the API: %v %s", err, got)
	}
	for _, other := range []string{token(t, s, s.URL), "garbage"} {
		if got, err := ask(other); err != nil || strings.TrimSpace(got) != `{"active":false}` {
			t.Errorf("a token that is not for the API: %v %s", err, got)
		}
	}
	// The checks of the guide are checks: an answer for another client, and one that another issuer has signed.
	must(t, os.WriteFile(filepath.Join(dir, "introspect.mjs"), []byte(strings.Replace(text, "audience: 'orders-api'", "audience: 'billing'", 1)), 0o600))
	if got, err := ask(good); err == nil || !strings.Contains(got, "aud") {
		t.Errorf("an answer for another client: %v %s", err, got)
	}
	other := issuer(t)
	must(t, os.WriteFile(filepath.Join(dir, "introspect.mjs"), []byte(strings.Replace(text, "new URL(issuer +", "new URL(process.env.STRANGER +", 1)), 0o600))
	if got, err := ask(good, "STRANGER="+other.URL); err == nil || !strings.Contains(got, "JWKSNoMatchingKey") {
		t.Errorf("with the keys of another issuer: %v %s", err, got)
	}
}
