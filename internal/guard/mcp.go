package guard

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/mcp"
	"github.com/caddy-oauth/caddy-oauth/internal/request"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
)

// matchTools reports whether matchers look at what a message of MCP asks for.
func matchTools(sets caddyhttp.MatcherSets) bool {
	looks := func(matcher any) bool {
		switch m := matcher.(type) {
		case *caddyhttp.MatchHeader:
			for name := range *m {
				if mcp.NamesHeader(name) {
					return true
				}
			}
		case *caddyhttp.MatchHeaderRE:
			for name := range *m {
				if mcp.NamesHeader(name) {
					return true
				}
			}
		case *caddyhttp.MatchNot:
			return matchTools(m.MatcherSets)
		case *caddyhttp.MatchExpression:
			return mcp.NamesHeader(m.Expr)
		}
		return false
	}
	return slices.ContainsFunc(sets, func(set caddyhttp.MatcherSet) bool { return slices.ContainsFunc(set, looks) })
}

// serverOf returns a guard of the MCP server that a request is for, nil if it is for none.
func (p *Place) serverOf(r *http.Request) *Guard {
	for _, g := range p.endpoints {
		if g.config.Endpoint == nil {
			return g
		}
		if matches, err := matchOriginal(r, g.config.Endpoint.MatchWithError); matches || err != nil {
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
func (g *Guard) readMessage(w http.ResponseWriter, r *http.Request, known *state, applies bool) (answered bool) {
	if !g.config.Place.tools || known.mirrored {
		return false
	}
	server := g.config.Place.serverOf(r)
	if server == nil || r.Context().Value(mirroredKey{}) != nil {
		known.mirrored = true
		return false
	}
	if applies && !g.config.Optional && !g.config.Resource.Admits(r, &known.tokens) {
		return false
	}
	known.mirrored = true
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
			if sent != name && request.LookAlike(sent, name) {
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
	g.config.Trail.Log(g.config.Place.log, zap.InfoLevel, "request refused",
		zap.String("issuer", g.config.Issuer), zap.String("endpoint", "guard"), zap.String("client_ip", request.ClientIP(r)),
		zap.String("resource", server.config.Metadata.Resource), zap.String("error", grants.InvalidRequest),
		zap.String("sent", wire.Loggable(refusal.Sent)), zap.String("expected", wire.Loggable(refusal.Expected)),
		zap.String("setting", "oauth_guard: mcp"), zap.String("error_id", id), zap.Int("status", refusal.Status),
		zap.NamedError("cause", refusal))
	if g.config.Resource.Monitor != nil {
		g.config.Resource.Monitor.Metrics.Decision(grants.InvalidRequest)
	}
	w.Header().Set("Error-Id", id)
	wire.WriteBody(w, refusal.Status, "application/json", refusal.Body())
}
