package guard

import (
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/request"
	"github.com/caddy-oauth/caddy-oauth/internal/routes"
)

// rules returns the rules for the answer to a request: those of this guard, or else of another that the request is to pass.
func (g *Guard) rules(r *http.Request) *bearer.CORS {
	if g.config.CORS != nil || r.Header.Get("Origin") == "" {
		return g.config.CORS
	}
	for other := range g.config.Place.besides(r) {
		if other.config.CORS != nil {
			return other.config.CORS
		}
	}
	return nil
}

// preflight answers a preflight, which has no token, by the rules or as the site has it. It reports false if neither says
// anything about it: the request is refused like any other, and the log says once what is missing.
func (g *Guard) preflight(w http.ResponseWriter, r *http.Request, rules *bearer.CORS) (answered bool, _ error) {
	if rules != nil {
		rules.Preflight(w, r)
		return true, nil
	}
	if route := preflightRoute(g.config.Place.routes, r); route != nil {
		nobody := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
		return true, route.Compile(nobody).ServeHTTP(w, r)
	}
	g.config.Place.preflights.Do(func() {
		g.config.Place.log.Warn("a script of another origin may not call a guarded route; if it should, add cors to the guard",
			zap.String("origin", r.Header.Get("Origin")), zap.String("path", request.Original(r).Path))
	})
	return false, nil
}

// preflightRoute returns the route in which the site itself answers a preflight: the first that matches, is for OPTIONS and no
// other method, and has an answer. No other route gets a request without a token.
func preflightRoute(routes caddyhttp.RouteList, r *http.Request) *caddyhttp.Route {
	for _, route := range routes {
		if matches, err := route.MatcherSets.AnyMatchWithError(r); !matches || err != nil {
			continue
		}
		if onlyForOptions(route) && answers(route) {
			return &route
		}
		for _, h := range route.Handlers {
			if block, ok := h.(*caddyhttp.Subroute); ok {
				if found := preflightRoute(block.Routes, r); found != nil {
					return found
				}
			}
		}
	}
	return nil
}

func onlyForOptions(route caddyhttp.Route) bool {
	options := func(matcher any) bool {
		m, ok := matcher.(*caddyhttp.MatchMethod)
		return ok && slices.Equal(*m, []string{http.MethodOptions})
	}
	return len(route.MatcherSets) > 0 && !slices.ContainsFunc(route.MatcherSets, func(set caddyhttp.MatcherSet) bool {
		return !slices.ContainsFunc(set, options)
	})
}

// answers reports whether a route has a handler that answers: `respond`, or a proxy that is no login.
func answers(route caddyhttp.Route) bool {
	return slices.ContainsFunc(route.Handlers, func(h caddyhttp.MiddlewareHandler) bool {
		switch h := h.(type) {
		case *caddyhttp.StaticResponse:
			return true
		case *reverseproxy.Handler:
			return !routes.IsLogin(h)
		case *caddyhttp.Subroute:
			return slices.ContainsFunc(h.Routes, answers)
		}
		return false
	})
}
