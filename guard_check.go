package caddyoauth

import (
	"cmp"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/net/http/httpguts"
)

// elsewhere reports whether the issuer is given by its URL.
func (g *Guard) elsewhere() bool { return strings.Contains(g.Issuer, "://") }

// resolve replaces placeholders that are known before there is a request.
func (g *Guard) resolve() error {
	repl := caddy.NewReplacer()
	if err := replace(repl, &g.Issuer, "oauth_guard"); err != nil {
		return err
	}
	if err := replace(repl, &g.Resource, "oauth_guard", "resource"); err != nil {
		return err
	}
	for n := range g.Audience {
		if err := replace(repl, &g.Audience[n], "oauth_guard", "audience"); err != nil {
			return err
		}
	}
	return nil
}

// check finds impossible settings. Values that still have placeholders are not looked at.
func (g *Guard) check() error {
	at := func(problem string, path ...string) error {
		return settingErr(problem, append([]string{"oauth_guard"}, path...)...)
	}
	known := !unresolved(g.Issuer)
	switch {
	case g.elsewhere() && checkIssuerURL(g.Issuer) != "":
		return at(checkIssuerURL(g.Issuer))
	case g.elsewhere() && len(g.Audience) == 0 && g.Resource == "":
		return at("expected audience with what tokens must be for, as an issuer elsewhere may give tokens for anything")
	case known && !g.elsewhere() && len(g.Types) > 0:
		return at("expected the URL of an issuer elsewhere; tokens made here have one type", "types")
	}
	if problem := checkAudience(g.Audience); problem != "" {
		return at(problem, "audience")
	}
	if problem := checkAudience([]string{cmp.Or(g.Resource, "https://example.com")}); problem != "" {
		return at(problem, "resource")
	}
	if g.Authorization != "" && g.Authorization != "strip" && g.Authorization != "pass" {
		return at("expected strip or pass, not "+g.Authorization, "authorization")
	}
	if g.TokenHeader != "" && !httpguts.ValidHeaderFieldName(g.TokenHeader) {
		return at("expected the name of a header, not "+g.TokenHeader, "token_header")
	}
	for _, name := range sortedKeys(g.Headers) {
		if !httpguts.ValidHeaderFieldName(name) {
			return at("expected the name of a header, not "+name, "header "+name)
		}
	}
	return nil
}
