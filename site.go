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
			p.routes = siteOf(server, p.handler)
			p.named = !has(server.Routes, p.handler) && len(p.routes) > 0 &&
				!slices.ContainsFunc(p.routes, func(route caddyhttp.Route) bool {
					hosts := hostsOf(route)
					return len(hosts) == 0 || slices.ContainsFunc(hosts, func(host string) bool { return strings.Contains(host, "*") })
				})
		}
		var guards []*Guard
		if g, ok := p.handler.(*Guard); ok {
			guards = append(guards, g) // it may stand among the error routes
		}
		for list := range lists(server, p.routes) {
			if p.list == nil && has(list, p.handler) {
				p.list = list
				p.logins = loginsAfter(list, p.handler)
			}
			p.tools = p.tools || slices.ContainsFunc(list, func(route caddyhttp.Route) bool { return matchTools(route.MatcherSets) })
			for h := range handlers(list) {
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

// siteOf returns the routes of the site that has the handler. The Caddyfile adapter makes one route of a site, unless it is the
// only site of the server and has no host name.
func siteOf(server *caddyhttp.Server, h caddyhttp.MiddlewareHandler) (routes caddyhttp.RouteList) {
	if has(server.Routes, h) {
		return server.Routes
	}
	for _, route := range server.Routes {
		for list := range lists(server, caddyhttp.RouteList{route}) {
			if has(list, h) {
				routes = append(routes, route)
				break
			}
		}
	}
	return routes
}

// lists returns a list of routes, and the lists inside its handlers: blocks such as `handle`, and named routes.
func lists(server *caddyhttp.Server, routes caddyhttp.RouteList) iter.Seq[caddyhttp.RouteList] {
	invoked := make(map[string]bool)
	var visit func(caddyhttp.RouteList, func(caddyhttp.RouteList) bool) bool
	visit = func(list caddyhttp.RouteList, yield func(caddyhttp.RouteList) bool) bool {
		if !yield(list) {
			return false
		}
		for handler := range handlers(list) {
			var inner caddyhttp.RouteList
			switch h := handler.(type) {
			case *caddyhttp.Subroute:
				inner = h.Routes
			case *caddyhttp.Invoke:
				if route := server.NamedRoutes[h.Name]; route != nil && !invoked[h.Name] {
					invoked[h.Name] = true // a named route may invoke itself
					inner = caddyhttp.RouteList{*route}
				}
			}
			if len(inner) > 0 && !visit(inner, yield) {
				return false
			}
		}
		return true
	}
	return func(yield func(caddyhttp.RouteList) bool) { visit(routes, yield) }
}

// handlers returns the handlers of the routes, but not those inside them.
func handlers(routes caddyhttp.RouteList) iter.Seq[caddyhttp.MiddlewareHandler] {
	return func(yield func(caddyhttp.MiddlewareHandler) bool) {
		for _, route := range routes {
			for _, h := range route.Handlers {
				if !yield(h) {
					return
				}
			}
		}
	}
}

// has reports whether a handler is in one of the routes.
func has(routes caddyhttp.RouteList, h caddyhttp.MiddlewareHandler) bool {
	for handler := range handlers(routes) {
		if handler == h {
			return true
		}
	}
	return false
}
