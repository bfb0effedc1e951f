package caddyoauth

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/net/http/httpguts"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
)

func init() {
	caddy.RegisterModule(Guard{})
}

// Guard lets a request pass only with a good access token (RFC 6750): from the issuer, not expired, not revoked, for
// this resource and with the scopes it needs. All others are refused with 401, 403 or 400, which `handle_errors` can
// style.
//
// It sets `{http.auth.user.id}` to whom the token speaks for, and every claim as `{http.auth.user.<claim>}`, such as
// `{http.auth.user.client_id}` and `{http.auth.user.scope}`. It also serves the metadata of the resource (RFC 9728) at
// `/.well-known/oauth-protected-resource`.
type Guard struct {
	// The name of an issuer of the `oauth` app, or the URL of one elsewhere, whose public keys are fetched when
	// they are needed, and which must say what its tokens are for: see `audience`. What an issuer elsewhere has
	// revoked is not known here. Default: the only issuer of the app, or `default`.
	Issuer string `json:"issuer,omitempty"`

	// The scopes a token must have, all of them. Default: none.
	Scopes []string `json:"scopes,omitempty"`

	// A token must be for one of these. Default: the resource, or else what the issuer's tokens are for. With an
	// issuer elsewhere it or the resource is required: such an issuer may give tokens to anybody for anything.
	Audience []string `json:"audience,omitempty"`

	// The URL by which clients know this resource. Default: the first of the audience.
	Resource string `json:"resource,omitempty"`

	// A header that carries the token, instead of `Authorization: Bearer`. Caddy's logs do not know it for a secret: take
	// it out of them with `format filter`, as `request>headers>X-Token delete`.
	TokenHeader string `json:"token_header,omitempty"`

	// Whether requests without a token pass too, as nobody's. One with a bad token never passes.
	Optional bool `json:"optional,omitempty"`

	// Whether the token goes on to what is behind: `strip` or `pass`. Default: `strip`.
	Authorization string `json:"authorization,omitempty"`

	// Headers that tell what is behind who is there, by name, as placeholders. Whatever a client sends under
	// these names or ones like them is removed, whether there is a token or not, and so are all trailers.
	Headers map[string]string `json:"headers,omitempty"`

	// What the `typ` of tokens of an issuer elsewhere can be beside `at+jwt`. Default: nothing else. **Danger:** with
	// `JWT`, tokens that were made for something else, such as ID tokens, may pass.
	Types []string `json:"types,omitempty"`

	// Only serve the metadata of the resource, and pass all other requests on. A Caddyfile makes such a handler of
	// its own beside a guard with a matcher.
	MetadataOnly bool `json:"metadata_only,omitempty"`

	resource bearer.Resource
	metadata *bearer.Metadata
	borrowed string // the issuer elsewhere whose keys this guard holds in the pool, "" for none
}

// CaddyModule returns the Caddy module information.
func (Guard) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.oauth_guard",
		New: func() caddy.Module { return new(Guard) },
	}
}

// Provision finds the issuer.
func (g *Guard) Provision(ctx caddy.Context) error {
	if err := g.resolve(); err != nil {
		return err
	}
	if err := g.check(); err != nil {
		return err
	}
	source, issuer, audience, err := g.source(ctx)
	if err != nil {
		return err
	}
	if g.Resource != "" {
		audience = []string{g.Resource}
	}
	if len(g.Audience) > 0 {
		audience = g.Audience
	}
	g.metadata = &bearer.Metadata{
		Resource: cmp.Or(g.Resource, audience[0]), Servers: []string{issuer}, Scopes: g.Scopes, Methods: []string{"header"},
	}
	if g.TokenHeader != "" {
		g.metadata.Methods = nil // RFC 9728 §2 has no word for it
	}
	if err := g.metadata.Prepare(); err != nil {
		return err
	}
	g.resource = bearer.Resource{
		Source: source, Audience: audience, Scopes: g.Scopes, Header: g.TokenHeader, MetadataURL: g.metadata.URL(),
	}
	if server, ok := source.(*authserver.Server); ok {
		g.resource.AllowNoAudience, g.resource.Monitor = server.MinimalTokens(), server.Monitor(clientIP)
		return nil
	}
	g.resource.Monitor, err = bearer.NewMonitor(issuer, ctx.GetMetricsRegistry(), clientIP)
	return err
}

// Cleanup gives back what Provision has borrowed.
func (g *Guard) Cleanup() error { return g.release() }

// source returns who can tell what a token is worth, the URL of the issuer, and what its tokens are for by default.
func (g *Guard) source(ctx caddy.Context) (bearer.Source, string, []string, error) {
	app, err := ctx.AppIfConfigured("oauth")
	if err != nil && !errors.Is(err, caddy.ErrNotConfigured) {
		return nil, "", nil, err
	}
	own, _ := app.(*App)
	if g.elsewhere() {
		name, ours := own.named(g.Issuer)
		if !ours {
			source, err := g.borrow(ctx)
			return source, g.Issuer, nil, err
		}
		g.Issuer = name
	}
	if own == nil {
		return nil, "", nil, errors.New("the oauth_guard directive needs the global option oauth with an issuer, or the URL of an issuer elsewhere")
	}
	name, issuer, err := own.issuer(g.Issuer)
	if err != nil {
		return nil, "", nil, err
	}
	audience := issuer.Audience
	if len(audience) == 0 {
		audience = []string{issuer.URL}
	}
	return own.servers[name], issuer.URL, audience, nil
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (g *Guard) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if slices.Contains(g.metadata.Paths(), r.URL.Path) {
		g.metadata.ServeHTTP(w, r)
		return nil
	}
	if g.MetadataOnly {
		return next.ServeHTTP(w, r)
	}
	claims, err := g.resource.Check(r)
	if err != nil {
		if passes, err := g.refuse(w, r, err); !passes {
			return err
		}
	}
	if claims != nil {
		logClient(r, claims.ClientID)
	}
	g.identify(r, claims)
	return next.ServeHTTP(w, r)
}

