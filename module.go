// Package caddyoauth is a Caddy module that turns a site into an OAuth 2.0 authorization server. The site's own login says
// who a person is; this module issues tokens for that person to apps, scripts and partners, and guards routes with them.
//
// To configure it, read the comments of the settings, which start at [App], [Handler] and [Guard], or the grammar of the
// Caddyfile in caddyfile.go. To write a grant type or a store, see the packages grants and storage.
//
// To read the code, start here. This package holds what an owner configures: the app and its issuers (module.go, issuer.go), clients
// (client.go and the files beside it), all other settings (the files *_settings.go), the directives oauth (handler.go) and oauth_guard
// (guard.go), and how a Caddyfile says all that (caddyfile.go). The file of a setting has its comment, its check, and what it becomes:
// App.open replaces the placeholders of an issuer, checks its settings, and makes a server of them.
//
// Every request to an endpoint goes from Handler.ServeHTTP to the package internal/authserver, where it needs a person through the login of
// the site, which internal/signin runs. Every guarded request goes from Guard.ServeHTTP to internal/guard, which has internal/bearer check
// the token. The admin API is in internal/adminapi, and the commands are in internal/cli.
package caddyoauth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/events"
	"github.com/caddy-oauth/caddy-oauth/internal/routes"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/internal/warning"
	_ "github.com/caddy-oauth/caddy-oauth/storage/caddy"  // the store oauth.stores.caddy
	_ "github.com/caddy-oauth/caddy-oauth/storage/memory" // the store oauth.stores.memory
)

func init() {
	caddy.RegisterModule(new(App))
}

// DefaultIssuer is the name of an issuer that is configured without one.
const DefaultIssuer = "default"

// App turns sites into OAuth 2.0 authorization servers. It has the issuers, with their clients, keys and records. The HTTP
// handler `oauth` serves the endpoints of an issuer on a site, and the HTTP handler `oauth_guard` requires its access tokens.
type App struct {
	// The issuers, by a short name that the configuration, logs and the storage use. **Danger:** the keys and records of an
	// issuer are stored under its name. An issuer with another name starts without them: all its tokens become invalid.
	Issuers map[string]*Issuer `json:"issuers,omitempty"`

	ctx        caddy.Context
	servers    map[string]*authserver.Server
	taken      *taken
	common     *authserver.ProcessState
	shares     bool // holds common, until Cleanup
	events     *events.Emitter
	log        *zap.Logger
	warnings   *warning.Log // about mistakes in the configuration
	stop       context.CancelFunc
	running    sync.WaitGroup
	configured []string          // the names of its own issuers
	defined    map[string]string // settings of the issuers that handlers define, in JSON, by issuer name
	handlers   []*Handler
	waiting    []issuerUser                     // handlers and guards whose issuer is not defined yet
	blocks     map[*caddyhttp.Subroute][]string // the names of the issuers that sites serve
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "oauth",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision checks the configuration and prepares the issuers. It writes nothing and sends nothing.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx, a.log, a.taken, a.warnings = ctx, ctx.Logger(), newTaken(), warning.NewLog()
	a.servers, a.defined = make(map[string]*authserver.Server), make(map[string]string)
	a.blocks = make(map[*caddyhttp.Subroute][]string)
	var err error
	if a.events, err = events.New(ctx); err != nil {
		return err
	}
	a.common, a.shares = share(), true
	a.configured = slices.Sorted(maps.Keys(a.Issuers))
	for _, name := range a.configured {
		if err := a.open(name, a.Issuers[name]); err != nil {
			return directive.At("issuer "+name, err)
		}
	}
	return nil
}

// open prepares an issuer.
func (a *App) open(name string, issuer *Issuer) error {
	if issuer == nil {
		return errors.New("expected the settings of the issuer")
	}
	a.warnings.Warn(a.log, issuer.mistakes("issuer "+name))
	err := issuer.resolve(caddy.NewReplacer())
	if err == nil {
		err = a.taken.take(name, issuer)
	}
	if err != nil {
		return err
	}
	server, err := issuer.open(a.ctx, name, a.common, a.events, a.log)
	if err != nil {
		return err
	}
	a.servers[name] = server
	return nil
}

