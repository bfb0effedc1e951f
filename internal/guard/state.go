package guard

import (
	"context"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// state is what the guards of a site know of a request. It provides the placeholders of the user, so that a claim is formatted only if
// the configuration uses it.
type state struct {
	claims *jwt.Claims // nil: nobody
	user   string      // "" if it is nobody or a machine
	tokens bearer.Tokens
	passed []string // the settings of the guards that have let the request pass

	mirrored bool // the headers of an MCP message say what it says

	watched *jwt.Claims // of the token that a guard watches until the request has been answered
}

const userPrefix = "http.auth.user."

// Again implements request.State.
func (s *state) Again(ctx context.Context) context.Context { return s.tokens.Again(ctx) }

// identify sets the placeholders and the headers that say who the user is.
func (g *Guard) identify(r *http.Request, known *state, claims *jwt.Claims) {
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	repl.DeleteByPrefix(userPrefix) // do not mix the claims with the placeholders of a login before this guard
	known.claims, known.user = claims, claims.Subject
	if claims.Machine() && !g.config.AsUser {
		known.user = ""
	}
	for name, placeholder := range g.config.Headers {
		if value := repl.ReplaceAll(placeholder, ""); value != "" {
			r.Header.Set(name, value)
		}
	}
}

// placeholder implements caddy.ReplacerFunc. A placeholder without a value is empty: Caddy would leave it as it is, and the
// site would take "{http.auth.user.id}" for the name of a user.
func (s *state) placeholder(name string) (any, bool) {
	claim, ok := strings.CutPrefix(name, userPrefix)
	switch {
	case !ok:
		return nil, false
	case s.claims == nil:
		return "", true
	case claim == "id":
		return s.user, true
	case claim == "client_id": // which minimal tokens have in their header
		return s.claims.ClientID, true
	case claim == "act.sub": // who acts for the user (RFC 8693 §4.1)
		act, _ := s.claims.Raw["act"].(map[string]any)
		actor, _ := act["sub"].(string)
		return actor, true
	}
	value, ok := s.claims.Raw[claim]
	if !ok {
		return "", true
	}
	return jwt.ClaimText(value), true
}
