package caddyoauth

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// identity is the user that the guards of a request have found. It provides the placeholders of the user, so that a claim is
// formatted only if the configuration uses it.
type identity struct{ claims *jwt.Claims } // nil: nobody

const (
	identityVar = "oauth_guard.identity"
	userPrefix  = "http.auth.user."
)

// identify sets the placeholders and the headers that say who the user is. Without claims, it is nobody.
func (g *Guard) identify(r *http.Request, claims *jwt.Claims) {
	g.dropForgeries(r)
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	found, ok := caddyhttp.GetVar(r.Context(), identityVar).(*identity)
	if !ok { // otherwise another guard ran before
		found = new(identity)
		caddyhttp.SetVar(r.Context(), identityVar, found)
		repl.Map(found.placeholder)
	}
	if claims == nil {
		return
	}
	repl.DeleteByPrefix(userPrefix) // do not mix the claims with the placeholders of a login before this guard
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
		return i.claims.Subject, true
	}
	value, ok := i.claims.Raw[claim]
	if !ok {
		return "", true
	}
	return jwt.ClaimText(value), true
}

// dropForgeries removes everything that the client sent and that the site could take for the word of this guard: headers of the
// same names; headers whose names many servers cannot tell from these (RFC 3875 §4.1.18), which Caddy itself drops unless it is
// configured to expect them; and trailers, which some servers merge into the headers (RFC 9110 §6.5.1).
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

// lookAlike reports whether the names of two headers differ only in case and in the characters between words.
func lookAlike(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if fold(a[i]) != fold(b[i]) {
			return false
		}
	}
	return true
}

func fold(c byte) byte {
	switch {
	case 'A' <= c && c <= 'Z':
		return c + 'a' - 'A'
	case c == '_' || c == '.':
		return '-'
	}
	return c
}

// keepFromConnection removes a header from the Connection header. A proxy would drop it otherwise, since the client said that
// it is hop-by-hop (RFC 9110 §7.6.1).
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
