package caddyoauth

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/net/http/httpguts"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
)

// elsewhere reports whether the issuer is given by its URL.
func (g *Guard) elsewhere() bool { return strings.Contains(g.Issuer, "://") }

// resolve replaces placeholders that are known before there is a request.
func (g *Guard) resolve() error {
	repl := caddy.NewReplacer()
	if err := replace(repl, &g.Issuer); err != nil {
		return directive.At("oauth_guard", err)
	}
	if err := replace(repl, &g.Resource); err != nil {
		return directive.At("oauth_guard", directive.At("resource", err))
	}
	for n := range g.Audience {
		if err := replace(repl, &g.Audience[n]); err != nil {
			return directive.At("oauth_guard", directive.At("audience", err))
		}
	}
	return nil
}

// check finds impossible settings. Values that still have placeholders are not looked at.
func (g *Guard) check() error {
	return directive.At("oauth_guard", cmp.Or(
		g.checkIssuer(),
		directive.At("audience", checkAudience(g.Audience)),
		directive.At("resource", g.checkResource()),
		directive.At("authorization", checkChoice(g.Authorization, "strip", "pass")),
		g.checkHeaders(),
	))
}

func (g *Guard) checkIssuer() error {
	if !g.elsewhere() {
		if len(g.Types) > 0 && !unresolved(g.Issuer) {
			return directive.At("types", errors.New("expected the URL of an issuer elsewhere; tokens made here have one type"))
		}
		return nil
	}
	if len(g.Audience) == 0 && g.Resource == "" {
		return errors.New("expected audience with what tokens must be for, as an issuer elsewhere may give tokens for anything")
	}
	return checkIssuerURL(g.Issuer)
}

func (g *Guard) checkResource() error {
	if g.Resource == "" {
		return nil
	}
	return checkAudience([]string{g.Resource})
}

func (g *Guard) checkHeaders() error {
	if g.TokenHeader != "" && !httpguts.ValidHeaderFieldName(g.TokenHeader) {
		return directive.At("token_header", fmt.Errorf("expected the name of a header, not %s", g.TokenHeader))
	}
	for _, name := range slices.Sorted(maps.Keys(g.Headers)) {
		if !httpguts.ValidHeaderFieldName(name) {
			return directive.At("header "+name, fmt.Errorf("expected the name of a header, not %s", name))
		}
	}
	return nil
}
