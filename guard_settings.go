package caddyoauth

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/net/http/httpguts"

	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// CORS says which scripts of other origins may call a guarded route.
type CORS struct {
	// The origins of the scripts, such as `https://app.example.com`. Default: all. A script needs a token in any case, and
	// cookies play no part.
	Origins []string `json:"origins,omitempty"`
}

// MCP says that a guarded resource is a server of the Model Context Protocol. To let agents connect, set `mcp` at the
// issuer too, see Issuer.MCP.
type MCP struct {
	// The path of the server on this site, such as `/mcp`; what is below it is the server's too. Several guards can have the same,
	// such as one for the whole server and one for some of its tools. Default: the path of the resource.
	Path string `json:"path,omitempty"`
}

// resolve replaces the placeholders in the settings that do not depend on a request.
func (g *Guard) resolve() error {
	repl := caddy.NewReplacer()
	err := cmp.Or(
		replace(repl, &g.Issuer),
		directive.At("resource", replace(repl, &g.Resource)),
		directive.At("resource_name", replace(repl, &g.ResourceName)),
		directive.At("audience", replaceAll(repl, g.Audience)),
	)
	if err == nil && g.CORS != nil {
		err = directive.At("cors", replaceAll(repl, g.CORS.Origins))
	}
	return directive.At("oauth_guard", err)
}

// check finds impossible settings.
func (g *Guard) check() error {
	return directive.At("oauth_guard", cmp.Or(
		g.checkIssuer(),
		directive.At("audience", checkAudience(g.Audience)),
		directive.At("resource", g.checkResource()),
		directive.At("authorization", checkChoice(g.Authorization, "strip", "pass")),
		directive.At("client_cert_header", checkChoice(g.ClientCertHeader, "verified", "unverified")),
		directive.At("machines", checkChoice(g.Machines, "as_nobody", "as_user")),
		g.checkHeaders(),
		directive.At("cors", g.checkCORS()),
		directive.At("mcp", g.checkMCP()),
		directive.At("leeway", g.checkLeeway()),
		directive.At("acr", checkACRValues(g.ACR)),
		directive.At("max_age", g.checkMaxAge()),
	))
}

func (g *Guard) checkLeeway() error {
	if g.Leeway != nil && (*g.Leeway < 0 || time.Duration(*g.Leeway) > jwt.MaxLeeway) {
		return errors.New("expected a duration up to 5m, such as 30s, or 0")
	}
	return nil
}

func (g *Guard) checkMaxAge() error {
	if g.MaxAge < 0 || time.Duration(g.MaxAge)%time.Second != 0 {
		return errors.New("expected a duration of whole seconds, such as 15m")
	}
	return nil
}

func (g *Guard) checkIssuer() error {
	if !g.remote() {
		if len(g.Types) > 0 && !unresolved(g.Issuer) {
			return directive.At("types", errors.New("expected only with the URL of a remote issuer; the tokens of an issuer of this Caddy have one type"))
		}
		return nil
	}
	if len(g.Audience) == 0 && g.Resource == "" {
		return errors.New("expected audience or resource, as a remote issuer may issue tokens for anything")
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

func (g *Guard) checkCORS() error {
	if g.CORS == nil {
		return nil
	}
	for _, origin := range g.CORS.Origins {
		if err := bearer.CheckOrigin(origin); err != nil && !unresolved(origin) {
			return err
		}
	}
	return nil
}

func (g *Guard) checkMCP() error {
	switch {
	case g.MCP == nil:
		return nil
	case g.Resource == "":
		return errors.New("expected resource too, the URL by which clients know the server")
	case g.MCP.Path != "" && (!strings.HasPrefix(g.MCP.Path, "/") || strings.ContainsAny(g.MCP.Path, "*{?#")):
		return fmt.Errorf("expected a path without placeholders and *, such as /mcp, not %s", g.MCP.Path)
	}
	return nil
}

// checkGuard refuses a guard that no token of the issuer can satisfy, or that does not say which of several resources it
// protects.
func (i *Issuer) checkGuard(g *Guard) error {
	if i.AccessToken != nil && i.AccessToken.Claims == "minimal" && i.AccessToken.Format != "opaque" {
		if len(g.Scopes) > 0 {
			return directive.At("scopes", errors.New("expected none, as access tokens with minimal claims have no scopes"))
		}
		if len(g.ACR) > 0 || g.MaxAge > 0 {
			return errors.New("expected neither acr nor max_age, as access tokens with minimal claims say nothing of the login")
		}
		return nil // nor an audience
	}
	for _, scope := range g.Scopes {
		if names := i.scopeNames(); !slices.Contains(names, scope) {
			return directive.At("scopes", fmt.Errorf("expected scopes of the issuer, %s; it has no scope %s%s",
				directive.OneOf(names), scope, directive.DidYouMean(scope, names)))
		}
	}
	if len(i.audience()) > 1 && len(g.Audience) == 0 && g.Resource == "" {
		return fmt.Errorf("expected audience or resource, as the issuer has several resources: %s", strings.Join(i.audience(), ", "))
	}
	if err := directive.At("audience", i.checkResources(g.Audience)); err != nil || g.Resource == "" || g.MCP != nil {
		return err
	}
	return directive.At("resource", i.checkResources([]string{g.Resource}))
}
