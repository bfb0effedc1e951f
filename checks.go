package caddyoauth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// A check returns what was expected instead of a value. Whoever calls it adds the name of the setting (directive.At).
// Values with placeholders are checked when the configuration is loaded, not when a Caddyfile is adapted: the values of
// placeholders are only known to the Caddy that runs.

// unresolved reports whether a value has a placeholder.
func unresolved(s string) bool { return strings.Contains(s, "{") }

// checkChoice checks a setting that is not set, or has one of a few values.
func checkChoice[S ~string](value S, choices ...S) error {
	if value == "" || slices.Contains(choices, value) {
		return nil
	}
	names := make([]string, 0, len(choices))
	for _, choice := range choices {
		names = append(names, string(choice))
	}
	last := len(names) - 1
	return fmt.Errorf("expected %s or %s, not %s", strings.Join(names[:last], ", "), names[last], value)
}

func checkIssuerName(name string) error {
	if name == "" || strings.ContainsAny(name, "/{} ") || name[0] == '@' || name[0] == '*' {
		return errors.New("expected, before the URL, a name without spaces, slashes and braces that does not begin with @ or *")
	}
	return nil
}

func checkIssuerURL(s string) error {
	if unresolved(s) {
		return nil
	}
	return uris.CheckIssuer(s)
}

func checkScopes(scopes []Scope) error {
	seen := make(map[string]bool)
	for _, s := range scopes {
		switch {
		case !grants.ValidScope(s.Name):
			return directive.At("scope "+s.Name, errors.New("expected a name of printable ASCII without spaces, quotes and backslashes"))
		case seen[s.Name]:
			return directive.At("scope "+s.Name, errors.New("duplicate scope"))
		}
		seen[s.Name] = true
	}
	return nil
}

func checkAudience(audience []string) error {
	for _, a := range audience {
		if !unresolved(a) && !grants.ValidResource(a) {
			return fmt.Errorf("expected absolute URIs without fragment (RFC 8707), not %s", a)
		}
	}
	return nil
}

func checkConsent(mode storage.ConsentMode) error {
	return checkChoice(mode, storage.ConsentOnce, storage.ConsentAlways, storage.ConsentNever)
}

func checkRevocationPoll(d caddy.Duration) error {
	if d < 0 || d > 0 && time.Duration(d) < time.Second {
		return errors.New("expected a duration of a second or more")
	}
	return nil
}
