package caddyoauth

import (
	"cmp"
	"encoding/json"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("oauth", parseHandler)
	httpcaddyfile.RegisterDirective("oauth_guard", parseGuard)

	// Before redir and all rewrites, so that neither changes what these two see. The guard comes second: a guard of the whole
	// site does not lock out the endpoints.
	// Before header: a policy for the whole site, which header can set after everything else, would break the pages.
	httpcaddyfile.RegisterDirectiveOrder("oauth", httpcaddyfile.Before, "header")
	httpcaddyfile.RegisterDirectiveOrder("oauth_guard", httpcaddyfile.Before, "redir")
}

// parseHandler reads the directive:
//
//	oauth [<matcher>] [<issuer>] {
//		user  <placeholder>
//		claim <name> <placeholder>
//		login <url> [<parameter>]
//	}
func parseHandler(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	p := directive.New(helper.Dispenser)
	args, err := p.Args("oauth", "the name of an issuer or nothing", 0, 1)
	if err != nil {
		return nil, err
	}
	h := new(Handler)
	if len(args) == 1 {
		h.Issuer = args[0]
	}
	err = p.Block(directive.Settings{
		"user":  p.Word("a placeholder", &h.User),
		"claim": p.Pair("a name and a placeholder", &h.Claims),
		"login": p.Once("the URL of a login page and, optionally, the name of its parameter", 1, 2,
			func(args []string) (directive.Settings, error) {
				h.Login = &Login{URL: args[0]}
				if len(args) == 2 {
					h.Login.Parameter = args[1]
				}
				return nil, nil
			}),
	})
	if err != nil {
		return nil, err
	}
	return h, p.Locate(h.check())
}

// parseGuard reads the directive:
//
//	oauth_guard [<matcher>] [<issuer>] {
//		scopes        <scope...>
//		audience      <uri...>
//		resource      <uri>
//		token_header  <name>
//		optional
//		authorization strip|pass
//		header        <name> <placeholder>
//		machines      as_nobody|as_user
//		types         <typ...>
//		leeway        <duration>
//		cors          [<origin...>]
//	}
//
// A guard with a matcher becomes two routes: one with the matcher, which Caddy sorts by the length of its path as it does for other
// directives, and after all of those, one for all requests, which looks at the URL that the client sent.
func parseGuard(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next()
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	g, err := newGuard(directive.New(h.Dispenser), configured(h))
	if err != nil {
		return nil, err
	}
	values := h.NewRoute(matcher, g)
	if matcher != nil {
		original := *g
		original.MatchersRaw = caddyhttp.RawMatcherSets{matcher}
		values = append(values, h.NewRoute(nil, &original)...)
	}
	return values, nil
}

func (g *Guard) parseLeeway(args []string) (directive.Settings, error) {
	leeway, err := caddy.ParseDuration(args[0])
	if err != nil {
		leeway = -1 // which the check refuses
	}
	g.Leeway = (*caddy.Duration)(&leeway)
	return nil, nil
}

// configured returns the app of the global option, nil if there is none.
func configured(h httpcaddyfile.Helper) *App {
	option, ok := h.Option("oauth").(httpcaddyfile.App)
	app := new(App)
	if !ok || json.Unmarshal(option.Value, app) != nil {
		return nil
	}
	return app
}

// newGuard reads a guard. It checks it against its issuer if that is one of the app.
func newGuard(p *directive.Parser, app *App) (*Guard, error) {
	args, err := p.Args("oauth_guard", "the name or the URL of an issuer or nothing", 0, 1)
	if err != nil {
		return nil, err
	}
	g := new(Guard)
	if len(args) == 1 {
		g.Issuer = args[0]
	}
	err = p.Under("oauth_guard", func() error {
		return p.Block(directive.Settings{
			"scopes":        p.Words("one scope or more", &g.Scopes),
			"audience":      p.Words("one URI or more", &g.Audience),
			"resource":      p.Word("a URI", &g.Resource),
			"token_header":  p.Word("the name of a header", &g.TokenHeader),
			"optional":      p.Flag(&g.Optional),
			"authorization": p.Word("strip or pass", &g.Authorization),
			"header":        p.Pair("a name and a placeholder", &g.Headers),
			"machines":      p.Word("as_nobody or as_user", &g.Machines),
			"types":         p.Words("one typ or more", &g.Types),
			"leeway":        p.Once("a duration up to 5m, such as 30s, or 0", 1, 1, g.parseLeeway),
			"cors": p.Once("origins or nothing", 0, -1, func(origins []string) (directive.Settings, error) {
				g.CORS = &CORS{Origins: origins}
				return nil, nil
			}),
		})
	})
	if err != nil {
		return nil, err
	}
	if err := g.check(); err != nil {
		return nil, p.Locate(err)
	}
	if name, ours := app.named(g.Issuer); ours || app != nil && !g.remote() {
		if _, issuer, err := app.issuer(cmp.Or(name, g.Issuer)); err == nil { // an unknown issuer is an error when the app is there
			return g, p.Locate(directive.At("oauth_guard", issuer.checkGuard(g)))
		}
	}
	return g, nil
}
