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

// Ticket is a grant type of a site: it exchanges the number of a ticket that the site has sold for an access token with one scope.
type Ticket struct {
	Sold  []string `json:"sold,omitempty"`
	Scope string   `json:"scope,omitempty"`
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
	return &grants.Authorization{Subject: "ticket:" + number, Scopes: []string{t.Scope}}, nil
}

func ExampleGrant() {
	var grant grants.Grant = &Ticket{Sold: []string{"A17"}, Scope: "seat"}

	for _, number := range []string{"A17", "B2", ""} {
		authorization, err := grant.Exchange(context.Background(), &grants.Request{
			Issuer: "https://example.com",
			Client: &storage.Client{ID: "kiosk"},
			Form:   url.Values{"grant_type": {grant.Type()}, "ticket": {number}},
			Store:  memory.New(),
		})
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(authorization.Subject, authorization.Scopes)
	}
	// Output:
	// ticket:A17 [seat]
	// invalid_grant: no such ticket
	// invalid_request: the parameter ticket is missing
}
