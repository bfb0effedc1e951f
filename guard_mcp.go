package caddyoauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/mcp"
	"github.com/caddy-oauth/caddy-oauth/internal/request"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
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
		return union([]string{g.Resource}, g.Audience)
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
			if namesMessage(string(settings)) || g.MCP != nil && !slices.Contains([]string{"path", "host", "protocol"}, module) {
				return true
			}
		}
	}
	return false
}

// namesMessage reports whether a text names one of the headers that say what a message asks for.
func namesMessage(text string) bool {
	text = strings.ToLower(text)
	return strings.Contains(text, strings.ToLower(mcp.MethodHeader)) || strings.Contains(text, strings.ToLower(mcp.NameHeader))
}

// matchTools reports whether matchers look at what a message of MCP asks for.
func matchTools(sets caddyhttp.MatcherSets) bool {
	looks := func(matcher any) bool {
		switch m := matcher.(type) {
		case *caddyhttp.MatchHeader:
			for name := range *m {
				if namesMessage(name) {
					return true
				}
			}
		case *caddyhttp.MatchHeaderRE:
			for name := range *m {
				if namesMessage(name) {
					return true
				}
			}
		case *caddyhttp.MatchNot:
			return matchTools(m.MatcherSets)
		case *caddyhttp.MatchExpression:
			return namesMessage(m.Expr)
		}
		return false
	}
	return slices.ContainsFunc(sets, func(set caddyhttp.MatcherSet) bool { return slices.ContainsFunc(set, looks) })
}

// serverOf returns a guard of the MCP server that a request is for, nil if it is for none.
func (p *place) serverOf(r *http.Request) *Guard {
	for _, g := range p.endpoints {
		if g.endpoint == nil {
			return g
		}
		if matches, err := matchOriginal(r, g.endpoint.MatchWithError); matches || err != nil {
			return g
		}
	}
	return nil
}

// mirroredKey is the key of what is set in the context of a request whose headers say what its message says.
type mirroredKey struct{}

// readMessage reads the message of a request for an MCP server, if the site decides by the messages, and makes the headers say what
// the message says. So it does not matter what a client says in the headers, or whether it sends them: clients of revisions before
// 2026-07-28 do not. If the headers have changed, the request starts again, so that whatever has looked at them looks again.
//
// A message is read once, for the first guard that sees the request. That guard does not read it for a client that it is going to
// refuse in any case.
func (g *Guard) readMessage(w http.ResponseWriter, r *http.Request, found *identity, applies bool) (answered bool) {
	if !g.place.tools || found.mirrored {
		return false
	}
	server := g.place.serverOf(r)
	if server == nil || r.Context().Value(mirroredKey{}) != nil {
		found.mirrored = true
		return false
	}
	if applies && !g.Optional && !g.resource.Admits(r, &found.tokens) {
		return false
	}
	found.mirrored = true
	body, changed, err := readMessage(w, r)
	if err != nil {
		g.refuseMessage(w, r, server, err)
		return true
	}
	if body != nil {
		r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	}
	return changed && request.StartAgain(context.WithValue(r.Context(), mirroredKey{}, true), w, r)
}

// readMessage returns the body of a request, nil if it has none, after the headers say what it says. changed says that they did not.
func readMessage(w http.ResponseWriter, r *http.Request) (body []byte, changed bool, _ error) {
	for _, name := range []string{mcp.MethodHeader, mcp.NameHeader} {
		for sent := range r.Header {
			if sent != name && lookAlike(sent, name) {
				delete(r.Header, sent)
				changed = true
			}
		}
	}
	r.Header.Del("Upgrade") // what a WebSocket has is not read
	has, err := mcp.HasMessage(r)
	if err != nil {
		return nil, false, err
	}
	limit := int64(mcp.MaxBody)
	if !has {
		limit = 0
	}
	wire.LimitTime(w, r)
	body, err = wire.ReadBody(w, r, limit)
	refusal, refused := errors.AsType[*grants.Error](err)
	switch {
	case refused && refusal.Status == http.StatusRequestEntityTooLarge && has:
		return nil, false, mcp.TooLarge()
	case refused && refusal.Status == http.StatusRequestEntityTooLarge:
		return nil, false, mcp.Bodiless(r.Method)
	case err != nil:
		return nil, false, err
	case !has:
		return nil, mcp.Unmirror(r.Header) || changed, nil
	}
	message, err := mcp.Parse(body)
	if err != nil {
		return nil, false, err
	}
	mirrored, err := message.Mirror(r.Header)
	return body, mirrored || changed, err
}

// refuseMessage answers a request whose message is not one to decide by.
func (g *Guard) refuseMessage(w http.ResponseWriter, r *http.Request, server *Guard, err error) {
	refusal, ok := errors.AsType[*mcp.Error](err)
	if !ok { // the body could not be read
		refusal = mcp.Unreadable(err)
	}
	if rules := server.rules(r); rules != nil {
		rules.Allow(w.Header(), r, "Error-Id")
	}
	if refusal.Status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", "GET, POST, DELETE, OPTIONS")
	}
	id := wire.NewErrorID()
	g.app.trail.Log(g.place.log, zap.InfoLevel, "request refused",
		zap.String("issuer", g.Issuer), zap.String("endpoint", "guard"), zap.String("client_ip", request.ClientIP(r)),
		zap.String("resource", server.metadata.Resource), zap.String("error", grants.InvalidRequest),
		zap.String("sent", wire.Loggable(refusal.Sent)), zap.String("expected", wire.Loggable(refusal.Expected)),
		zap.String("setting", "oauth_guard: mcp"), zap.String("error_id", id), zap.Int("status", refusal.Status),
		zap.NamedError("cause", refusal))
	if g.resource.Monitor != nil {
		g.resource.Monitor.Metrics.Decision(grants.InvalidRequest)
	}
	w.Header().Set("Error-Id", id)
	wire.WriteBody(w, refusal.Status, "application/json", refusal.Body())
}
