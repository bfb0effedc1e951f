// Command caddy is Caddy with the oauth modules built in, so that a fresh clone can run at once.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-oauth/caddy-oauth"
	_ "github.com/caddy-oauth/caddy-oauth/storage/redis"
)

func main() {
	caddycmd.Main()
}
