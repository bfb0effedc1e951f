package grants_test

import (
	"context"
	"fmt"
	"net/url"
	"slices"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

func init() { caddy.RegisterModule(new(Ticket)) }

// Ticket is a grant type of a site: it exchanges the number of a ticket that the site has sold for an access token.
type Ticket struct {
	Sold []string `json:"sold,omitempty"`
}

// CaddyModule returns the Caddy module information, with the name that an issuer's JSON uses.
func (Ticket) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "oauth.grants.ticket", New: func() caddy.Module { return new(Ticket) }}
}

func (*Ticket) Type() string { return "https://example.com/grant-types/ticket" }

func (t *Ticket) Exchange(_ context.Context, req *grants.Request) (*grants.Authorization, error) {
	number := req.Form.Get("ticket")
	if number == "" {
		return nil, grants.Refuse(grants.InvalidRequest, "the parameter ticket is missing")
	}
	if !slices.Contains(t.Sold, number) {
		return nil, grants.Refuse(grants.InvalidGrant, "no such ticket")
	}
	scope := req.Form.Get("scope")
	scopes, err := grants.ChooseScopes(req.Client, scope, grants.AllowedScopes(req.Client, scope))
	if err != nil {
		return nil, err
	}
	audience, err := grants.ChooseAudience(req.Form["resource"], req.Client.Audience)
	if err != nil {
		return nil, err
	}
	return &grants.Authorization{Subject: "ticket:" + number, Scopes: scopes, Audience: audience}, nil
}

func ExampleGrant() {
	var grant grants.Grant = &Ticket{Sold: []string{"A17"}}
	kiosk := &storage.Client{ID: "kiosk", Scopes: []string{"seat", "menu"}, Audience: []string{"https://hall.example.com"}}

	for _, number := range []string{"A17", "B2", ""} {
		authorization, err := grant.Exchange(context.Background(), &grants.Request{
			Issuer: "https://example.com",
			Client: kiosk,
			Form:   url.Values{"grant_type": {grant.Type()}, "ticket": {number}, "scope": {"seat"}},
			Store:  memory.New(),
		})
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(authorization.Subject, authorization.Scopes, authorization.Audience)
	}
	// Output:
	// ticket:A17 [seat] [https://hall.example.com]
	// invalid_grant: no such ticket
	// invalid_request: the parameter ticket is missing
}
