package caddyoauth

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
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
	// The name of an issuer of the `oauth` app, or the URL of one elsewhere. Default: the only one there
	// is, or `default`.
	Issuer string `json:"issuer,omitempty"`

	// The scopes a token must have, all of them. Default: none.
	Scopes []string `json:"scopes,omitempty"`

	// A token must be for one of these. Default: the resource, or else what the issuer's tokens are for.
	Audience []string `json:"audience,omitempty"`

	// The URL by which clients know this resource. Default: the first of the audience.
	Resource string `json:"resource,omitempty"`

	// A header that carries the token, instead of `Authorization: Bearer`.
	TokenHeader string `json:"token_header,omitempty"`

	// Whether requests without a token pass too, as nobody's. One with a bad token never passes.
	Optional bool `json:"optional,omitempty"`

	// Whether the token goes on to what is behind: `strip` or `pass`. Default: `strip`.
	Authorization string `json:"authorization,omitempty"`

	// Headers that tell what is behind who is there, by name, as placeholders. Whatever a client sends under
	// these names is removed, whether there is a token or not.
	Headers map[string]string `json:"headers,omitempty"`

	// The `typ` of tokens of an issuer elsewhere. Default: `at+jwt`. **Danger:** with `JWT`, tokens that were made
	// for something else, such as ID tokens, may pass.
	Types []string `json:"types,omitempty"`

	// Only serve the metadata of the resource, and pass all other requests on. A Caddyfile makes such a handler of
	// its own beside a guard with a matcher.
	MetadataOnly bool `json:"metadata_only,omitempty"`

	resource authserver.Resource
	metadata *authserver.ResourceMetadata
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
	g.metadata = &authserver.ResourceMetadata{
		Resource: cmp.Or(g.Resource, audience[0]), Servers: []string{issuer}, Scopes: g.Scopes, Methods: []string{"header"},
	}
	if err := g.metadata.Prepare(); err != nil {
		return err
	}
	g.resource = authserver.Resource{
		Source: source, Audience: audience, Scopes: g.Scopes, Header: g.TokenHeader, MetadataURL: g.metadata.URL(),
	}
	if server, ok := source.(*authserver.Server); ok {
		g.resource.Anonymous = server.MinimalTokens()
	}
	return nil
}

// source returns who can tell what a token is worth, the URL of the issuer, and what its tokens are for by default.
func (g *Guard) source(ctx caddy.Context) (authserver.TokenSource, string, []string, error) {
	app, err := ctx.AppIfConfigured("oauth")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, "", nil, errors.New("the oauth_guard directive needs the global option oauth with an issuer")
	}
	if err != nil {
		return nil, "", nil, err
	}
	name, issuer, err := app.(*App).issuer(g.Issuer)
	if err != nil {
		return nil, "", nil, err
	}
	audience := issuer.Audience
	if len(audience) == 0 {
		audience = []string{issuer.URL}
	}
	return app.(*App).servers[name], issuer.URL, audience, nil
}

func (g *Guard) check() error {
	if problem := checkAudience(g.Audience); problem != "" {
		return settingErr(problem, "audience")
	}
	if problem := checkAudience([]string{cmp.Or(g.Resource, "https://example.com")}); problem != "" {
		return settingErr(problem, "resource")
	}
	if g.Authorization != "" && g.Authorization != "strip" && g.Authorization != "pass" {
		return settingErr("expected strip or pass, not "+g.Authorization, "authorization")
	}
	return nil
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
	var refusal *authserver.BearerError
	switch {
	case errors.As(err, &refusal) && refusal.Code == "" && g.Optional:
	case errors.As(err, &refusal):
		if refusal.Challenge != "" {
			w.Header().Set("WWW-Authenticate", refusal.Challenge)
		}
		return caddyhttp.Error(refusal.Status, refusal)
	}
	g.identify(r, claims)
	return next.ServeHTTP(w, r)
}

// identify tells what is behind who is there; nil is nobody.
func (g *Guard) identify(r *http.Request, claims *authserver.Claims) {
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if claims != nil {
		for name, value := range claims.Raw {
			repl.Set("http.auth.user."+name, claimText(value))
		}
		repl.Set("http.auth.user.id", claims.Subject)
		if g.Authorization != "pass" {
			r.Header.Del(cmp.Or(g.TokenHeader, "Authorization"))
		}
	}
	for name, placeholder := range g.Headers {
		r.Header.Del(name)
		keepFromConnection(r.Header, name)
		if claims != nil {
			if value := repl.ReplaceAll(placeholder, ""); value != "" {
				r.Header.Set(name, value)
			}
		}
	}
}

// claimText returns a claim as a text: a list of texts with spaces between, other structures as JSON.
func claimText(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case []string:
		return strings.Join(v, " ")
	case []any:
		texts := make([]string, 0, len(v))
		for _, element := range v {
			if text, ok := element.(string); ok {
				texts = append(texts, text)
			}
		}
		if len(texts) == len(v) {
			return strings.Join(texts, " ")
		}
	}
	text, err := json.Marshal(value)
	if err != nil {
		return ""
	}
	return string(text)
}

// keepFromConnection makes sure that a proxy does not drop a header because the client called it hop-by-hop (RFC
// 9110 §7.6.1).
func keepFromConnection(h http.Header, name string) {
	values := h.Values("Connection")
	if len(values) == 0 {
		return
	}
	h.Del("Connection")
	for _, value := range values {
		for option := range strings.SplitSeq(value, ",") {
			if option = strings.TrimSpace(option); !strings.EqualFold(option, name) {
				h.Add("Connection", option)
			}
		}
	}
}

var (
	_ caddy.Provisioner           = (*Guard)(nil)
	_ caddyhttp.MiddlewareHandler = (*Guard)(nil)
)
