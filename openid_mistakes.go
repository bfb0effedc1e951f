package caddyoauth

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/grants"
)

// This file finds settings of OpenID Connect that load, and that applications cannot use.

// signInMistake returns what is wrong with a client that has scopes of OpenID Connect, "" if it may work, and what to write.
func (i *Issuer) signInMistake(id string, c *Client) (seen, instead string) {
	if i.OpenID == nil || len(c.Scopes) == 0 {
		return "", ""
	}
	others := slices.ContainsFunc(c.Scopes, func(scope string) bool { return !slices.Contains(grants.OpenIDScopes, scope) })
	switch openID, types := slices.Contains(c.Scopes, grants.OpenID), c.grantTypes(); {
	case !openID && !others:
		return "the client " + id + " gets no ID tokens, as it lacks the scope openid", "scopes openid " + strings.Join(c.Scopes, " ")
	case openID && (len(types) == 0 || slices.Equal(types, []string{"client_credentials"})):
		return "nobody can sign in to the client " + id + ", as it has no redirect URI", "redirect_uris, with the address that the application names"
	}
	return "", ""
}

// authTimeMistakes finds clients to which nobody can sign in at a site of their issuer, as the site does not tell when people have
// signed in.
func (h *Handler) authTimeMistakes(issuer *Issuer) (found []mistake) {
	if h.Session != nil && h.Session.AuthTime != "" {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(issuer.Clients)) {
		c := issuer.Clients[id]
		if c == nil || c.DefaultMaxAge == nil && !c.RequireAuthTime {
			continue
		}
		setting := "default_max_age"
		if c.RequireAuthTime {
			setting = "require_auth_time"
		}
		path := []string{"oauth"}
		if h.Settings != nil {
			path = append(path, "client "+id, setting)
		}
		found = append(found, mistake{
			path: path, seen: "nobody can sign in to the client " + id + " with " + setting + ", as this site does not tell when people sign in",
			instead: "session { auth_time {rp.header.…} } in oauth, as the login names it",
		})
	}
	return found
}

// claimTypes are the types of claims that are not text (OpenID Connect Core §5.1).
var claimTypes = map[string]string{
	"address": "json", "email_verified": "boolean", "phone_number_verified": "boolean", "updated_at": "number",
}

// typeMistake returns what is wrong with a claim whose type is not that of OpenID Connect, "" if it may work, and what to write.
func typeMistake(name string, c Claim) (seen, instead string) {
	want := claimTypes[name]
	if want == "" || c.Type == want || c.Type == "json" {
		return "", ""
	}
	return "the claim " + name + " is " + cmp.Or(c.Type, "text") + ", and applications expect " + want, "claim " + name + " " + c.Value + " " + want
}

// scopeClaims are the claims for which applications ask for a scope. That of profile depends on the application.
var scopeClaims = map[string][]string{"email": {"email"}, "phone": {"phone_number"}, "address": {"address"}}

// claimMistakes finds scopes of clients that give nothing, as no claim of theirs has a value. Other sites can have no more claims for an
// issuer that this directive defines.
func (h *Handler) claimMistakes() (found []mistake) {
	if h.Settings == nil || h.Settings.OpenID == nil {
		return nil
	}
	claims := maps.Clone(scopeClaims)
	for _, s := range h.Settings.Scopes {
		if len(s.Claims) > 0 {
			claims[s.Name] = s.Claims
		}
	}
	known := slices.Collect(maps.Keys(h.Claims))
	if check := h.Settings.RefreshCheck; check != nil {
		known = append(known, check.Claims...)
	}
	said := make(map[string]bool)
	for _, id := range slices.Sorted(maps.Keys(h.Settings.Clients)) {
		client := h.Settings.Clients[id]
		if client == nil {
			continue
		}
		for _, scope := range client.Scopes {
			names := claims[scope]
			if len(names) == 0 || said[scope] || slices.ContainsFunc(names, func(name string) bool { return slices.Contains(known, name) }) {
				continue
			}
			said[scope] = true
			found = append(found, mistake{
				path: []string{"oauth", "client " + id, "scopes"}, seen: "the scope " + scope + " tells applications nothing, as there is no claim " + names[0],
				instead: "claim " + names[0] + " {rp.header.…}, as the login names it",
			})
		}
	}
	return found
}
