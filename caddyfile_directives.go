package caddyoauth

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/siteblock"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/internal/warning"
)

func init() {
	httpcaddyfile.RegisterDirective("oauth", parseHandlerRoute)
	httpcaddyfile.RegisterDirective("oauth_guard", parseGuard)

	// Before redir and all rewrites, so that neither changes what these two see. The guard comes second: a guard of the whole
	// site does not lock out the endpoints.
	// Before header: a policy for the whole site, which header can set after everything else, would break the pages.
	httpcaddyfile.RegisterDirectiveOrder("oauth", httpcaddyfile.Before, "header")
	httpcaddyfile.RegisterDirectiveOrder("oauth_guard", httpcaddyfile.Before, "redir")
}

// parseHandlerRoute parses the directive into a route. It reads the surrounding site first, because ExtractMatcherSet
// removes the matcher from the tokens.
func parseHandlerRoute(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next()
	site := siteblock.Of(h)
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	handler, err := parseHandler(h, site)
	if err != nil {
		return nil, err
	}
	return h.NewRoute(matcher, handler), nil
}

// parseHandler reads the directive, which defines its issuer if it has a URL:
//
//	oauth [<matcher>] [<name>] <url> {
//		user  <placeholder>
//		claim <name> <placeholder> [list [<separator>]|number|boolean|json]
//		session {
//			auth_time <placeholder>
//			acr       <placeholder> [<value...>]
//			amr       <placeholder>
//			sid       <placeholder>
//			reauthenticate <url> [<parameter>]
//			logout    <url> [<parameter>]
//		}
//		login [<url> [<parameter>]] {
//			<directives...>
//		}
//		<settings of an issuer...>
//	}
//
// Without a URL, it serves an issuer that is defined elsewhere:
//
//	oauth [<matcher>] [<name>] {
//		user  <placeholder>
//		claim <name> <placeholder> ...
//		session ...
//		login ...
//	}
func parseHandler(helper httpcaddyfile.Helper, site *siteblock.Site) (caddyhttp.MiddlewareHandler, error) {
	p, known := parser{directive.New(helper.Dispenser)}, issuersSoFar(helper)
	args, err := p.Args("oauth", "the name and the URL of an issuer, one of them, or nothing", 0, 2)
	if err != nil {
		return nil, err
	}
	var own caddyfile.Token // where the directive stands
	h := new(Handler)
	if n := len(args); n == 2 || n == 1 && (isURL(args[0]) || unresolved(args[0])) {
		h.Settings = &Issuer{URL: args[n-1]}
		args = args[:n-1]
	}
	if len(args) == 1 {
		h.Issuer = args[0]
	}
	err = p.Under("oauth", func() error {
		if h.Settings == nil {
			if err := known.checkServed(h.Issuer, site); err != nil {
				return p.WrapErr(directive.At("oauth", err))
			}
			own = p.Token()
			return p.Block(p.handlerSettings(helper, h))
		}
		own = p.Token()
		settings := p.issuerSettings(h.Settings)
		maps.Copy(settings, p.handlerSettings(helper, h))
		if err := p.Block(settings); err != nil {
			return err
		}
		if err := known.define(h.Issuer, h.Settings, own); err != nil {
			return p.Locate(directive.At("oauth", err))
		}
		warning.Adapted(p.Parser, h.Settings.mistakes("oauth"))
		if err := h.Settings.hideSecrets(); err != nil {
			return p.Locate(directive.At("oauth", err))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := h.check(); err != nil {
		return nil, p.Locate(directive.At("oauth", err))
	}
	issuer := h.Settings
	if issuer == nil {
		issuer = known.served(h.Issuer)
	}
	warning.Adapted(p.Parser, handlerMistakes(site, h, issuer, own))
	if issuer != nil {
		warning.Adapted(p.Parser, h.authTimeMistakes(issuer))
	}
	if h.Settings != nil {
		warning.Adapted(p.Parser, h.claimMistakes())
		warning.Adapted(p.Parser, missing(site.Block(own)))
		warning.Adapted(p.Parser, inlineSecrets(h.Settings.URL, site.Block(own)))
	}
	return h, nil
}

// hideSecrets replaces the secrets that stand in the Caddyfile by their hashes, as Caddy writes the settings of all handlers to its
// log at level DEBUG.
func (i *Issuer) hideSecrets() error {
	literal := func(key string) bool { return !unresolved(key) }
	if i.Encryption != nil && slices.ContainsFunc(i.Encryption.Keys, literal) {
		return directive.At("encryption_key", errors.New("expected a placeholder such as {env.OAUTH_KEY}, as the settings of a site are in Caddy's log at level DEBUG"))
	}
	if hasPassword(i.StoreRaw) {
		return directive.At("store", errors.New("expected as the password a placeholder such as {env.REDIS_PASSWORD}, as the settings of a site are in Caddy's log at level DEBUG"))
	}
	if i.OpenID != nil && i.OpenID.PairwiseSalt != "" && literal(i.OpenID.PairwiseSalt) {
		return directive.At("openid", directive.At("pairwise_salt", errors.New("expected a placeholder such as {env.PAIRWISE_SALT}, as the settings of a site are in Caddy's log at level DEBUG")))
	}
	i.Dynamic.hideSecrets()
	for _, c := range i.Clients {
		c.Secrets = slices.DeleteFunc(c.Secrets, func(secret string) bool {
			if !unresolved(secret) {
				c.SecretHashes = append(c.SecretHashes, clients.HashSecret(secret))
			}
			return !unresolved(secret)
		})
	}
	return nil
}

// hasPassword reports whether the settings of a module have a password that is not a placeholder, at any depth.
func hasPassword(settings json.RawMessage) bool {
	var object map[string]json.RawMessage
	if json.Unmarshal(settings, &object) != nil {
		return false
	}
	for name, value := range object {
		var password string
		if name == "password" && json.Unmarshal(value, &password) == nil && password != "" && !unresolved(password) || hasPassword(value) {
			return true
		}
	}
	return false
}

func (p parser) handlerSettings(helper httpcaddyfile.Helper, h *Handler) directive.Settings {
	return directive.Settings{
		"user":  p.Word("a placeholder", &h.User),
		"claim": p.claim(h),
		"login": p.login(helper, h),

		"session": p.session(h),
	}
}

// knownIssuers are the issuers that are parsed before a directive: those of the global option and of the directives above it.
// For issuers that are defined below, only their existence can be checked (definedBelow).
type knownIssuers struct {
	app    *App
	taken  *taken
	at     map[string]caddyfile.Token // the directives that define them, by name
	hidden bool                       // an issuer above has a placeholder in its URL, so its name is unknown here
}

func issuersSoFar(h httpcaddyfile.Helper) *knownIssuers {
	const key = "oauth.issuers"
	if known, ok := h.State[key].(*knownIssuers); ok {
		return known
	}
	known := &knownIssuers{app: configured(h), taken: newTaken(), at: make(map[string]caddyfile.Token)}
	known.app.configured = slices.Sorted(maps.Keys(known.app.Issuers))
	for _, name := range known.app.configured {
		_ = known.taken.take(name, known.app.Issuers[name]) // the global option was checked
	}
	h.State[key] = known
	return known
}

// define checks and adds the issuer that a directive defines.
func (k *knownIssuers) define(name string, issuer *Issuer, begin caddyfile.Token) error {
	if name == "" && unresolved(issuer.URL) {
		k.hidden = true
		return issuer.check()
	}
	if name == "" {
		if err := checkIssuerURL(issuer.URL); err != nil {
			return err
		}
		name = uris.IssuerName(issuer.URL)
	}
	for other, token := range k.at {
		if k.app.Issuers[other].URL == issuer.URL {
			return fmt.Errorf("expected one block for each issuer, and that of %s is at %s:%d; one site can have several addresses, and the global option oauth is for an issuer of several sites",
				issuer.URL, token.File, token.Line)
		}
	}
	if first, taken := k.at[name]; taken {
		return fmt.Errorf("expected another name than that of the issuer at %s:%d", first.File, first.Line)
	}
	if k.app.Issuers[name] != nil {
		return errors.New("expected another name than that of an issuer of the global option")
	}
	if err := k.taken.take(name, issuer); err != nil {
		return err
	}
	k.app.Issuers[name], k.at[name] = issuer, begin
	return nil
}

// checkServed finds the name of an issuer that is not there.
func (k *knownIssuers) checkServed(name string, site *siteblock.Site) error {
	if name == "" {
		_, err := k.app.configuredIssuer()
		return err
	}
	if k.hidden || k.app.Issuers[name] != nil || definedBelow(site, name) {
		return nil
	}
	return fmt.Errorf("there is no issuer %q%s; to define one here, expected its URL and its settings in braces, such as: oauth https://example.com { ... }", name, k.others())
}

// definedBelow reports whether a directive anywhere in the Caddyfile of the site defines the issuer of that name or URL.
func definedBelow(site *siteblock.Site, issuer string) (found bool) {
	oauthLines(site.File(), func(args []string) {
		if n := len(args); n > 0 && isURL(args[n-1]) {
			found = found || args[0] == issuer || args[n-1] == issuer || n == 1 && uris.IssuerName(args[0]) == issuer
		}
	})
	return found
}

// served returns the issuer that a directive without settings serves, and nil if it is not known.
func (k *knownIssuers) served(name string) *Issuer {
	if name == "" {
		name, _ = k.app.configuredIssuer()
	}
	return k.app.Issuers[name]
}

func (k *knownIssuers) others() string {
	if len(k.app.Issuers) == 0 {
		return ""
	}
	return " above this line, expected " + directive.OneOf(slices.Sorted(maps.Keys(k.app.Issuers)))
}

// checkGuard checks a guard against its issuer. If the guard names no issuer and there are several, the issuer depends on the
// site, and Provision checks the guard instead.
func (k *knownIssuers) checkGuard(g *Guard, namedRoute bool, site *siteblock.Site) error {
	name, ours := k.app.named(g.Issuer)
	switch {
	case ours:
	case g.remote(), unresolved(g.Issuer):
		return nil
	case g.Issuer == "" && len(k.app.Issuers) != 1:
		return nil
	case g.Issuer != "" && k.app.Issuers[g.Issuer] == nil:
		if k.hidden || namedRoute || definedBelow(site, g.Issuer) { // named routes stand before all sites
			return nil
		}
		return fmt.Errorf("there is no issuer %q%s, or the URL of an issuer", g.Issuer, cmp.Or(k.others(), ", expected its definition above this line"))
	default:
		name = g.Issuer
	}
	_, issuer, err := k.app.issuer(name)
	if err != nil {
		return err
	}
	return issuer.checkGuard(g)
}

// guarded returns the issuer of a guard, and nil if it is not known.
func (k *knownIssuers) guarded(g *Guard) *Issuer {
	if name, ours := k.app.named(g.Issuer); ours {
		return k.app.Issuers[name]
	}
	if g.Issuer == "" && len(k.app.Issuers) == 1 {
		_, issuer, _ := k.app.issuer("")
		return issuer
	}
	return k.app.Issuers[g.Issuer]
}

// parseGuard reads the directive:
//
//	oauth_guard [<matcher>] [<issuer>] {
//		scopes        <scope...>
//		acr           <value...>
//		max_age       <duration>
//		audience      <uri...>
//		resource      <uri>
//		token_header  <name>
//		client_cert_header verified|unverified
//		optional
//		authorization strip|pass
//		header        <name> <placeholder>
//		machines      as_nobody|as_user
//		types         <typ...>
//		leeway        <duration>
//		cors          [<origin...>]
//		resource_name <name>
//		mcp           [<path>]
//	}
//
// A guard with a matcher becomes two routes: one with the matcher, which Caddy sorts by the length of its path as it does for other
// directives, and after all of those, one for all requests, which looks at the URL that the client sent.
func parseGuard(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next()
	own, site := h.Token(), siteblock.Of(h)
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	p, known := directive.New(h.Dispenser), issuersSoFar(h)
	g, err := newGuard(p, func(g *Guard) error {
		if err := directive.At("oauth_guard", g.setMCP(matcher, site, known.guarded(g))); err != nil {
			return err
		}
		return cmp.Or(g.check(), directive.At("oauth_guard", known.checkGuard(g, h.IsNamedRoute(), site)))
	})
	if err != nil {
		return nil, err
	}
	warning.Adapted(p, guardMistakes(site, g, own, matcher))
	if issuer := known.guarded(g); issuer != nil {
		warning.Adapted(p, issuer.unusedScopes(g))
	}
	values := h.NewRoute(matcher, g)
	if matcher != nil {
		original := *g
		original.MatchersRaw = caddyhttp.RawMatcherSets{matcher}
		values = append(values, h.NewRoute(nil, &original)...)
	}
	return values, nil
}

// setMCP sets the path and the resource of a guard with mcp. The path is the argument of mcp, or else that of the matcher. It extends
// a matcher for one path to the paths below it.
func (g *Guard) setMCP(matcher caddy.ModuleMap, site *siteblock.Site, issuer *Issuer) error {
	if g.MCP == nil {
		return nil
	}
	var paths []string
	if raw, ok := matcher["path"]; ok {
		if err := json.Unmarshal(raw, &paths); err != nil {
			return err
		}
	}
	base, one := onePath(paths)
	if g.MCP.Path == "" && len(matcher) > 0 {
		if !one {
			return directive.At("mcp", errors.New("expected the path of the server, such as /mcp, as the matcher does not say which it is"))
		}
		g.MCP.Path = base
	}
	if g.Resource == "" {
		issuerURL := ""
		if issuer != nil {
			issuerURL = issuer.URL
		}
		origin := site.Origin(issuerURL)
		if origin == "" {
			return directive.At("mcp", errors.New("expected resource too, the URL by which clients know the server, as the site has no single address"))
		}
		g.Resource = origin + strings.TrimSuffix(g.MCP.Path, "/")
	}
	if len(paths) == 1 && one && base != "" && paths[0] != base+"*" {
		both, err := json.Marshal([]string{base, base + "/*"})
		matcher["path"] = both
		return err
	}
	return nil
}

// onePath returns the path that patterns are for, such as /mcp and /mcp/*.
func onePath(patterns []string) (base string, one bool) {
	for i, pattern := range patterns {
		path := strings.TrimSuffix(strings.TrimSuffix(pattern, "*"), "/")
		if i > 0 && path != base || strings.ContainsAny(path, "*{") {
			return "", false
		}
		base = path
	}
	return base, len(patterns) > 0
}

func (g *Guard) parseLeeway(args []string) (directive.Settings, error) {
	leeway, err := caddy.ParseDuration(args[0])
	if err != nil {
		leeway = -1 // which the check refuses
	}
	g.Leeway = (*caddy.Duration)(&leeway)
	return nil, nil
}

func (g *Guard) parseMaxAge(args []string) (directive.Settings, error) {
	age, err := caddy.ParseDuration(args[0])
	if err != nil || age <= 0 {
		age = -1 // which the check refuses
	}
	g.MaxAge = caddy.Duration(age)
	return nil, nil
}

// configured returns the app of the global option, which is empty if there is none.
func configured(h httpcaddyfile.Helper) *App {
	app := new(App)
	if option, ok := h.Option("oauth").(httpcaddyfile.App); ok {
		_ = json.Unmarshal(option.Value, app) // it was an App
	}
	if app.Issuers == nil {
		app.Issuers = make(map[string]*Issuer)
	}
	return app
}

// newGuard reads a guard. check completes it, and checks it.
func newGuard(p *directive.Parser, check func(*Guard) error) (*Guard, error) {
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
			"scopes":       p.Words("one scope or more", &g.Scopes),
			"acr":          p.Words("one value of acr or more", &g.ACR),
			"max_age":      p.Once("a duration of whole seconds, such as 15m", 1, 1, g.parseMaxAge),
			"audience":     p.Words("one URI or more", &g.Audience),
			"resource":     p.Word("a URI", &g.Resource),
			"token_header": p.Word("the name of a header", &g.TokenHeader),
			"optional":     p.Flag(&g.Optional),

			"client_cert_header": p.Word("verified or unverified", &g.ClientCertHeader),

			"authorization": p.Word("strip or pass", &g.Authorization),
			"header":        p.Pair("a name and a placeholder", &g.Headers),
			"machines":      p.Word("as_nobody or as_user", &g.Machines),
			"types":         p.Words("one typ or more", &g.Types),
			"leeway":        p.Once("a duration up to 5m, such as 30s, or 0", 1, 1, g.parseLeeway),
			"cors": p.Once("origins or nothing", 0, -1, func(origins []string) (directive.Settings, error) {
				g.CORS = &CORS{Origins: origins}
				return nil, nil
			}),
			"resource_name": p.Word("the name of the resource", &g.ResourceName),
			"mcp": p.Once("the path of the server or nothing", 0, 1, func(path []string) (directive.Settings, error) {
				g.MCP = &MCP{Path: strings.Join(path, "")}
				return nil, nil
			}),
		})
	})
	if err != nil {
		return nil, err
	}
	return g, p.Locate(check(g))
}