// check finds impossible settings of the issuers, and conflicts between them.
func (a *App) check() error {
	all := newTaken()
	for _, name := range slices.Sorted(maps.Keys(a.Issuers)) {
		if err := all.take(name, a.Issuers[name]); err != nil {
			return directive.At("issuer "+name, err)
		}
	}
	return nil
}

// taken are the URLs that issuers have, with the names of the issuers.
type taken struct{ urls, endpoints map[string]string }

func newTaken() *taken { return &taken{make(map[string]string), make(map[string]string)} }

// take checks an issuer, and adds its URLs, which no other may have.
func (t *taken) take(name string, issuer *Issuer) error {
	if err := cmp.Or(checkIssuerName(name), issuer.check()); err != nil {
		return err
	}
	if other, taken := t.urls[issuer.URL]; taken {
		return errors.New("expected another URL than that of issuer " + other)
	}
	t.urls[issuer.URL] = name
	for _, endpoint := range issuer.endpointURLs() {
		if other, taken := t.endpoints[endpoint]; taken {
			return fmt.Errorf("expected an endpoint other than issuer %s has at %s", other, endpoint)
		}
		t.endpoints[endpoint] = name
	}
	return nil
}

// Start starts the background work of the issuers, such as the rotation of keys. All handlers are provisioned by now, so that an
// issuer that is not there is an error.
func (a *App) Start() error {
	for _, u := range a.waiting {
		if err := u.connect(); err != nil {
			return err
		}
	}
	if err := a.warnOfPlaces(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.stop = cancel
	for _, server := range a.servers {
		a.running.Go(func() { server.Run(ctx) })
	}
	return nil
}

// flushLimit is how long handlers of events may take at the end of a configuration.
const flushLimit = 5 * time.Second

// Stop ends the background work, and lets the handlers of events have those that wait.
func (a *App) Stop() error {
	if a.stop != nil {
		a.stop()
	}
	a.running.Wait()
	a.events.Flush(flushLimit)
	return nil
}

// sharedPool has the state that all configurations of this process share, see [authserver.ProcessState]. During a reload, the old and
// the new configuration both run, and the new one continues with what the old one knows. Other pools keep the keys of remote issuers
// (remoteKeys in guard.go), and what the stores share: stripePool in storage/caddy, connections in storage/redis, memories in
// storage/memory.
var sharedPool = caddy.NewUsagePool()

const sharedKey = "shared"

// share returns the shared state, which lives until Cleanup was called on every app that has it.
func share() *authserver.ProcessState {
	fresh := authserver.NewProcessState()
	common, _ := sharedPool.LoadOrStore(sharedKey, &fresh)
	return common.(*authserver.ProcessState)
}

// Cleanup closes the servers, and releases the shared state if this app has it: Caddy also calls Cleanup after a Provision
// that failed.
func (a *App) Cleanup() error {
	for _, server := range a.servers {
		server.Close()
	}
	if !a.shares {
		return nil
	}
	a.shares = false
	_, err := sharedPool.Delete(sharedKey)
	return err
}

// A handler can define an issuer that other handlers and guards use. Caddy provisions them in no particular order, so a
// handler or guard whose issuer is not defined yet waits for it, at the latest until Start. Requests come only after all
// handlers are provisioned, but possibly before Start.

// issuerUser is a handler or a guard that uses an issuer.
type issuerUser interface {
	// reference returns the name or the URL of the issuer, and without either, the block of a site whose issuer it is.
	reference() (issuer string, block *caddyhttp.Subroute)

	// connect finds the issuer. It is called once the issuer is there, or when no other can come any more. Only the first call
	// does anything.
	connect() error
}

// await connects a handler or a guard as soon as its issuer is there.
func (a *App) await(u issuerUser) error {
	if a.has(u) {
		return u.connect()
	}
	a.waiting = append(a.waiting, u)
	return nil
}

// has reports whether the issuer of a handler or a guard is there.
func (a *App) has(u issuerUser) bool {
	issuer, block := u.reference()
	if issuer == "" {
		return len(a.blocks[block]) == 1
	}
	_, byName := a.Issuers[issuer]
	_, byURL := a.named(issuer)
	return byName || byURL
}

// issuer returns the named issuer, or without a name, the only one. Before Start, handlers may still define others.
func (a *App) issuer(name string) (string, *Issuer, error) {
	if name == "" && len(a.Issuers) == 1 {
		name = slices.Sorted(maps.Keys(a.Issuers))[0]
	}
	known := cmp.Or(name, DefaultIssuer)
	issuer, ok := a.Issuers[known]
	switch {
	case ok:
		return known, issuer, nil
	case name == "" && len(a.Issuers) == 0:
		return "", nil, errors.New("expected the URL of a remote issuer, or an oauth directive or global option that defines an issuer")
	case name == "":
		return "", nil, fmt.Errorf("expected the name of an issuer, %s", directive.OneOf(slices.Sorted(maps.Keys(a.Issuers))))
	}
	return "", nil, fmt.Errorf("there is no issuer %q, expected %s", name, directive.OneOf(slices.Sorted(maps.Keys(a.Issuers))))
}

// define adds the issuer that a handler defines, and returns its name.
func (a *App) define(h *Handler) (string, error) {
	issuer := h.Settings
	settings, err := json.Marshal(issuer)
	if err != nil {
		return "", err
	}
	name, err := h.issuerName()
	if err != nil {
		return "", directive.At("issuer "+issuer.URL, err)
	}
	before, again := a.defined[name]
	switch _, there := a.Issuers[name]; {
	case again && before == string(settings):
		return name, nil
	case again:
		err = errors.New("another site defines the issuer with other settings")
	case there:
		err = errors.New("expected another name than that of an issuer of the app")
	default:
		err = a.open(name, issuer)
	}
	if err != nil {
		return "", directive.At("issuer "+name, err)
	}
	a.defined[name] = string(settings)
	if a.Issuers == nil {
		a.Issuers = make(map[string]*Issuer)
	}
	a.Issuers[name] = issuer
	for _, u := range a.waiting {
		if a.has(u) {
			if err := u.connect(); err != nil {
				return "", err
			}
		}
	}
	return name, nil
}

// issuerName returns the name of the issuer that the handler defines.
func (h *Handler) issuerName() (string, error) {
	if h.Issuer != "" {
		return h.Issuer, nil
	}
	issuerURL := h.Settings.URL
	err := replace(caddy.NewReplacer(), &issuerURL)
	return uris.IssuerName(issuerURL), cmp.Or(err, checkIssuerURL(issuerURL))
}

// configuredIssuer returns the name of the only issuer of the app itself, or of the one that is called default.
func (a *App) configuredIssuer() (string, error) {
	switch {
	case len(a.configured) == 1:
		return a.configured[0], nil
	case len(a.configured) == 0:
		return "", errors.New("expected the URL of an issuer and its settings, or the global option oauth with an issuer")
	case slices.Contains(a.configured, DefaultIssuer):
		return DefaultIssuer, nil
	}
	return "", errors.New("expected the name of an issuer, " + directive.OneOf(a.configured))
}

// serveIn notes that a site serves an issuer.
func (a *App) serveIn(block *caddyhttp.Subroute, name string) {
	if block != nil && !slices.Contains(a.blocks[block], name) {
		a.blocks[block] = append(a.blocks[block], name)
	}
}

// issuerOfServer returns the name of the issuer of the guard's site, if the site is a whole server: for a site without a host name,
// the Caddyfile adapter makes no subroute. It returns "" if there is no such issuer, or more than one.
func (a *App) issuerOfServer(g *Guard) (string, error) {
	app, err := a.ctx.App("http")
	if err != nil {
		return "", err
	}
	served := make(map[string]bool)
	for _, server := range app.(*caddyhttp.App).Servers {
		site := routes.OfSite(server, g)
		if len(site) == 0 || slices.ContainsFunc(server.Routes, func(route caddyhttp.Route) bool { return len(routes.Hosts(route)) > 0 }) {
			continue
		}
		for list := range routes.Lists(server, server.Routes) {
			for handler := range routes.Handlers(list) {
				if h, ok := handler.(*Handler); ok {
					served[h.Issuer] = true
				}
			}
		}
	}
	if len(served) != 1 {
		return "", nil
	}
	return slices.Collect(maps.Keys(served))[0], nil
}

// named returns the name of the issuer with that URL, if this app has it.
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

// serves reports whether the path is one of an issuer of the origin.
func (a *App) serves(origin, path string) bool {
	for _, server := range a.servers {
		if server.Origin() == origin && server.Endpoint(path) != nil {
			return true
		}
	}
	return false
}

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
