package caddyoauth

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/dpop"
	"github.com/caddy-oauth/caddy-oauth/internal/guard"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/mcp"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls"
	"github.com/caddy-oauth/caddy-oauth/internal/request"
	"github.com/caddy-oauth/caddy-oauth/internal/routes"
)

func init() {
	caddy.RegisterModule(Guard{})
}

// Guard requires a valid access token (RFC 6750): one of the issuer, neither expired nor revoked, for this resource and with
// the scopes that the route needs. It refuses all other requests with 401, 403 or 400, with 429 after too many invalid tokens,
// and with 503 while it cannot check a token. `handle_errors` can style the responses. The log says why, under the ID in the
// header `Error-Id`, which `{err.id}` shows too.
//
// It sets `{http.auth.user.id}` to the subject of the token, and `{http.auth.user.<claim>}` to each claim, such as
// `{http.auth.user.client_id}` and `{http.auth.user.scope}`. It also serves the metadata of the resource (RFC 9728) at
// `/.well-known/oauth-protected-resource`.
//
// A stream, such as server-sent events or a WebSocket, ends when its token expires. Any response ends when the token is revoked.
//
// The guards of a site work together on all of its requests, guarded or not: they remove from them the headers that any of them
// sets, and they refuse targets that two programs can read differently, such as `/public/..%2fapi`, with 400.
type Guard struct {
	// The name of an issuer of the `oauth` app, or the URL of a remote issuer, whose public keys the guard fetches when it needs
	// them. Default: the issuer of the site, the only issuer of the app, or `default`. **Danger:** the guard does not know which tokens a remote
	// issuer has revoked.
	Issuer string `json:"issuer,omitempty"`

	// The scopes that a token must have, all of them. An issuer of the `oauth` app must have them. Default: none.
	Scopes []string `json:"scopes,omitempty"`

	// How well people must have signed in: a token must have one of these values of `acr`. A request with another token gets 401 with
	// `insufficient_user_authentication` and the values, and a client that knows RFC 9470 has the person sign in again. Default: any.
	ACR []string `json:"acr,omitempty"`

	// The maximum age of the login, as `auth_time` in the token has it. A request with an older login is refused as with `acr`, and
	// the challenge has `max_age` in seconds. Default: no limit.
	MaxAge caddy.Duration `json:"max_age,omitempty"`

	// The audiences of which a token must have one. Default: the resource, or the audience of the issuer. Either this or the resource
	// is required if the issuer has several, and with a remote issuer, which may issue tokens to anybody for anything. An issuer of
	// the `oauth` app must have them, or one of its clients.
	Audience []string `json:"audience,omitempty"`

	// The URL by which clients know this resource. Default: the first of the audience.
	Resource string `json:"resource,omitempty"`

	// The header that has the token. Default: `Authorization`, with the scheme Bearer. **Danger:** Caddy's logs hide the value
	// of `Authorization`, but not that of another header. Remove it from them with `format filter` and
	// `request>headers>X-Token delete`.
	TokenHeader string `json:"token_header,omitempty"`

	// Whether a proxy of `trusted_proxies` says in the header `Client-Cert` which TLS certificate a client has (RFC 9440), for tokens that
	// are bound to one: `verified` or `unverified`, which a guard need not tell apart. From anybody else, the header is removed. Default: that
	// of an issuer of this Caddy; else the header is ignored. **Danger:** the proxy must remove the header that a client sends itself.
	ClientCertHeader string `json:"client_cert_header,omitempty"`

	// Whether a request without a token passes, as one of nobody. A request with an invalid token never passes. Default: false.
	Optional bool `json:"optional,omitempty"`

	// What happens to the header with the token before the request goes on to the site: `strip` removes it, `pass` keeps it.
	// Default: `strip`.
	Authorization string `json:"authorization,omitempty"`

	// Headers that tell the site who the user is: placeholders, by the name of the header. These headers, and headers with similar
	// names, are removed from all requests of the site that clients send, guarded or not, and so are all trailers.
	Headers map[string]string `json:"headers,omitempty"`

	// Who the user is if a client got the token for itself, by client credentials: `as_nobody` leaves `{http.auth.user.id}` empty,
	// `as_user` makes it the client ID. `{http.auth.user.client_id}` names the client in any case. Default: `as_nobody`. **Danger:**
	// with `as_user`, the site takes a client for the user whose ID is the client ID. Tokens of a remote issuer are known by their
	// `sub`, which is the client ID (RFC 9068).
	Machines string `json:"machines,omitempty"`

	// The values of `typ` that tokens of a remote issuer can have beside `at+jwt`. Default: none. **Danger:** with `JWT`, tokens
	// that are no access tokens, such as ID tokens, can pass.
	Types []string `json:"types,omitempty"`

	// How long a JWT is still accepted after it has expired, as clocks differ: at most 5 minutes. Opaque tokens of an issuer of
	// this Caddy, and introspection, have no leeway. Default: 30 seconds. **Danger:** a thief can use a stolen token for as much
	// longer.
	Leeway *caddy.Duration `json:"leeway,omitempty"`

	// Lets scripts of other origins call the route: the guard answers preflights, with any header that a script asks for, and scripts
	// may read all responses, refusals too. A response that already has `Access-Control-Allow-Origin` keeps it. Default: none, and
	// preflights are refused, unless the site answers them itself in a route that is for the method OPTIONS only.
	CORS *CORS `json:"cors,omitempty"`

	// What the protected resource is called when a client shows it to people. It stands in the metadata of the resource. Default:
	// the name in `page` of the issuer, if it has one.
	ResourceName string `json:"resource_name,omitempty"`

	// Says that the resource is a server of the Model Context Protocol. Scripts of all origins may call it, unless `cors` says which,
	// a refusal for scopes names those that the token has too, and clients may request tokens for the resource, which need not be an
	// audience of the issuer. If a matcher of the site looks at the headers `Mcp-Method` or `Mcp-Name`, the guard reads the messages
	// and makes these headers say what the message says. Default: none.
	MCP *MCP `json:"mcp,omitempty"`

	// Which requests to guard: those whose URL matches as the client sent it, whatever a rewrite before the guard has made of it.
	// Default: all that reach the handler. For a guard with a matcher, the Caddyfile adapter also adds this handler to a route for
	// all requests, so that no rewrite bypasses the guard and forged headers are removed from every request of the site.
	MatchersRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`

	matchers caddyhttp.MatcherSets
	settings string // the guard in JSON without its matchers: equal for guards that differ only in which requests they match
	cors     *bearer.CORS
	place    *guard.Place
	endpoint caddyhttp.MatchPath // of MCP; nil: all of the site
	tools    bool                // the matchers look at the messages of MCP
	guard    *guard.Guard        // nil until it is prepared
	borrowed string              // the remote issuer whose keys in the pool this guard uses, or ""

	ctx      caddy.Context
	app      *App
	block    *caddyhttp.Subroute // of the site
	prepared func() error        // prepare, once; an error stays, as it is one of the configuration, which then does not load
}

// CaddyModule returns the Caddy module information.
func (Guard) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.oauth_guard",
		New: func() caddy.Module { return new(Guard) },
	}
}

// Provision finds the issuer, and prepares the checks.
func (g *Guard) Provision(ctx caddy.Context) error {
	if err := g.resolve(); err != nil {
		return err
	}
	if err := g.check(); err != nil {
		return err
	}
	if err := g.provisionMatchers(ctx); err != nil {
		return err
	}
	app, err := ctx.App("oauth")
	if err != nil {
		return err
	}
	g.ctx, g.app, g.block, g.prepared = ctx, app.(*App), routes.Block(ctx), sync.OnceValue(g.prepare)
	g.place = guard.NewPlace(g, guardOf, ctx.Logger())
	g.app.warnings.Warn(ctx.Logger(), g.headerMistakes())
	if g.CORS != nil {
		g.cors = &bearer.CORS{Origins: g.CORS.Origins}
	}
	if err := g.provisionMCP(ctx); err != nil {
		return err
	}
	if err := g.app.await(g); err != nil || g.Issuer != "" || len(g.app.Issuers) != 1 {
		return err
	}
	// There is one issuer so far. Check the guard against it now; if a handler defines a second one later, prepare asks
	// for a name.
	_, only, err := g.app.issuer("")
	if err != nil {
		return err
	}
	return directive.At("oauth_guard", only.checkGuard(g))
}

// reference implements issuerUser.
func (g *Guard) reference() (issuer string, block *caddyhttp.Subroute) { return g.Issuer, g.block }

// connect implements issuerUser.
func (g *Guard) connect() error { return g.prepared() }

// prepare finds the issuer and prepares the checks.
func (g *Guard) prepare() error {
	source, issuer, audience, err := g.source()
	if err != nil {
		return err
	}
	switch {
	case g.addResource(issuer):
		audience = g.audienceOfMCP(audience)
	case len(g.Audience) > 0:
		audience = g.Audience
	case g.Resource != "":
		audience = []string{g.Resource}
	}
	metadata := &bearer.Metadata{
		Resource: cmp.Or(g.Resource, audience[0]), Servers: []string{issuer}, Scopes: g.Scopes, Methods: []string{"header"},
		Name: cmp.Or(g.ResourceName, g.siteName(issuer)),
	}
	if g.TokenHeader != "" {
		metadata.Methods = nil // RFC 9728 §2 has no name for it
	}
	if err := metadata.Prepare(); err != nil {
		return err
	}
	resource := bearer.Resource{
		Source: source, Audience: audience, Scopes: g.Scopes, Header: g.TokenHeader, MetadataURL: metadata.URL(),
		Leeway: jwt.Leeway, KeepScopes: g.MCP != nil,
		ACR: g.ACR, MaxAge: time.Duration(g.MaxAge),
	}
	if g.Leeway != nil {
		resource.Leeway = time.Duration(*g.Leeway)
	}
	if server, ok := source.(*authserver.Server); ok {
		resource.AllowNoAudience, resource.Monitor = server.MinimalTokens(), server.Monitor()
		resource.Proofs = server.Proofs()
	} else {
		resource.Proofs = &dpop.Checker{Memory: g.app.common.Proofs, Now: time.Now}
		if resource.Monitor, err = bearer.NewMonitor(issuer, g.ctx.GetMetricsRegistry()); err != nil {
			return err
		}
	}
	origins := []string{metadata.Resource}
	if !g.remote() {
		origins = append(origins, issuer)
	}
	own := g.app.Issuers[g.Issuer]
	if own != nil && own.MTLSEndpointAliases != "" {
		origins = append(origins, own.MTLSEndpointAliases)
	}
	header := g.ClientCertHeader
	if header == "" && own != nil {
		header = own.ClientCertHeader
	}
	resource.Certificate = func(r *http.Request) (*mtls.Certificate, error) { return request.Certificate(r, header) }
	g.guard, err = guard.New(guard.Config{
		Issuer: g.Issuer, Remote: g.remote(), Origins: origins, Resource: resource, Metadata: metadata, CORS: g.cors, Optional: g.Optional,
		Settings: g.settings, Matchers: g.matchers, KeepToken: g.Authorization == "pass", Headers: g.Headers, AsUser: g.Machines == "as_user",
		ClientCert: header != "", MCP: g.MCP != nil, Endpoint: g.endpoint, Tools: g.tools, Place: g.place, Trail: g.app.common.Trail,
	})
	return err
}

// guardOf returns the guard that a handler is, nil for any other handler.
func guardOf(h caddyhttp.MiddlewareHandler) (*guard.Guard, error) {
	g, ok := h.(*Guard)
	if !ok {
		return nil, nil //nolint:nilnil // there is none
	}
	if err := g.connect(); err != nil {
		return nil, err
	}
	return g.guard, nil
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (g *Guard) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if request.HideSecretsFromLogs(w, r, false) { // before any error, which Caddy logs with the URL
		return nil
	}
	if err := g.prepared(); err != nil {
		return err
	}
	return g.guard.ServeHTTP(w, r, next)
}

// source returns what checks the tokens of the issuer, the URL of the issuer, and its default audience.
func (g *Guard) source() (bearer.Source, string, []string, error) {
	name, ours := g.app.named(g.Issuer)
	switch {
	case ours:
	case g.remote():
		source, err := g.borrow(g.ctx)
		return source, g.Issuer, nil, err
	case g.Issuer == "" && len(g.app.blocks[g.block]) == 1:
		name = g.app.blocks[g.block][0]
	case g.Issuer == "" && len(g.app.Issuers) > 1:
		var err error
		if name, err = g.app.issuerOfServer(g); err != nil {
			return nil, "", nil, err
		}
	default:
		name = g.Issuer
	}
	name, issuer, err := g.app.issuer(name)
	if err != nil {
		return nil, "", nil, directive.At("oauth_guard", err)
	}
	g.Issuer = name
	if err := directive.At("oauth_guard", issuer.checkGuard(g)); err != nil {
		return nil, "", nil, err
	}
	g.app.warnings.Warn(g.ctx.Logger(), issuer.unusedScopes(g))
	g.app.warnings.Warn(g.ctx.Logger(), g.app.stepUpMistakes(g))
	return g.app.servers[name], issuer.URL, issuer.audience(), nil
}

func (g *Guard) provisionMatchers(ctx caddy.Context) error {
	bare := *g
	bare.MatchersRaw = nil
	settings, err := json.Marshal(&bare)
	if err != nil || g.MatchersRaw == nil {
		g.settings = string(settings)
		return err
	}
	g.settings = string(settings)
	g.tools = g.looksAtMessages()
	sets, err := ctx.LoadModule(g, "MatchersRaw")
	if err != nil {
		return err
	}
	return g.matchers.FromInterface(sets)
}

// looksAtMessages reports whether the matchers of the guard look at what a message of MCP asks for. Matchers of a guard with mcp may
// do so by ways that cannot be seen here, such as a variable.
func (g *Guard) looksAtMessages() bool {
	for _, set := range g.MatchersRaw {
		for module, settings := range set {
			if mcp.NamesHeader(string(settings)) || g.MCP != nil && !slices.Contains([]string{"path", "host", "protocol"}, module) {
				return true
			}
		}
	}
	return false
}

// provisionMCP applies the defaults of mcp: CORS for all origins, and a matcher for the path of the server.
func (g *Guard) provisionMCP(ctx caddy.Context) error {
	if g.MCP == nil {
		return nil
	}
	if g.cors == nil {
		g.cors = new(bearer.CORS)
	}
	path := g.MCP.Path
	if path == "" {
		u, err := url.Parse(g.Resource)
		if err != nil {
			return err
		}
		path = u.Path
	}
	if path = strings.TrimSuffix(path, "/"); path == "" {
		return nil
	}
	g.endpoint = caddyhttp.MatchPath{path, path + "/*"}
	return g.endpoint.Provision(ctx)
}

// addResource lets clients of the issuer request tokens for the resource of a guard with mcp. It reports false if the resource is in
// an audience already.
func (g *Guard) addResource(issuerURL string) bool {
	name, ours := g.app.named(issuerURL)
	if !ours || g.MCP == nil || g.app.Issuers[name].checkResources([]string{g.Resource}) == nil {
		return false
	}
	g.app.servers[name].AddResource(g.Resource)
	return true
}

// audienceOfMCP returns the audiences that a guard accepts for a resource that addResource has added. MCP clients before
// revision 2025-06-18 send no resource parameter and get tokens for the issuer's default audience, so it is accepted too if
// there is only one.
func (g *Guard) audienceOfMCP(byDefault []string) []string {
	switch {
	case len(g.Audience) > 0:
		return bearer.Union([]string{g.Resource}, g.Audience)
	case len(byDefault) == 1:
		return []string{g.Resource, byDefault[0]}
	}
	return []string{g.Resource}
}

// siteName returns the name that the pages of an issuer of this Caddy have.
func (g *Guard) siteName(issuerURL string) string {
	name, ours := g.app.named(issuerURL)
	if !ours || g.app.Issuers[name].Page == nil {
		return ""
	}
	return g.app.Issuers[name].Page.Name
}

// remote reports whether the issuer is configured by its URL.
func (g *Guard) remote() bool { return isURL(g.Issuer) }

// remoteKeys are the public keys of remote issuers, by URL. All guards share them, and they outlive a reload.
var remoteKeys = caddy.NewUsagePool()

// borrow returns the remote issuer. It sends no request: the keys are fetched when the first token has to be checked.
func (g *Guard) borrow(ctx caddy.Context) (bearer.Source, error) {
	keys, _, err := remoteKeys.LoadOrNew(g.Issuer, func() (caddy.Destructor, error) {
		return bearer.NewRemoteKeys(g.Issuer, nil), nil
	})
	if err != nil {
		return nil, err
	}
	g.borrowed = g.Issuer
	return &bearer.RemoteIssuer{
		URL: g.Issuer, Keys: keys.(*bearer.RemoteKeys), Types: g.Types, Log: ctx.Logger(), Scopes: g.Scopes,
	}, nil
}

// Cleanup releases the keys that borrow took.
func (g *Guard) Cleanup() error {
	if g.borrowed == "" {
		return nil
	}
	_, err := remoteKeys.Delete(g.borrowed)
	g.borrowed = ""
	return err
}

var (
	_ caddy.Provisioner           = (*Guard)(nil)
	_ caddy.CleanerUpper          = (*Guard)(nil)
	_ caddyhttp.MiddlewareHandler = (*Guard)(nil)
	_ issuerUser                  = (*Guard)(nil)
)
