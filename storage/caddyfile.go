package storage

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// UnmarshalCaddyfile reads the name of the store, which has no options:
//
//	caddy
func (*Caddy) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() || d.NextBlock(0) {
		return d.Errf("the caddy store has no options, but here is %q", d.Val())
	}
	return nil
}

var _ caddyfile.Unmarshaler = (*Caddy)(nil)
