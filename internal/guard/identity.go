package guard

import (
	"cmp"
	"context"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/request"
)

// identity is what the guards of a site know of a request. It provides the placeholders of the user, so that a claim is formatted
// only if the configuration uses it.
type identity struct {
	claims *jwt.Claims // nil: nobody
	user   string      // "" if it is nobody or a machine
	tokens bearer.Tokens
	passed []string // the settings of the guards that have let the request pass

	mirrored bool // the headers of an MCP message say what it says

	watched *jwt.Claims // of the token that a guard watches until the request has been answered
}

const userPrefix = "http.auth.user."

// Enter does what the guards of a site do for each of its requests, once, whichever handler sees the request first. It reports
// whether it has answered the request. Without guards, there is nothing to do.
func (p *Place) Enter(w http.ResponseWriter, r *http.Request) (answered bool) {
	_, answered = p.enter(w, r)
	return answered
}

// enter also returns what the guards know of the request; nil: there are none.
func (p *Place) enter(w http.ResponseWriter, r *http.Request) (found *identity, answered bool) {
	p.find(r)
	if p.clientCert {
		request.DropClientCert(r)
	}
	if !p.guarded {
		return nil, false
	}
	if found, ok := caddyhttp.GetVar(r.Context(), request.StateVar).(*identity); ok {
		return found, false
	}
	found = new(identity)
	caddyhttp.SetVar(r.Context(), request.StateVar, found)
	r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Map(found.placeholder)
	p.dropForgeries(r)
	sent := request.Original(r)
	if bearer.Ambiguous(sent) {
		p.log.Info("request refused: two programs can read its target differently", zap.String("target", cmp.Or(sent.Opaque, sent.EscapedPath())))
		http.Error(w, "The path of this request can be read in two ways.", http.StatusBadRequest)
		return found, true
	}
	if bearer.IsMetadata(sent.Path) {
		w = request.KeepHeaders(w)
	}
	return found, p.catalog.Serve(w, r, sent.Path)
}

// Again implements request.State.
func (i *identity) Again(ctx context.Context) context.Context { return i.tokens.Again(ctx) }

// identify sets the placeholders and the headers that say who the user is.
func (g *Guard) identify(r *http.Request, found *identity, claims *jwt.Claims) {
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	repl.DeleteByPrefix(userPrefix) // do not mix the claims with the placeholders of a login before this guard
	found.claims, found.user = claims, claims.Subject
	if claims.Machine() && !g.config.AsUser {
		found.user = ""
	}
	for name, placeholder := range g.config.Headers {
		if value := repl.ReplaceAll(placeholder, ""); value != "" {
			r.Header.Set(name, value)
		}
	}
}

// placeholder implements caddy.ReplacerFunc. A placeholder without a value is empty: Caddy would leave it as it is, and the
// site would take "{http.auth.user.id}" for the name of a user.
func (i *identity) placeholder(name string) (any, bool) {
	claim, ok := strings.CutPrefix(name, userPrefix)
	switch {
	case !ok:
		return nil, false
	case i.claims == nil:
		return "", true
	case claim == "id":
		return i.user, true
	case claim == "client_id": // which minimal tokens have in their header
		return i.claims.ClientID, true
	case claim == "act.sub": // who acts for the user (RFC 8693 §4.1)
		act, _ := i.claims.Raw["act"].(map[string]any)
		actor, _ := act["sub"].(string)
		return actor, true
	}
	value, ok := i.claims.Raw[claim]
	if !ok {
		return "", true
	}
	return jwt.ClaimText(value), true
}

// dropForgeries removes everything that the client sent and that the site could take for the word of a guard: headers of the
// same names; headers whose names many servers cannot tell from these (RFC 3875 §4.1.18), which Caddy itself drops unless it is
// configured to expect them; and trailers, which some servers merge into the headers (RFC 9110 §6.5.1).
func (p *Place) dropForgeries(r *http.Request) {
	for _, name := range p.headers {
		request.DropHeader(r, name, false)
	}
	r.Trailer = nil
}
