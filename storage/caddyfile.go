package storage

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// UnmarshalCaddyfile reads the name of the store, which has no options:
//
//	memory
func (*Memory) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { return noOptions(d) }

// UnmarshalCaddyfile reads the name of the store, which has no options:
//
//	caddy
func (*Caddy) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { return noOptions(d) }

func noOptions(d *caddyfile.Dispenser) error {
	d.Next()
	store := d.Val()
	if d.NextArg() {
		return d.Errf("the %s store has no options, but here is %q", store, d.Val())
	}
	if d.NextBlock(0) {
		return d.Errf("the %s store has no options, but here is %q", store, d.Val())
	}
	return nil
}

var (
	_ caddyfile.Unmarshaler = (*Memory)(nil)
	_ caddyfile.Unmarshaler = (*Caddy)(nil)
)
