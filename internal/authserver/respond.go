package authserver

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/internal/pages"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
)

// respondCode sends the authorization response (RFC 6749 §4.1.2) to the client, or, where that takes it out of band,
// shows it to the person.
func (s *Server) respondCode(c *call, to answerTo, code string) error {
	if uris.IsOutOfBand(to.redirectURI) {
		return s.pages.Code(c.w, pages.CodePage{Client: c.client.Name, Code: code, State: to.state})
	}
	if hider, ok := c.site.(Hider); ok && to.mode != "form_post" {
		hider.Hide(c.r)
	}
	return s.respond(c, to, [2]string{"code", code})
}

// respond sends a response or a refusal (RFC 6749 §4.1.2.1) to the client. Every one names its issuer
// (RFC 9207 §2) and gives back the state as it came.
func (s *Server) respond(c *call, to answerTo, params ...[2]string) error {
	params = slices.Concat(params, [][2]string{{"state", to.state}, {"iss", s.config.URL}})
	if to.mode == "form_post" {
		return s.pages.FormPost(c.w, pages.FormPostPage{URL: to.redirectURI, Params: params})
	}
	redirect(c.w, withParams(to.redirectURI, params))
	return nil
}

// redirect sends the browser on with 303, which never repeats a POST with what was in it (RFC 9700 §4.12).
func redirect(w http.ResponseWriter, location string) {
	h := w.Header()
	h.Set("Location", location)
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Frame-Options", "DENY") // RFC 6749 §10.13
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	w.WriteHeader(http.StatusSeeOther)
}

// withParams returns a redirect URI with parameters added to its query (RFC 6749 §3.1.2, §4.1.2).
func withParams(redirectURI string, params [][2]string) string {
	var b strings.Builder
	b.Grow(len(redirectURI) + 256)
	b.WriteString(redirectURI)
	separator := byte('?')
	if strings.Contains(redirectURI, "?") {
		separator = '&'
	}
	for _, p := range params {
		if p[1] == "" {
			continue
		}
		b.WriteByte(separator)
		b.WriteString(p[0])
		b.WriteByte('=')
		b.WriteString(url.QueryEscape(p[1]))
		separator = '&'
	}
	return b.String()
}
