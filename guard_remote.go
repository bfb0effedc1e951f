package caddyoauth

import (
	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
)

// remoteKeys are the keys of issuers elsewhere, by URL. All guards share them, and a reload does not forget them.
var remoteKeys = caddy.NewUsagePool()

// borrow returns the issuer elsewhere. It asks for nothing over the network; the first token does.
func (g *Guard) borrow(ctx caddy.Context) (authserver.TokenSource, error) {
	keys, _, err := remoteKeys.LoadOrNew(g.Issuer, func() (caddy.Destructor, error) {
		return authserver.NewRemoteKeys(g.Issuer, nil), nil
	})
	if err != nil {
		return nil, err
	}
	g.borrowed = g.Issuer
	return &authserver.RemoteIssuer{
		URL: g.Issuer, Keys: keys.(*authserver.RemoteKeys), Types: g.Types, Log: ctx.Logger(),
	}, nil
}

// release gives back what borrow took.
func (g *Guard) release() error {
	if g.borrowed == "" {
		return nil
	}
	_, err := remoteKeys.Delete(g.borrowed)
	g.borrowed = ""
	return err
}

// named returns the name of the issuer with that URL, if this configuration has it.
func (a *App) named(url string) (string, bool) {
	if a == nil {
		return "", false
	}
	for name, issuer := range a.Issuers {
		if issuer.URL == url {
			return name, true
		}
	}
	return "", false
}
