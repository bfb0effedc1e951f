package caddyoauth

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	httpcaddyfile.RegisterDirective("oauth_guard", parseGuard)
	httpcaddyfile.RegisterDirectiveOrder("oauth_guard", httpcaddyfile.After, "basic_auth")
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
//		types         <typ...>
//	}
//
// Beside the route it guards, it makes one for the metadata of the resource, which must be found by everybody.
func parseGuard(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next()
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	p := newParser(h.Dispenser)
	p.Next()
	args, err := p.args("oauth_guard", "the name or the URL of an issuer or nothing", 0, 1)
	if err != nil {
		return nil, err
	}
	g := new(Guard)
	if len(args) == 1 {
		g.Issuer = args[0]
	}
	err = p.under("oauth_guard", func() error {
		return p.block(settings{
			"scopes":        p.words("scopes", "one scope or more", &g.Scopes),
			"audience":      p.words("audience", "one URI or more", &g.Audience),
			"resource":      p.word("resource", "a URI", &g.Resource),
			"token_header":  p.word("token_header", "the name of a header", &g.TokenHeader),
			"optional":      p.flag("optional", &g.Optional),
			"authorization": p.word("authorization", "strip or pass", &g.Authorization),
			"header":        p.pair("header", "a name and a placeholder", &g.Headers),
			"types":         p.words("types", "one typ or more", &g.Types),
		})
	})
	if err != nil {
		return nil, err
	}
	if err := g.check(); err != nil {
		return nil, p.locate(err)
	}
	values := h.NewRoute(matcher, g)
	if matcher != nil {
		paths := caddyhttp.MatchPath{"/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/*"}
		describe := *g
		describe.MetadataOnly = true
		values = append(values, h.NewRoute(caddy.ModuleMap{"path": caddyconfig.JSON(paths, nil)}, &describe)...)
	}
	return values, nil
}
