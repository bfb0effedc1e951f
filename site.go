package caddyoauth

import (
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/routes"
)

// place is where a handler of this module stands among the routes of a site, and what it has to know of the others there. It
// learns it from its first request: the routes are not complete while a handler is provisioned.
type place struct {
	handler caddyhttp.MiddlewareHandler
	log     *zap.Logger

	once   sync.Once
	routes caddyhttp.RouteList // of the site
	list   caddyhttp.RouteList // of the site, or a block in it, that has the handler
	logins []login             // in the list, after the handler
	named  bool                // the site is for some host names, so that no request has another one

	// Of all guards of the site.
	guarded bool     // there are some
	headers []string // that they set
	catalog bearer.Catalog

	tools     bool     // the site decides by what an MCP message asks for
	endpoints []*Guard // of MCP

	preflights sync.Once // the log says once that one was refused
}

func newPlace(h caddyhttp.MiddlewareHandler, log *zap.Logger) *place {
	return &place{handler: h, log: log}
}

// find looks the handler up in the server that has the request.
func (p *place) find(r *http.Request) *place {
	p.once.Do(func() {
		server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
		if ok {
			p.routes = routes.OfSite(server, p.handler)
			p.named = !routes.Has(server.Routes, p.handler) && len(p.routes) > 0 &&
				!slices.ContainsFunc(p.routes, func(route caddyhttp.Route) bool {
					hosts := routes.Hosts(route)
					return len(hosts) == 0 || slices.ContainsFunc(hosts, func(host string) bool { return strings.Contains(host, "*") })
				})
		}
		var guards []*Guard
		if g, ok := p.handler.(*Guard); ok {
			guards = append(guards, g) // it may stand among the error routes
		}
		for list := range routes.Lists(server, p.routes) {
			if p.list == nil && routes.Has(list, p.handler) {
				p.list = list
				p.logins = loginsAfter(list, p.handler)
			}
			p.tools = p.tools || slices.ContainsFunc(list, func(route caddyhttp.Route) bool { return matchTools(route.MatcherSets) })
			for h := range routes.Handlers(list) {
				if g, ok := h.(*Guard); ok {
					guards = append(guards, g)
				}
			}
		}
		p.join(guards)
	})
	return p
}

// join takes in the guards of the site.
func (p *place) join(guards []*Guard) {
	p.guarded = len(guards) > 0
	documents := make([]*bearer.Metadata, 0, len(guards))
	some := make(map[string]bool) // settings of guards of some requests to an MCP server
	for _, g := range guards {
		some[g.settings] = some[g.settings] || g.MCP != nil && g.tools
	}
	for _, g := range guards {
		if err := g.connect(); err != nil {
			p.log.Error("a guard of the site has no issuer", zap.Error(err))
			continue
		}
		p.headers = union(p.headers, slices.Sorted(maps.Keys(g.Headers)))
		document := *g.metadata
		if some[g.settings] {
			document.Scopes = nil // clients ask for all that the metadata has; the challenge has these when they are needed
		}
		documents = append(documents, &document)
		if g.MCP != nil {
			p.endpoints = append(p.endpoints, g)
		}
		p.tools = p.tools || g.tools
	}
	var err error
	if p.catalog, err = bearer.NewCatalog(documents); err != nil {
		p.log.Error("metadata of protected resources", zap.Error(err)) // each was prepared when its guard was provisioned
	}
}

// besides returns the guards for a request that stand in one list with the handler.
func (p *place) besides(r *http.Request) iter.Seq[*Guard] {
	return func(yield func(*Guard) bool) {
		for _, route := range p.list {
			for _, h := range route.Handlers {
				g, ok := h.(*Guard)
				if !ok || h == p.handler {
					continue
				}
				reached, err1 := route.MatcherSets.AnyMatchWithError(r)
				matches, err2 := g.matches(r)
				if err1 == nil && err2 == nil && reached && matches && !yield(g) {
					return
				}
			}
		}
	}
}
