package caddyoauth

import (
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
)

// site tells an authorization server what Caddy knows of a request.
type site struct{ h *Handler }

var _ authserver.Site = site{}

// User implements authserver.Site.
func (s site) User(r *http.Request) (*authserver.User, error) {
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	// With any part of it empty nobody is signed in: what is left may be a mere prefix.
	subject, err := repl.ReplaceOrErr(s.h.User, true, true)
	if err != nil || subject == "" {
		return nil, nil //nolint:nilerr // the error names the placeholder that is empty
	}
	user := &authserver.User{Subject: subject}
	for name, placeholder := range s.h.Claims {
		if value := repl.ReplaceAll(placeholder, ""); value != "" {
			if user.Claims == nil {
				user.Claims = make(map[string]any, len(s.h.Claims))
			}
			user.Claims[name] = value
		}
	}
	return user, nil
}

// LoginURL implements authserver.Site.
func (s site) LoginURL(returnTo string) string {
	if s.h.Login == nil {
		return ""
	}
	u, err := url.Parse(s.h.Login.URL)
	if err != nil {
		return ""
	}
	if u.Host != "" {
		returnTo = s.h.server.Origin() + returnTo
	}
	parameter := s.h.Login.Parameter
	if parameter == "" {
		parameter = "return_to"
	}
	query := u.Query()
	query.Set(parameter, returnTo)
	u.RawQuery = query.Encode()
	return u.String()
}

// ClientIP implements authserver.Site.
func (s site) ClientIP(r *http.Request) string { return clientIP(r) }
