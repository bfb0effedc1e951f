package caddyoauth_test

import (
	"fmt"
	"os"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// A site with a login of its own, an issuer with two clients, and an API that requires access tokens. This is all the
// configuration there is: with it, `caddy run` serves the endpoints, the metadata and the guard.
func Example() {
	const config = `example.com {
	oauth https://example.com {
		# The site's own login. People meet it where they approve apps, and where they manage them.
		login {
			forward_auth localhost:8080 {
				uri /whoami
				copy_headers Remote-User
			}
		}
		user {http.reverse_proxy.header.Remote-User}

		scope profile "see your name"
		scope orders "see your orders"

		# An app on people's devices. It has no secret, so it must use PKCE.
		client shop-app {
			name "Shop app"
			redirect_uris https://app.example.com/callback
			scopes profile orders
		}

		# A partner's server, which acts for itself.
		client billing {
			secret {env.BILLING_SECRET}
			scopes orders
		}
	}

	oauth_guard /api/* {
		scopes orders
		header X-User {http.auth.user.id}
	}

	reverse_proxy localhost:8080
}
`
	if err := os.Setenv("BILLING_SECRET", "a secret of 256 random bits"); err != nil {
		panic(err)
	}
	adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(config), nil)
	if err != nil {
		panic(err)
	}
	parsed := new(caddy.Config)
	if err := caddy.StrictUnmarshalJSON(adapted, parsed); err != nil {
		panic(err)
	}
	fmt.Println("problems:", caddy.Validate(parsed))
	fmt.Println("warnings:", len(warnings))
	// Output:
	// problems: <nil>
	// warnings: 0
}
