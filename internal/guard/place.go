package guard

import (
	"cmp"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/request"
	"github.com/caddy-oauth/caddy-oauth/internal/routes"
	"github.com/caddy-oauth/caddy-oauth/internal/trail"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
)

// Place is where a handler of this module stands among the routes of a site, and what it has to know of the others there. It
// learns it from its first request: the routes are not complete while a handler is provisioned.
type Place struct {
	handler caddyhttp.MiddlewareHandler
	guardOf func(caddyhttp.MiddlewareHandler) (*Guard, error)
	log     *zap.Logger

	once   sync.Once
	routes caddyhttp.RouteList // of the site
	list   caddyhttp.RouteList // of the site, or a block in it, that has the handler
	named  bool                // the site is for some host names, so that no request has another one

	// Of all guards of the site.
	beside  []neighbor // those in the list, but for the handler itself
	guarded bool       // there are some
	headers []string   // that they set

	trail      *trail.Trail // nil without guards
	clientCert bool         // one of them believes the header Client-Cert of a proxy

	catalog bearer.Catalog

	tools     bool     // the site decides by what an MCP message asks for
	endpoints []*Guard // of MCP

	preflights sync.Once // the log says once that one was refused
}

// neighbor is a guard in a route beside a handler.
type neighbor struct {
	*Guard

	route caddyhttp.Route
}

// NewPlace returns the place of a handler. guardOf returns the guard that a handler is, nil for any other handler, or why the guard is
// not ready.
func NewPlace(h caddyhttp.MiddlewareHandler, guardOf func(caddyhttp.MiddlewareHandler) (*Guard, error), log *zap.Logger) *Place {
	return &Place{handler: h, guardOf: guardOf, log: log}
}

// List returns the list of routes that has the handler: those of the site, or of a block in it. It is nil if the handler stands elsewhere,
// such as among error routes.
func (p *Place) List(r *http.Request) caddyhttp.RouteList {
	p.find(r)
	return p.list
}

// Enter does what the guards of a site do for each of its requests, once, whichever handler sees the request first. It reports
// whether it has answered the request. Without guards, there is nothing to do.
func (p *Place) Enter(w http.ResponseWriter, r *http.Request) (answered bool) {
	_, answered = p.enter(w, r)
	return answered
}

// enter also returns what the guards know of the request; nil: there are none.
func (p *Place) enter(w http.ResponseWriter, r *http.Request) (known *state, answered bool) {
	p.find(r)
	if p.clientCert {
		request.DropClientCert(r)
	}
	if !p.guarded {
		return nil, false
	}
	if known, ok := caddyhttp.GetVar(r.Context(), request.StateVar).(*state); ok {
		return known, false
	}
	known = new(state)
	caddyhttp.SetVar(r.Context(), request.StateVar, known)
	r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Map(known.placeholder)
	p.dropForgeries(r)
	sent := request.Original(r)
	if bearer.Ambiguous(sent) {
		p.refuseTarget(w, r, sent)
		return known, true
	}
	if bearer.IsMetadata(sent.Path) {
		p.catalog.Serve(request.KeepHeaders(w), r, sent.Path)
		return known, true
	}
	return known, false
}

// refuseTarget answers a request whose target two programs can read differently. No handler of the site gets it, not even one for errors.
func (p *Place) refuseTarget(w http.ResponseWriter, r *http.Request, sent *url.URL) {
	id := wire.NewErrorID()
	p.trail.Log(p.log, zap.InfoLevel, "request refused",
		zap.String("endpoint", "guard"), zap.String("client_ip", request.ClientIP(r)), zap.String("error", grants.InvalidRequest),
		zap.String("sent", wire.Loggable(cmp.Or(sent.Opaque, sent.EscapedPath()))), zap.String("expected", "a path that begins with a slash, without dot segments and zero bytes"),
		zap.String("error_id", id), zap.Int("status", http.StatusBadRequest), zap.String("cause", "two programs can read the path differently"))
	w.Header().Set("Error-Id", id)
	http.Error(w, "The path of this request can be read in two ways.", http.StatusBadRequest)
}

// dropForgeries removes everything that the client sent and that the site could take for the word of a guard: headers of the
// same names; headers whose names many servers cannot tell from these (RFC 3875 §4.1.18), which Caddy itself drops unless it is
// configured to expect them; and trailers, which some servers merge into the headers (RFC 9110 §6.5.1).
func (p *Place) dropForgeries(r *http.Request) {
	for _, name := range p.headers {
		request.DropHeader(r, name, false)
	}
	r.Trailer = nil
}

// find looks the handler up in the server that has the request.
func (p *Place) find(r *http.Request) {
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
		guards := p.take(nil, p.handler) // it may stand among the error routes
		for list := range routes.Lists(server, p.routes) {
			if p.list == nil && routes.Has(list, p.handler) {
				p.list = list
			}
			p.tools = p.tools || slices.ContainsFunc(list, func(route caddyhttp.Route) bool { return matchTools(route.MatcherSets) })
			for h := range routes.Handlers(list) {
				guards = p.take(guards, h)
			}
		}
		for _, route := range p.list {
			for _, h := range route.Handlers {
				if g, _ := p.guardOf(h); g != nil && h != p.handler {
					p.beside = append(p.beside, neighbor{g, route})
				}
			}
		}
		p.join(guards)
	})
}

// take adds the guard that a handler is, if it is one and has an issuer.
func (p *Place) take(guards []*Guard, h caddyhttp.MiddlewareHandler) []*Guard {
	g, err := p.guardOf(h)
	p.guarded = p.guarded || g != nil || err != nil
	if err != nil {
		p.log.Error("a guard of the site has no issuer", zap.Error(err))
	}
	if g != nil {
		guards = append(guards, g)
	}
	return guards
}

// join collects the settings and resource metadata of all guards of the site.
func (p *Place) join(guards []*Guard) {
	documents := make([]*bearer.Metadata, 0, len(guards))
	some := make(map[string]bool) // settings of guards of some requests to an MCP server
	for _, g := range guards {
		some[g.config.Settings] = some[g.config.Settings] || g.config.MCP && g.config.Tools
	}
	for _, g := range guards {
		p.headers = bearer.Union(p.headers, slices.Sorted(maps.Keys(g.config.Headers)))
		p.clientCert = p.clientCert || g.config.ClientCert
		p.trail = g.config.Trail
		document := *g.config.Metadata
		if some[g.config.Settings] {
			document.Scopes = nil // clients ask for all that the metadata has; the challenge has these when they are needed
		}
		documents = append(documents, &document)
		if g.config.MCP {
			p.endpoints = append(p.endpoints, g)
		}
		p.tools = p.tools || g.config.Tools
	}
	var err error
	if p.catalog, err = bearer.NewCatalog(documents); err != nil {
		p.log.Error("metadata of protected resources", zap.Error(err)) // each was prepared when its guard was provisioned
	}
}

// besides returns the guards for a request that stand in one list with the handler.
func (p *Place) besides(r *http.Request) iter.Seq[*Guard] {
	return func(yield func(*Guard) bool) {
		for _, g := range p.beside {
			reached, err1 := g.route.MatcherSets.AnyMatchWithError(r)
			matches, err2 := g.matches(r)
			if err1 == nil && err2 == nil && reached && matches && !yield(g.Guard) {
				return
			}
		}
	}
}
