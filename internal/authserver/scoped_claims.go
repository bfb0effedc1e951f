package authserver

import (
	"maps"
	"slices"

	"github.com/caddy-oauth/caddy-oauth/grants"
)

// Scope is a scope the issuer knows, with the words a person is asked with.
type Scope struct {
	Name        string
	Description string
	Languages   map[string]string // the words in other languages, by their tag
	Claims      []string          // that only tokens with this scope have, or another scope that names them
}

// standardClaims are the claims of the scopes of OpenID Connect (Core §5.4).
var standardClaims = map[string][]string{
	"profile": {
		"name", "family_name", "given_name", "middle_name", "nickname", "preferred_username", "profile", "picture", "website",
		"gender", "birthdate", "zoneinfo", "locale", "updated_at",
	},
	"email":   {"email", "email_verified"},
	"address": {"address"},
	"phone":   {"phone_number", "phone_number_verified"},
}

// withOpenIDScopes returns the scopes of an issuer whose clients can sign people in: its own, and those of OpenID Connect. A scope of
// both has the owner's words.
func withOpenIDScopes(own []Scope) []Scope {
	scopes := slices.Clone(own)
	for _, name := range grants.OpenIDScopes {
		n := slices.IndexFunc(scopes, func(s Scope) bool { return s.Name == name })
		switch {
		case n < 0:
			scopes = append(scopes, Scope{Name: name, Claims: standardClaims[name]})
		case len(scopes[n].Claims) == 0:
			scopes[n].Claims = standardClaims[name]
		}
	}
	return scopes
}

// scopedClaims are the claims that only tokens with certain scopes have: the scopes, by claim. Tokens have all other claims whatever
// their scopes.
type scopedClaims map[string][]string

func newScopedClaims(scopes []Scope) scopedClaims {
	by := make(scopedClaims)
	for _, scope := range scopes {
		for _, claim := range scope.Claims {
			by[claim] = append(by[claim], scope.Name)
		}
	}
	return by
}

// gives reports whether one of the scopes gives the claim, or no scope is needed for it.
func (s scopedClaims) gives(scopes []string, claim string) bool {
	named, scoped := s[claim]
	return !scoped || slices.ContainsFunc(named, func(scope string) bool { return slices.Contains(scopes, scope) })
}

// granted returns the claims that an authorization gives at the userinfo endpoint and in access tokens: those of its scopes, and those
// that were asked for one by one.
func (s scopedClaims) granted(claims map[string]any, scopes, asked []string) map[string]any {
	withheld := func(claim string, _ any) bool { return !s.gives(scopes, claim) && !slices.Contains(asked, claim) }
	if len(s) == 0 {
		return claims
	}
	for claim := range claims {
		if withheld(claim, nil) {
			claims = maps.Clone(claims) // which others share
			maps.DeleteFunc(claims, withheld)
			break
		}
	}
	return claims
}
