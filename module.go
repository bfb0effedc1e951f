// Package caddyoauth turns the site behind Caddy into an OAuth 2.0 authorization server.
package caddyoauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/revocation"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
)

func init() {
	caddy.RegisterModule(new(App))
}

// DefaultIssuer is the name of an issuer that was not given one.
const DefaultIssuer = "default"

// App makes sites OAuth 2.0 authorization servers. It owns the issuers: their clients, keys and
// records. The `oauth` HTTP handler serves an issuer's endpoints on a site.
type App struct {
	// The issuers, by a short name. A name is used in the configuration, in logs and in the storage,
	// where the issuer's keys and records are kept under it: to rename an issuer is to begin anew.
	Issuers map[string]*Issuer `json:"issuers,omitempty"`

	servers  map[string]*authserver.Server
	shares   bool // this config holds what is shared
	observer *observer
	log      *zap.Logger
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "oauth",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision checks the configuration and prepares the issuers. It leaves no trace anywhere.
func (a *App) Provision(ctx caddy.Context) error {
	a.log = ctx.Logger()
	repl := caddy.NewReplacer()
	for name, issuer := range a.Issuers {
		if issuer == nil {
			return directive.At("issuer "+name, errors.New("expected the settings of the issuer"))
		}
		if err := issuer.resolve(repl); err != nil {
			return directive.At("issuer "+name, err)
		}
	}
	if err := a.check(); err != nil {
		return err
	}
	var err error
	if a.observer, err = newObserver(ctx); err != nil {
		return err
	}
	common := a.share()
	a.servers = make(map[string]*authserver.Server, len(a.Issuers))
	for name, issuer := range a.Issuers {
		server, err := issuer.open(ctx, name, common, a.observer, a.log)
		if err != nil {
			return directive.At("issuer "+name, err)
		}
		a.servers[name] = server
	}
	return nil
}

// check finds what is wrong within and between the issuers.
func (a *App) check() error {
	urls := make(map[string]string)
	endpoints := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(a.Issuers)) {
		issuer := a.Issuers[name]
		if err := cmp.Or(checkIssuerName(name), issuer.check()); err != nil {
			return directive.At("issuer "+name, err)
		}
		if other, taken := urls[issuer.URL]; taken {
			return directive.At("issuer "+name, errors.New("expected another URL than that of issuer "+other))
		}
		urls[issuer.URL] = name
		for _, endpoint := range issuer.endpointURLs() {
			if other, taken := endpoints[endpoint]; taken {
				return directive.At("issuer "+name, fmt.Errorf("expected an endpoint other than issuer %s has at %s", other, endpoint))
			}
			endpoints[endpoint] = name
		}
	}
	return nil
}

// Start begins to keep the issuers' keys and records in order.
func (a *App) Start() error {
	ctx, cancel := context.WithCancel(context.Background())
	a.stop = cancel
	for _, server := range a.servers {
		a.running.Go(func() { server.Run(ctx) })
	}
	return nil
}

// Stop ends what Start began.
func (a *App) Stop() error {
	if a.stop != nil {
		a.stop()
	}
	a.running.Wait()
	return nil
}

// server returns the server of the named issuer, or of the only one if there is no name.
func (a *App) server(name string) (*authserver.Server, error) {
	name, _, err := a.issuer(name)
	if err != nil {
		return nil, err
	}
	return a.servers[name], nil
}

// issuer returns the named issuer, or the only one if there is no name.
func (a *App) issuer(name string) (string, *Issuer, error) {
	if name == "" && len(a.Issuers) == 1 {
		name = slices.Sorted(maps.Keys(a.Issuers))[0]
	}
	known := cmp.Or(name, DefaultIssuer)
	issuer, ok := a.Issuers[known]
	switch {
	case ok:
		return known, issuer, nil
	case name == "":
		return "", nil, fmt.Errorf("expected the name of an issuer, %s", directive.OneOf(slices.Sorted(maps.Keys(a.Issuers))))
	}
	return "", nil, fmt.Errorf("there is no issuer %q, expected %s", name, directive.OneOf(slices.Sorted(maps.Keys(a.Issuers))))
}

var (
	_ caddy.App         = (*App)(nil)
	_ caddy.Provisioner = (*App)(nil)

	_ caddy.CleanerUpper = (*App)(nil)
)

// shared is what all configurations of this process have in common. A new one must know of the failures under the old
// one, of what that one revokes while both answer, and when it stops writing.
type shared struct {
	throttle    *throttle.Throttle
	revocations *revocation.Broadcast
	servers     *authserver.Generations
}

var sharing = caddy.NewUsagePool()

const theShared = "shared"

// share returns what is shared. It lives until Cleanup was called on every app that asked for it.
func (a *App) share() *shared {
	common, _ := sharing.LoadOrStore(theShared, &shared{
		throttle.New(), revocation.NewBroadcast(), authserver.NewGenerations(),
	})
	a.shares = true
	return common.(*shared)
}

// Cleanup closes the servers that were opened, and gives back what is shared, if this app has it.
func (a *App) Cleanup() error {
	for _, server := range a.servers {
		server.Close()
	}
	if !a.shares {
		return nil
	}
	a.shares = false
	_, err := sharing.Delete(theShared)
	return err
}
