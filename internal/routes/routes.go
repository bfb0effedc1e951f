// Package routes looks around among the routes of a Caddy server: which of them are a site's, which handlers they have, and what these
// handlers do.
package routes

import (
	"iter"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// OfSite returns the routes of the site that has the handler. The Caddyfile adapter makes one route of a site, unless it is the
// only site of the server and has no host name.
func OfSite(server *caddyhttp.Server, h caddyhttp.MiddlewareHandler) (routes caddyhttp.RouteList) {
	if Has(server.Routes, h) {
		return server.Routes
	}
	for _, route := range server.Routes {
		for list := range Lists(server, caddyhttp.RouteList{route}) {
			if Has(list, h) {
				routes = append(routes, route)
				break
			}
		}
	}
	return routes
}

// Block returns the block of the site whose handler is being provisioned. The Caddyfile adapter makes one of each site that has
// a host name. Elsewhere there is none.
func Block(ctx caddy.Context) *caddyhttp.Subroute {
	for _, module := range ctx.Modules() {
		if block, ok := module.(*caddyhttp.Subroute); ok {
			return block
		}
	}
	return nil
}

// Hosts returns the hosts that a route is for, none if it is for all.
func Hosts(route caddyhttp.Route) (hosts []string) {
	for _, set := range route.MatcherSets {
		before := len(hosts)
		for _, matcher := range set {
			if names, ok := matcher.(*caddyhttp.MatchHost); ok {
				hosts = append(hosts, *names...)
			}
		}
		if len(hosts) == before {
			return nil
		}
	}
	return hosts
}

// Lists returns a list of routes, and the lists inside its handlers: blocks such as `handle`, and named routes.
func Lists(server *caddyhttp.Server, routes caddyhttp.RouteList) iter.Seq[caddyhttp.RouteList] {
	invoked := make(map[string]bool)
	var visit func(caddyhttp.RouteList, func(caddyhttp.RouteList) bool) bool
	visit = func(list caddyhttp.RouteList, yield func(caddyhttp.RouteList) bool) bool {
		if !yield(list) {
			return false
		}
		for handler := range Handlers(list) {
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

// Handlers returns the handlers of the routes, but not those inside them.
func Handlers(routes caddyhttp.RouteList) iter.Seq[caddyhttp.MiddlewareHandler] {
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

// Has reports whether a handler is in one of the routes.
func Has(routes caddyhttp.RouteList, h caddyhttp.MiddlewareHandler) bool {
	for handler := range Handlers(routes) {
		if handler == h {
			return true
		}
	}
	return false
}

// HandlesError reports whether the site has a handle_errors route for this failure. Without one, Caddy answers with an empty
// page.
func HandlesError(r *http.Request, failure caddyhttp.HandlerError) bool {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server.Errors == nil {
		return false
	}
	failed := server.Errors.WithError(r, failure)
	return handles(server.Errors.Routes, failed)
}

// handles reports whether any of the routes handles the request. The Caddyfile adapter wraps the routes of a site in a subroute
// for its hosts, and those of `handle_errors 404` in another for the status.
func handles(routes caddyhttp.RouteList, r *http.Request) bool {
	return slices.ContainsFunc(routes, func(route caddyhttp.Route) bool {
		match, err := route.MatcherSets.AnyMatchWithError(r)
		return match && err == nil && slices.ContainsFunc(route.Handlers, func(h caddyhttp.MiddlewareHandler) bool {
			sub, ok := h.(*caddyhttp.Subroute)
			return !ok || handles(sub.Routes, r)
		})
	})
}

// IsLogin reports whether a handler finds out who a person is, and lets only those pass who are signed in: `basic_auth` and all
// other providers of authentication, and `forward_auth`, which is a reverse proxy that goes on after a 2xx response.
func IsLogin(h caddyhttp.MiddlewareHandler) bool {
	switch h := h.(type) {
	case *caddyauth.Authentication:
		return true
	case *reverseproxy.Handler:
		return h.Rewrite != nil && h.Rewrite.Method == http.MethodGet &&
			slices.ContainsFunc(h.HandleResponse, func(rh caddyhttp.ResponseHandler) bool {
				return rh.Match != nil && slices.Equal(rh.Match.StatusCode, []int{2})
			})
	}
	return false
}

// MayBeLogin reports whether a handler is a login, or is neither Caddy's nor of this module, so that nobody knows what it does.
func MayBeLogin(h caddyhttp.MiddlewareHandler) bool {
	pkg := reflect.Indirect(reflect.ValueOf(h)).Type().PkgPath()
	return IsLogin(h) || !strings.HasPrefix(pkg, caddyPackages) && !strings.HasPrefix(pkg, ownPackages)
}

var (
	caddyPackages = reflect.TypeFor[caddy.Context]().PkgPath() + "/"
	ownPackages   = strings.TrimSuffix(reflect.TypeFor[Site]().PkgPath(), "/internal/routes")
)

// AnsweredBefore reports whether a response to all requests stands before a handler in a list of routes.
func AnsweredBefore(list caddyhttp.RouteList, h caddyhttp.MiddlewareHandler) bool {
	for _, route := range list {
		for _, handler := range route.Handlers {
			if handler == h {
				return false
			}
			if _, responds := handler.(*caddyhttp.StaticResponse); responds && len(route.MatcherSets) == 0 {
				return true
			}
		}
	}
	return false
}
