package caddyoauth

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
)

// identify tells what is behind who is there; nil is nobody.
func (g *Guard) identify(r *http.Request, claims *authserver.Claims) {
	g.dropForgeries(r)
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	repl.Map(nobody)
	if claims == nil {
		return
	}
	for name, value := range claims.Raw {
		repl.Set("http.auth.user."+name, claimText(value))
	}
	repl.Set("http.auth.user.id", claims.Subject)
	if g.Authorization != "pass" {
		r.Header.Del(cmp.Or(g.TokenHeader, "Authorization"))
	}
	for name, placeholder := range g.Headers {
		if value := repl.ReplaceAll(placeholder, ""); value != "" {
			r.Header.Set(name, value)
		}
	}
}

// nobody is behind all that sets something: a placeholder for what is not known of the user is empty. Else Caddy would
// leave it as it stands, and what is behind would take "{http.auth.user.id}" for somebody.
func nobody(placeholder string) (any, bool) {
	return "", strings.HasPrefix(placeholder, "http.auth.user.")
}

// dropForgeries removes what a client sent that something behind could take for what this guard says: headers under the
// same names, or under names that many servers cannot tell from them (RFC 3875 §4.1.18; Caddy drops these unless it is told
// to expect them), and trailers, which some merge into the headers (RFC 9110 §6.5.1).
func (g *Guard) dropForgeries(r *http.Request) {
	for name := range g.Headers {
		for sent := range r.Header {
			if strings.EqualFold(lookalikes.Replace(sent), lookalikes.Replace(name)) {
				delete(r.Header, sent)
			}
		}
		keepFromConnection(r.Header, name)
	}
	r.Trailer = nil
}

var lookalikes = strings.NewReplacer("_", "-", ".", "-")

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
