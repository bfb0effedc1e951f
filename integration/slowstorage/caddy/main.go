// Command caddy is Caddy with the oauth modules and a storage for tests built in.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-oauth/caddy-oauth"
	_ "github.com/caddy-oauth/caddy-oauth/integration/slowstorage"
)

func main() {
	caddycmd.Main()
}
