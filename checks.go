package caddyoauth

import (
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// These checks return what was expected instead of a value, or "". They skip values that still have
// placeholders: when a Caddyfile is adapted, only those without are known.

// unresolved reports whether a value has a placeholder, whose value is known only when the server runs.
func unresolved(s string) bool { return strings.Contains(s, "{") }

// checkIssuerURL returns what is wrong with an issuer's URL.
func checkIssuerURL(s string) (problem string) {
	if unresolved(s) {
		return ""
	}
	if err := uris.CheckIssuer(s); err != nil {
		return err.Error()
	}
	return ""
}

func checkScopes(scopes []Scope) (problem, setting string) {
	seen := make(map[string]bool)
	for _, s := range scopes {
		switch {
		case !grants.ValidScope(s.Name):
			return "expected a name of printable ASCII without spaces, quotes and backslashes", "scope " + s.Name
		case seen[s.Name]:
			return "expected once, and it is there already", "scope " + s.Name
		}
		seen[s.Name] = true
	}
	return "", ""
}

func checkAudience(audience []string) (problem string) {
	for _, a := range audience {
		if !unresolved(a) && !grants.ValidResource(a) {
			return "expected absolute URIs without fragment (RFC 8707), not " + a
		}
	}
	return ""
}

func checkConsent(mode storage.ConsentMode) (problem string) {
	modes := []storage.ConsentMode{"", storage.ConsentOnce, storage.ConsentAlways, storage.ConsentNever}
	if slices.Contains(modes, mode) {
		return ""
	}
	return "expected once, always or never, not " + string(mode)
}