// refuse answers a request that has no good token, or returns what is to be answered, unless it may pass as nobody's.
func (g *Guard) refuse(w http.ResponseWriter, r *http.Request, err error) (passes bool, _ error) {
	refusal, ok := errors.AsType[*bearer.Error](err)
	switch {
	case !ok:
		return false, err
	case refusal.Code == "" && g.Optional:
		return true, nil
	}
	if refusal.Challenge != "" {
		w.Header().Set("WWW-Authenticate", refusal.Challenge)
	}
	if refusal.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(refusal.RetryAfter.Seconds()))))
	}
	failure := caddyhttp.Error(refusal.Status, refusal)
	failure.ID = cmp.Or(refusal.ID, failure.ID)
	if refusal.Status >= http.StatusInternalServerError && !handlesErrors(r, failure) {
		w.WriteHeader(refusal.Status) // as Caddy would, but without a line in the log for each request
		return false, nil
	}
	return false, failure
}

var (
	_ caddy.Provisioner           = (*Guard)(nil)
	_ caddy.CleanerUpper          = (*Guard)(nil)
	_ caddyhttp.MiddlewareHandler = (*Guard)(nil)
)

// elsewhere reports whether the issuer is given by its URL.
func (g *Guard) elsewhere() bool { return strings.Contains(g.Issuer, "://") }

// resolve replaces placeholders that are known before there is a request.
func (g *Guard) resolve() error {
	repl := caddy.NewReplacer()
	if err := replace(repl, &g.Issuer); err != nil {
		return directive.At("oauth_guard", err)
	}
	if err := replace(repl, &g.Resource); err != nil {
		return directive.At("oauth_guard", directive.At("resource", err))
	}
	for n := range g.Audience {
		if err := replace(repl, &g.Audience[n]); err != nil {
			return directive.At("oauth_guard", directive.At("audience", err))
		}
	}
	return nil
}

// check finds impossible settings. Values that still have placeholders are not looked at.
func (g *Guard) check() error {
	return directive.At("oauth_guard", cmp.Or(
		g.checkIssuer(),
		directive.At("audience", checkAudience(g.Audience)),
		directive.At("resource", g.checkResource()),
		directive.At("authorization", checkChoice(g.Authorization, "strip", "pass")),
		g.checkHeaders(),
	))
}

func (g *Guard) checkIssuer() error {
	if !g.elsewhere() {
		if len(g.Types) > 0 && !unresolved(g.Issuer) {
			return directive.At("types", errors.New("expected the URL of an issuer elsewhere; tokens made here have one type"))
		}
		return nil
	}
	if len(g.Audience) == 0 && g.Resource == "" {
		return errors.New("expected audience with what tokens must be for, as an issuer elsewhere may give tokens for anything")
	}
	return checkIssuerURL(g.Issuer)
}

func (g *Guard) checkResource() error {
	if g.Resource == "" {
		return nil
	}
	return checkAudience([]string{g.Resource})
}

func (g *Guard) checkHeaders() error {
	if g.TokenHeader != "" && !httpguts.ValidHeaderFieldName(g.TokenHeader) {
		return directive.At("token_header", fmt.Errorf("expected the name of a header, not %s", g.TokenHeader))
	}
	for _, name := range slices.Sorted(maps.Keys(g.Headers)) {
		if !httpguts.ValidHeaderFieldName(name) {
			return directive.At("header "+name, fmt.Errorf("expected the name of a header, not %s", name))
		}
	}
	return nil
}

// remoteKeys are the keys of issuers elsewhere, by URL. All guards share them, and a reload does not forget them.
var remoteKeys = caddy.NewUsagePool()

// borrow returns the issuer elsewhere. It asks for nothing over the network; the first token does.
func (g *Guard) borrow(ctx caddy.Context) (bearer.Source, error) {
	keys, _, err := remoteKeys.LoadOrNew(g.Issuer, func() (caddy.Destructor, error) {
		return bearer.NewRemoteKeys(g.Issuer, nil), nil
	})
	if err != nil {
		return nil, err
	}
	g.borrowed = g.Issuer
	return &bearer.RemoteIssuer{
		URL: g.Issuer, Keys: keys.(*bearer.RemoteKeys), Types: g.Types, Log: ctx.Logger(),
	}, nil
}

// release gives back what borrow took.
func (g *Guard) release() error {
	if g.borrowed == "" {
		return nil
	}
	_, err := remoteKeys.Delete(g.borrowed)
	g.borrowed = ""
	return err
}

// named returns the name of the issuer with that URL, if this configuration has it.
func (a *App) named(url string) (string, bool) {
	if a == nil {
		return "", false
	}
	for name, issuer := range a.Issuers {
		if issuer.URL == url {
			return name, true
		}
	}
	return "", false
}
