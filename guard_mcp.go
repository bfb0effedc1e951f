package caddyoauth

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/mcp"
)

// MCP says that a guarded resource is a server of the Model Context Protocol.
type MCP struct {
	// The path of the server on this site, such as `/mcp`; what is below it is the server's too. Several guards can have the same,
	// such as one for the whole server and one for some of its tools. Default: the path of the resource.
	Path string `json:"path,omitempty"`
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

// provisionMCP sets what follows from mcp.
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

// addResource lets clients of the issuer request tokens for the resource of a guard with mcp, and reports whether that was needed: no
// audience has it.
func (g *Guard) addResource(issuerURL string) bool {
	name, ours := g.app.named(issuerURL)
	if !ours || g.MCP == nil || g.app.Issuers[name].checkResources([]string{g.Resource}) == nil {
		return false
	}
	g.app.servers[name].AddResource(g.Resource)
	return true
}

// audienceOfMCP returns the audiences of a resource that clients can request without its being the audience of any. Clients of
// revisions before 2025-06-18 request no resource, and get tokens for the default one.
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
