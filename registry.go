package caddyoauth

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/routes"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/internal/warning"
)

// Handlers bring issuers, and handlers and guards use them, in the order in which Caddy provisions the routes of its servers,
// which is any order. So who uses an issuer that is not there yet waits for it, until Start at the latest. A request may come
// before that, but not before all handlers are provisioned.

// borrower is a handler that uses an issuer.
type borrower interface {
	// reference returns the name or the URL of the issuer, and without either, the block of a site whose issuer it is.
	reference() (issuer string, block *caddyhttp.Subroute)

	// connect finds the issuer. It is called once the issuer is there, or when no other can come any more. Only the first call
	// does anything.
	connect() error
}

// await connects a borrower as soon as its issuer is there.
func (a *App) await(b borrower) error {
	if a.has(b) {
		return b.connect()
	}
	a.waiting = append(a.waiting, b)
	return nil
}

// has reports whether the issuer of a borrower is there.
func (a *App) has(b borrower) bool {
	issuer, block := b.reference()
	if issuer == "" {
		return len(a.blocks[block]) == 1
	}
	_, byName := a.Issuers[issuer]
	_, byURL := a.named(issuer)
	return byName || byURL
}

// bring adds the issuer of a handler, and returns its name.
func (a *App) bring(h *Handler) (string, error) {
	issuer := h.Settings
	settings, err := json.Marshal(issuer)
	if err != nil {
		return "", err
	}
	name, err := h.issuerName()
	if err != nil {
		return "", directive.At("issuer "+issuer.URL, err)
	}
	before, again := a.brought[name]
	switch _, there := a.Issuers[name]; {
	case again && before == string(settings):
		return name, nil
	case again:
		err = errors.New("another site brings the issuer with other settings")
	case there:
		err = errors.New("expected another name than that of an issuer of the app")
	default:
		err = a.open(name, issuer)
	}
	if err != nil {
		return "", directive.At("issuer "+name, err)
	}
	a.brought[name] = string(settings)
	if a.Issuers == nil {
		a.Issuers = make(map[string]*Issuer)
	}
	a.Issuers[name] = issuer
	for _, b := range a.waiting {
		if a.has(b) {
			if err := b.connect(); err != nil {
				return "", err
			}
		}
	}
	return name, nil
}

// issuerName returns the name of the issuer that the handler brings.
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

// issuerOfServer returns the name of the issuer that the site of a guard serves, if the site is a whole server: the Caddyfile adapter
// makes no block of a site without a host name. It returns "" if there is no such issuer, or more than one.
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

// serves reports whether the path is one of an issuer of the origin.
func (a *App) serves(origin, path string) bool {
	for _, server := range a.servers {
		if server.Origin() == origin && server.Endpoint(path) != nil {
			return true
		}
	}
	return false
}

// warnOfPlaces warns about handlers that stand where they cannot work, and about issuers whose host no site has that serves them. Only
// the names are compared: a proxy before Caddy may have another port and another scheme.
func (a *App) warnOfPlaces() error {
	if len(a.handlers) == 0 {
		return nil
	}
	app, err := a.ctx.App("http")
	if err != nil {
		return err
	}
	hosts, found, aliased := make(map[string][]string), make(map[string]bool), make(map[string]bool)
	serving := make(map[string][]routes.Site)
	for _, h := range a.handlers {
		u, err := url.Parse(a.Issuers[h.Issuer].URL)
		if err != nil {
			return err
		}
		for _, server := range app.(*caddyhttp.App).Servers {
			site := routes.OfSite(server, h)
			if len(site) > 0 {
				a.warnings.Warn(a.log, h.placeMistakes(server, site, a.Issuers[h.Issuer]))
			}
			for _, route := range site {
				s := routes.Site{Server: server, Hosts: routes.Hosts(route)}
				serving[h.Issuer] = append(serving[h.Issuer], s)
				hosts[h.Issuer] = append(hosts[h.Issuer], s.Hosts...)
				found[h.Issuer] = found[h.Issuer] || s.HasHost(u.Hostname())
				aliased[h.Issuer] = aliased[h.Issuer] || s.HasHost(a.Issuers[h.Issuer].aliasHost())
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		issuer := a.Issuers[name]
		if !found[name] {
			a.warnings.Warn(a.log, []warning.Mistake{wrongAddress("host", issuer.URL, hosts[name], "issuer "+name)})
		}
		if issuer.MTLSEndpointAliases != "" && !aliased[name] {
			a.warnings.Warn(a.log, []warning.Mistake{wrongAlias(issuer, hosts[name], "issuer "+name, "mtls_endpoint_aliases")})
		}
		a.warnings.Warn(a.log, issuer.certificateMistakes(name, serving[name]))
	}
	return nil
}
