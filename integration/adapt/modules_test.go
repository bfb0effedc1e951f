package adapt

import (
	"context"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

func init() {
	caddy.RegisterModule(shelfStore{})
	caddy.RegisterModule(stampGrant{})
	caddy.RegisterModule(plainGrant{})
}

// shelfStore is a third-party store module with an option.
type shelfStore struct {
	Room string `json:"room,omitempty"`
}

func (shelfStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "oauth.stores.test_shelf", New: func() caddy.Module { return new(shelfStore) }}
}

func (*shelfStore) Open(string) (storage.Store, error) { return memory.New(), nil }

func (s *shelfStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	for d.NextBlock(0) {
		if d.Val() != "room" {
			return d.Errf("unknown setting %q, expected room", d.Val())
		}
		if !d.AllArgs(&s.Room) {
			return d.Err("room: expected a number")
		}
	}
	return nil
}

// stampGrant is a third-party grant type with an option.
type stampGrant struct {
	Color string `json:"color,omitempty"`
}

func (stampGrant) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "oauth.grants.test_stamp", New: func() caddy.Module { return new(stampGrant) }}
}

func (stampGrant) Type() string { return "urn:example:stamp" }

func (stampGrant) Exchange(context.Context, *grants.Request) (*grants.Authorization, error) {
	return nil, grants.Refuse(grants.InvalidGrant, "no stamp")
}

func (g *stampGrant) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&g.Color) {
		return d.Err("test_stamp: expected a color")
	}
	return nil
}

// plainGrant is a third-party grant type without Caddyfile support.
type plainGrant struct{}

func (plainGrant) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "oauth.grants.test_plain", New: func() caddy.Module { return new(plainGrant) }}
}

func (plainGrant) Type() string { return "urn:example:plain" }

func (plainGrant) Exchange(context.Context, *grants.Request) (*grants.Authorization, error) {
	return nil, grants.Refuse(grants.InvalidGrant, "not so plain")
}

var (
	_ storage.Opener        = (*shelfStore)(nil)
	_ caddyfile.Unmarshaler = (*shelfStore)(nil)
	_ grants.Grant          = (*stampGrant)(nil)
	_ caddyfile.Unmarshaler = (*stampGrant)(nil)
	_ grants.Grant          = plainGrant{}
)
