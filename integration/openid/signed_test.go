package openid

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
)

const signingClients = `
		client openid-client {
			jwks %[1]s
			redirect_uris http://127.0.0.1/openid-client/callback
			scopes openid profile email groups
			require_signed_request_object
		}
		client oauth4webapi {
			jwks %[1]s
			redirect_uris http://127.0.0.1/oauth4webapi/callback
			scopes openid profile email groups
			id_token_signed_response_alg ES256
			require_signed_request_object
			request_object_signing_alg ES256
		}
`

// TestSignedRequests signs alice in with libraries that sign their requests, by the browser and pushed.
func TestSignedRequests(t *testing.T) {
	t.Parallel()
	node, dir := project(t)
	key := jwttest.NewKey(t, "ES256")
	public := filepath.Join(t.TempDir(), "client.jwk")
	must(t, os.WriteFile(public, key.Public, 0o600))
	s := start(t, fmt.Sprintf(signingClients, public))
	origin := "http://" + integration.NewAddress(t)
	server := exec.CommandContext(t.Context(), node, "signed.mjs")
	server.Dir, server.Env = dir, append(os.Environ(),
		"ISSUER="+s.URL, "ORIGIN="+origin, "CLIENT_SECRET="+secret, "KEY="+string(key.JWK), "NODE_ENV=test")
	runs(t, origin, server)
	for _, client := range []string{"openid-client", "oauth4webapi"} {
		for _, how := range []string{"", "?push=1"} {
			t.Run(client+how, func(t *testing.T) { check(t, client, signIn(t, s, origin+"/"+client+"/login"+how).Text) })
		}
	}
}
