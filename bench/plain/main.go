// Command plain is Caddy without the oauth modules. bench compares its memory and its start with those of Caddy with them.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

func main() {
	caddycmd.Main()
}
