package caddyoauth

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// identity is who a request is from, as far as guards have found out. It answers for the placeholders of the user,
// so that claims are made text only where somebody asks.
type identity struct{ claims *jwt.Claims } // nil: nobody

const (
	identityVar = "oauth_guard.identity"
	userPrefix  = "http.auth.user."
)

// identify tells what is behind who is there; nil is nobody.
func (g *Guard) identify(r *http.Request, claims *jwt.Claims) {
	g.dropForgeries(r)
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	found, ok := caddyhttp.GetVar(r.Context(), identityVar).(*identity)
	if !ok { // else another guard was first
		found = new(identity)
		caddyhttp.SetVar(r.Context(), identityVar, found)
		repl.Map(found.placeholder)
	}
	if claims == nil {
		return
	}
	repl.DeleteByPrefix(userPrefix) // what a login before this guard found is not to be mixed with it
	found.claims = claims
	if g.Authorization != "pass" {
		r.Header.Del(cmp.Or(g.TokenHeader, "Authorization"))
	}
	for name, placeholder := range g.Headers {
		if value := repl.ReplaceAll(placeholder, ""); value != "" {
			r.Header.Set(name, value)
		}
	}
}

// placeholder implements caddy.ReplacerFunc. What is not known of the user is empty: Caddy would leave the placeholder as
// it stands, and what is behind would take "{http.auth.user.id}" for somebody.
func (i *identity) placeholder(name string) (any, bool) {
	claim, ok := strings.CutPrefix(name, userPrefix)
	switch {
	case !ok:
		return nil, false
	case i.claims == nil:
		return "", true
	case claim == "id":
		return i.claims.Subject, true
	}
	value, ok := i.claims.Raw[claim]
	if !ok {
		return "", true
	}
	return jwt.ClaimText(value), true
}

// dropForgeries removes what a client sent that something behind could take for what this guard says: headers under the
// same names, or under names that many servers cannot tell from them (RFC 3875 §4.1.18; Caddy drops these unless it is told
// to expect them), and trailers, which some merge into the headers (RFC 9110 §6.5.1).
func (g *Guard) dropForgeries(r *http.Request) {
	for name := range g.Headers {
		for sent := range r.Header {
			if lookAlike(sent, name) {
				delete(r.Header, sent)
			}
		}
		keepFromConnection(r.Header, name)
	}
	r.Trailer = nil
}

// lookAlike reports whether the names of two headers differ in nothing but case and in what stands between words.
func lookAlike(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if plain(a[i]) != plain(b[i]) {
			return false
		}
	}
	return true
}

func plain(c byte) byte {
	switch {
	case 'A' <= c && c <= 'Z':
		return c + 'a' - 'A'
	case c == '_' || c == '.':
		return '-'
	}
	return c
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
