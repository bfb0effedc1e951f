package openid

import (
	"os"
	"os/exec"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

const clientsForNode = `
		client openid-client {
			secret {env.CLIENT_SECRET}
			redirect_uris http://127.0.0.1/openid-client/callback
			scopes openid profile email groups
		}
		client oauth4webapi {
			redirect_uris http://127.0.0.1/oauth4webapi/callback
			scopes openid profile email groups
			id_token_signed_response_alg ES256
		}
		client passport {
			secret {env.CLIENT_SECRET}
			redirect_uris http://127.0.0.1/passport/callback
			scopes openid profile email groups
		}
`

// TestLibrariesForNode signs alice in with libraries for servers.
func TestLibrariesForNode(t *testing.T) {
	t.Parallel()
	node, dir := project(t)
	s := start(t, clientsForNode)
	origin := "http://" + integration.NewAddress(t)
	server := exec.CommandContext(t.Context(), node, "parties.mjs")
	server.Dir, server.Env = dir, append(os.Environ(), "ISSUER="+s.URL, "ORIGIN="+origin, "CLIENT_SECRET="+secret, "NODE_ENV=test")
	runs(t, origin, server)
	for _, client := range []string{"openid-client", "oauth4webapi", "passport"} {
		t.Run(client, func(t *testing.T) { check(t, client, signIn(t, s, origin+"/"+client+"/login").Text) })
	}
}
