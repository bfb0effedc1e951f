package check

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

const openIDGuide = "docs/guides/openid.md"

// openID checks what applications need that sign people in (OpenID Connect): where they look for the endpoints, the keys of ID tokens, the
// userinfo endpoint, and claims for the scopes that they have.
func (l *live) openID() {
	if len(l.metadata.IDTokenAlgs) == 0 {
		if l.issuer.OpenID != nil {
			l.say(Fail, "openid", "the issuer that runs has no OpenID Connect, although the configuration has openid", "It runs another configuration.", "# caddy reload", openIDGuide)
		}
		return
	}
	document := strings.TrimSuffix(l.issuer.URL, "/") + "/.well-known/openid-configuration"
	var discovered metadata
	found, err := l.ask(http.MethodGet, document, nil)
	if err != nil || found.StatusCode != http.StatusOK || json.Unmarshal(found.body, &discovered) != nil || discovered.Issuer != l.issuer.URL {
		l.say(Fail, "openid", document+" has no metadata of this issuer", "Applications look there for the endpoints (OpenID Connect Discovery section 4). Something "+
			"before oauth answers.", "", openIDGuide)
		return
	}
	for _, alg := range l.metadata.IDTokenAlgs {
		if !slices.ContainsFunc(l.keySet, func(k publicKey) bool { return k.signs(alg) }) {
			l.say(Fail, "openid", "no key for "+alg+" is at "+l.metadata.JWKS, "Applications cannot check ID tokens with this algorithm.", "", openIDGuide)
			return
		}
	}
	info, err := l.ask(http.MethodGet, l.metadata.UserInfo, nil)
	if err != nil || info.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(info.Header.Get("WWW-Authenticate"), "Bearer") {
		seen := fmt.Sprint(err)
		if err == nil {
			seen = fmt.Sprintf("status %d", info.StatusCode)
		}
		l.say(Fail, "openid", l.metadata.UserInfo+" does not ask for a token: "+seen, "Applications get the claims there. Something before oauth answers.", "", openIDGuide)
		return
	}
	l.ok("openid", "applications find the endpoints, the keys of ID tokens ("+strings.Join(l.metadata.IDTokenAlgs, ", ")+") and userinfo")
	l.openIDClaims()
}

// signs reports whether the key can be that of signatures with an algorithm.
func (k *publicKey) signs(alg string) bool {
	if k.Algorithm != "" {
		return k.Algorithm == alg
	}
	switch alg[:min(2, len(alg))] {
	case "RS", "PS":
		return k.Type == "RSA"
	case "ES":
		return k.Type == "EC"
	}
	return k.Type == "OKP"
}

// openIDClaims finds scopes of clients for which the site has no claim.
func (l *live) openIDClaims() {
	claims := map[string][]string{
		"email": {"email"}, "phone": {"phone_number"}, "address": {"address"},
		"profile": {"preferred_username", "name", "given_name", "family_name", "nickname", "picture", "profile", "website", "locale", "zoneinfo", "birthdate", "gender"},
	}
	for _, s := range l.issuer.Scopes {
		if len(s.Claims) > 0 {
			claims[s.Name] = s.Claims
		}
	}
	for _, id := range slices.Sorted(maps.Keys(l.issuer.Clients)) {
		scopes := l.issuer.Clients[id].Scopes
		if !slices.Contains(scopes, "openid") {
			continue
		}
		for _, scope := range scopes {
			names := claims[scope]
			if len(names) == 0 || slices.ContainsFunc(names, func(name string) bool { return slices.Contains(l.metadata.Claims, name) }) {
				continue
			}
			l.report.add(Finding{
				Verdict: Warning, Check: "openid claims", Issuer: l.issuer.Name, Client: id, Seen: "the scope " + scope + " tells it nothing, as the site has no claim " + names[0],
				Why: "An application that needs it refuses the person, or makes an account without it.", Paste: "claim " + names[0] + " {rp.header.…}", Read: openIDGuide,
			})
		}
	}
}
