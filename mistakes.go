package caddyoauth

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/warning"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// This file finds settings that load, and cannot work or are not what their owner means, for warnings of the Caddyfile adapter and of
// Provision. What an owner can mean gets no warning.
//
// caddyfile_mistakes.go finds what can only be seen in a Caddyfile: where directives stand, and what stands beside them.

// shortSecret is the length below which a secret can be guessed.
const shortSecret = 16

// mistakes finds settings of an issuer that cannot work. Call it before placeholders are replaced. The path leads to the issuer.
func (i *Issuer) mistakes(path ...string) (found []warning.Mistake) {
	add := func(seen, instead string, setting ...string) {
		found = append(found, warning.Mistake{Path: append(slices.Clone(path), setting...), Seen: seen, Instead: instead})
	}
	shown := make(map[string]bool) // scopes on the consent page
	for _, id := range slices.Sorted(maps.Keys(i.Clients)) {
		c := i.Clients[id]
		if c == nil {
			continue
		}
		if strings.Contains(id, ":") {
			add(fmt.Sprintf("the client ID %s has a colon, at which many programs end the name of HTTP Basic", id), "a client ID without a colon", "client "+id)
		}
		for _, secret := range c.Secrets {
			if len(secret) < shortSecret && !unresolved(secret) {
				add("the secret of the client "+id+" is so short that it can be guessed",
					"32 random characters, from {env.NAME} or {file./path/of/the/file}", "client "+id, "secret")
			}
		}
		for _, m := range c.ClientCertificates.mistakes(id) {
			add(m.Seen, m.Instead, m.Path...)
		}
		for _, e := range c.Exchanges {
			if given := i.givenResources(); !i.MCP && !slices.ContainsFunc(given, unresolved) && !unresolved(e.From) && !slices.Contains(given, e.From) {
				add("no client of the configuration gets tokens for "+e.From+", which the client "+id+" could exchange",
					"exchange from "+directive.OneOf(given), "client "+id, e.name())
			}
		}
		if seen, instead := i.signInMistake(id, c); seen != "" {
			add(seen, instead, "client "+id, "scopes")
		}
		if i.RequireSigned && !c.hasKeys() && slices.Contains(c.grantTypes(), "authorization_code") {
			add("the client "+id+" has no keys to sign its authorization requests with, which require_signed_request_object demands",
				"jwks or jwks_uri", "client "+id)
		}
		mode := c.Consent
		if mode == "" {
			mode = i.Consent
		}
		if mode != storage.ConsentNever && slices.Contains(c.grantTypes(), "authorization_code") {
			for _, scope := range c.Scopes {
				shown[scope] = true
			}
		}
	}
	for _, name := range i.sharedIssuers() {
		add("several clients may bring assertions of "+name+", also those that name no client", "clients <id...>", "grant jwt_bearer", "issuer "+name)
	}
	if i.Dynamic != nil {
		for _, token := range i.Dynamic.Tokens {
			if end, err := token.end(); err == nil && !end.IsZero() && !time.Now().Before(end) {
				add("an initial access token has ended, at "+end.Format(time.RFC3339), "a later date at until, or no such token", "dynamic", "token")
			}
		}
	}
	for _, s := range i.Scopes {
		switch {
		case s.Name == grants.OpenID && i.OpenID == nil:
			add("the scope openid is that of OpenID Connect, which the issuer does not have", "openid, and no scope of that name", "scope openid")
		case i.OpenID != nil && slices.Contains(grants.OpenIDScopes, s.Name): // it has words
		case s.Description == "" && shown[s.Name]:
			add("the consent page shows the scope "+s.Name+", which has no words for people",
				fmt.Sprintf("scope %s %q", s.Name, "what it lets an app do"), "scope "+s.Name)
		}
	}
	return found
}

// signsIn returns the grant type for which people sign in to a client of the issuer, "" if they sign in to none.
func (i *Issuer) signsIn() string {
	const code = "authorization_code"
	if i.cimd() != nil || i.dynamic() != nil {
		return code
	}
	found := ""
	for _, c := range i.Clients {
		if c == nil {
			continue
		}
		switch types := c.grantTypes(); {
		case slices.Contains(types, code):
			return code
		case slices.Contains(types, grants.DeviceCodeType):
			found = "device_code"
		}
	}
	return found
}

// unusedScopes finds scopes of a guard that no client of the issuer may have. Clients that were added at run time may.
func (i *Issuer) unusedScopes(g *Guard) (found []warning.Mistake) {
	if len(i.Clients) == 0 {
		return nil
	}
	for _, scope := range g.Scopes {
		given := false
		for _, c := range i.Clients {
			given = given || c != nil && slices.Contains(c.Scopes, scope)
		}
		if !given {
			found = append(found, warning.Mistake{
				Path: []string{"oauth_guard", "scopes"}, Seen: "no client of the configuration may have the scope " + scope,
				Instead: "scopes " + scope + " in a client, or another scope here",
			})
		}
	}
	return found
}

// stepUpMistakes finds what a guard needs of a login, and no site of its issuer tells.
func (a *App) stepUpMistakes(g *Guard) (found []warning.Mistake) {
	sites, tellsTime, tellsACR := 0, false, false
	for _, h := range a.handlers {
		if h.Issuer != g.Issuer {
			continue
		}
		sites++
		tellsTime = tellsTime || h.Session != nil && h.Session.AuthTime != ""
		tellsACR = tellsACR || h.Session != nil && h.Session.ACR != ""
	}
	if g.MaxAge > 0 && sites > 0 && !tellsTime {
		found = append(found, warning.Mistake{
			Path: []string{"oauth_guard", "max_age"}, Seen: "no site of the issuer tells when people sign in, so that no token passes",
			Instead: "session { auth_time ... } in the oauth directive",
		})
	}
	if len(g.ACR) > 0 && sites > 0 && !tellsACR {
		found = append(found, warning.Mistake{
			Path: []string{"oauth_guard", "acr"}, Seen: "no site of the issuer tells how people sign in, so that no token passes",
			Instead: "session { acr ... } in the oauth directive",
		})
	}
	return found
}

// headerMistakes finds headers of a guard from placeholders that nothing sets.
func (g *Guard) headerMistakes() (found []warning.Mistake) {
	for _, header := range slices.Sorted(maps.Keys(g.Headers)) {
		for _, name := range directive.Placeholders(g.Headers[header]) {
			if name == "http.auth.user" || name == "user" {
				found = append(found, emptyHeader(name, "oauth_guard", "header "+header))
			}
		}
	}
	return found
}

func emptyHeader(name string, path ...string) warning.Mistake {
	return warning.Mistake{Path: path, Seen: "nothing sets {" + name + "}, and the header is empty", Instead: "{http.auth.user.id}, or {http.auth.user.<claim>}"}
}

// wrongAddress is the mistake of an issuer whose URL is not that of its site in one part: the host, the scheme or the port.
func wrongAddress(part, issuer string, sites []string, path ...string) warning.Mistake {
	return warning.Mistake{
		Path: path, Key: part + " of " + issuer, Seen: fmt.Sprintf("the %s of the issuer %s is not that of the site %s", part, issuer, strings.Join(sites, ", ")),
		Instead: "one URL for both, as clients go to that of the issuer",
	}
}
