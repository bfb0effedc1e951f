package openid

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
)

// boundSite requires of its clients all that there is to require: pushed requests, a key instead of a secret, and proofs with nonces.
const boundSite = `
{$SITE} {
	oauth {$ISSUER} {
		login {
			forward_auth {$LOGIN} {
				uri /whoami
			}
		}
		user {rp.header.Remote-User}
		scope orders "see your orders"
		require_pushed_authorization_requests
		dpop {
			nonce required
		}
		%s
	}
	oauth_guard /api/* {
		scopes orders
	}
	respond /api/* "orders of {http.auth.user.id}"
	respond "the site"
}
`

// TestLibrariesWithKeys has libraries for Node push their requests (RFC 9126), authenticate with a key (RFC 7523), bind their tokens to
// another (RFC 9449), with nonces, and call a guarded API.
func TestLibrariesWithKeys(t *testing.T) {
	t.Parallel()
	node, dir := project(t)
	key := jwttest.NewKey(t, "ES256")
	jwks := filepath.Join(t.TempDir(), "clients.jwks")
	must(t, os.WriteFile(jwks, []byte(`{"keys":[`+string(key.Public)+`]}`), 0o600))
	var clients strings.Builder
	for _, name := range []string{"openid-client", "oauth4webapi"} {
		fmt.Fprintf(&clients, "client %s {\njwks %s\nredirect_uris http://127.0.0.1/%s/callback\nscopes orders\ndpop_bound_access_tokens\n}\n", name, jwks, name)
	}
	s := serve(t, fmt.Sprintf(boundSite, clients.String()))
	origin := "http://" + integration.NewAddress(t)
	server := exec.CommandContext(t.Context(), node, "bound.mjs")
	server.Dir = dir
	server.Env = append(os.Environ(), "ISSUER="+s.URL, "ORIGIN="+origin, "CLIENT_KEY="+string(key.JWK), "CLIENT_SECRET="+secret, "NODE_ENV=test")
	runs(t, origin, server)
	for client, nonces := range map[string]int{"openid-client": 0, "oauth4webapi": 1} { // the first repeats its requests by itself
		t.Run(client, func(t *testing.T) {
			page := signIn(t, s, origin+"/"+client+"/login")
			type result struct {
				Type, Refreshed string
				Status          int
				Body            string
				Bearer, Nonces  int
			}
			var got result
			if err := json.Unmarshal([]byte(page.Text), &got); err != nil {
				t.Fatalf("the application says %s", page.Text)
			}
			if want := (result{"dpop", "dpop", 200, "orders of alice", 401, nonces}); got != want {
				t.Errorf("got  %+v\nwant %+v: %s", got, want, page.Text)
			}
		})
	}
	for endpoint, want := range map[string]int{"par": 2, "token": 0} { // each library asks without a nonce first
		needed := fmt.Sprintf(`"endpoint":%q`, endpoint)
		n := 0
		for line := range strings.Lines(string(s.Log())) {
			if strings.Contains(line, "until it has a nonce") && strings.Contains(line, needed) {
				n++
			}
		}
		if n != want {
			t.Errorf("the endpoint %s has asked for a nonce %d times, want %d", endpoint, n, want)
		}
	}
}
