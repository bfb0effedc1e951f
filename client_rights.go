package caddyoauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Exchange lets a client exchange a user's access token for one resource for a token for another (RFC 8693).
type Exchange struct {
	// The resource whose tokens the client gets: as a rule, the client is that resource. The token must have it as an audience.
	// **Danger:** with the resource of somebody else, the client can use tokens that were not meant for it.
	From string `json:"from"`

	// The resource that the new token is for: the service that the client calls.
	To string `json:"to"`

	// The scopes that the new token can have, of those that the first token and the client have. Default: all of these.
	Scopes []string `json:"scopes,omitempty"`
}

// name returns the name of the rule in the path of an error.
func (e *Exchange) name() string { return "exchange from " + e.From + " to " + e.To }

func (c *Client) resolveExchanges(repl *caddy.Replacer) error {
	for n := range c.Exchanges {
		e := &c.Exchanges[n]
		for _, resource := range []*string{&e.From, &e.To} {
			if err := replace(repl, resource); err != nil {
				return directive.At("exchange", err)
			}
		}
	}
	return nil
}

// checkExchanges finds rules that cannot work, and a grant type without rules.
func (c *Client) checkExchanges(issuer *Issuer) error {
	may := slices.Contains(c.grantTypes(), grants.TokenExchangeType)
	switch {
	case may && c.public():
		return directive.At("grant_types", errors.New("token_exchange needs a client with secret, secret_hash, jwks or jwks_uri: a public client cannot authenticate"))
	case may && len(c.Exchanges) == 0:
		return directive.At("grant_types", errors.New("token_exchange needs exchange, such as: exchange from <audience> to <audience>"))
	case may && issuer.AccessToken != nil && issuer.AccessToken.Claims == "minimal":
		return directive.At("grant_types", errors.New("token_exchange needs access_token with claims rfc9068, or format opaque: a minimal token says neither its audience nor its scopes"))
	}
	for n := range c.Exchanges {
		if err := c.Exchanges[n].check(may, c); err != nil {
			return directive.At(c.Exchanges[n].name(), err)
		}
	}
	return nil
}

func (e *Exchange) check(may bool, c *Client) error {
	if !may {
		return errors.New("expected token_exchange among the grant_types, which this is for")
	}
	for _, resource := range []string{e.From, e.To} {
		if !unresolved(resource) && !grants.ValidResource(resource) {
			return fmt.Errorf("expected absolute URIs without a fragment, not %s", resource)
		}
	}
	for _, scope := range e.Scopes {
		if !slices.Contains(c.Scopes, scope) {
			return fmt.Errorf("expected scopes of the client, which are %s, not %s%s", strings.Join(c.Scopes, " "), scope, directive.DidYouMean(scope, c.Scopes))
		}
	}
	return nil
}

// exchangeResources returns the resources of the rules.
func (c *Client) exchangeResources() (resources []string) {
	for _, e := range c.Exchanges {
		resources = append(resources, e.From, e.To)
	}
	return resources
}

// exchangeRules returns the rules for the server.
func (c *Client) exchangeRules() (rules []storage.ExchangeRule) {
	for _, e := range c.Exchanges {
		rules = append(rules, storage.ExchangeRule{From: e.From, To: e.To, Scopes: e.Scopes})
	}
	return rules
}

// checkTrusted refuses a trusted issuer with a scope that this issuer does not have, or with a loopback jwks_uri unless this issuer is
// on a loopback host too.
func (i *Issuer) checkTrusted(g *grants.JWTBearer) error {
	for _, name := range slices.Sorted(maps.Keys(g.Issuers)) {
		if err := checkKeysURI(g.Issuers[name].JWKSURI, i.URL); err != nil {
			return directive.At("issuer "+name, directive.At("jwks_uri", err))
		}
		for _, scope := range g.Issuers[name].Scopes {
			if names := i.scopeNames(); !slices.Contains(names, scope) {
				return directive.At("issuer "+name, directive.At("scopes", fmt.Errorf("expected scopes of the issuer; it has no scope %s%s",
					scope, directive.DidYouMean(scope, names))))
			}
		}
	}
	return nil
}

// sharedIssuers returns the trusted issuers whose assertions several clients may present, because no setting names the clients. A client
// of one partner could then present an assertion of another partner. ID-JAGs are exempt: each names its client.
func (i *Issuer) sharedIssuers() (names []string) {
	g := i.jwtBearer()
	if g == nil {
		return nil
	}
	bringing := 0
	for _, c := range i.Clients {
		if c != nil && slices.Contains(c.grantTypes(), grants.JWTBearerType) {
			bringing++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(g.Issuers)) {
		if from := g.Issuers[name]; from != nil && bringing > 1 && !from.IDJAG && len(from.Clients) == 0 {
			names = append(names, name)
		}
	}
	return names
}

// jwtBearer returns the settings of the grant, before or after it is loaded; nil without it.
func (i *Issuer) jwtBearer() *grants.JWTBearer {
	for _, g := range i.loaded {
		if g, ok := g.(*grants.JWTBearer); ok {
			return g
		}
	}
	g := new(grants.JWTBearer)
	if raw, ok := i.GrantsRaw["jwt_bearer"]; !ok || json.Unmarshal(raw, g) != nil {
		return nil
	}
	return g
}

// RevokesUsers says how a client names the user whose tokens it revokes (RFC 9493). It always may name the user ID itself (`opaque`), and
// the subject that this issuer gives (`iss_sub`).
type RevokesUsers struct {
	// Issuers whose subjects are the user IDs of your site, as `iss` of `iss_sub` has them, to the letter. Default: this issuer only.
	// **Danger:** with an issuer whose subjects are others, the tokens of another user, or of nobody, are revoked.
	Issuers []string `json:"iss,omitempty"`

	// Whether the user IDs of your site are e-mail addresses, so that `email` names a user. They are compared to the letter. Default: false.
	Email bool `json:"email,omitempty"`
}

func (c *Client) resolveRevokesUsers(repl *caddy.Replacer) error {
	if c.RevokesUsers == nil {
		return nil
	}
	return directive.At("revokes_users", directive.At("iss", replaceAll(repl, c.RevokesUsers.Issuers)))
}

func (c *Client) checkRevokesUsers() error {
	if c.RevokesUsers != nil && c.public() {
		return errors.New("expected with a secret, keys or a certificate only: a public client cannot authenticate")
	}
	for _, issuer := range c.RevokesUsers.issuers() {
		u, err := url.Parse(issuer)
		if !unresolved(issuer) && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
			return directive.At("iss", fmt.Errorf("expected the URLs of issuers, such as https://idp.example.com, not %s", issuer))
		}
	}
	return nil
}

func (r *RevokesUsers) issuers() []string {
	if r == nil {
		return nil
	}
	return r.Issuers
}

// identifiers returns the rules for the server, nil if the client may revoke nothing.
func (r *RevokesUsers) identifiers() *storage.UserIdentifiers {
	if r == nil {
		return nil
	}
	return &storage.UserIdentifiers{Issuers: r.Issuers, Email: r.Email}
}

// checkResources finds resources that no client of the configuration can get a token for.
func (i *Issuer) checkResources(resources []string) error {
	given := i.givenResources()
	if slices.ContainsFunc(given, unresolved) {
		return nil
	}
	for _, resource := range resources {
		if !unresolved(resource) && !slices.Contains(given, resource) {
			return fmt.Errorf("expected a resource in an audience of the issuer or of its clients, %s, not %s", directive.OneOf(given), resource)
		}
	}
	return nil
}

// givenResources returns the resources that clients of the configuration can get tokens for.
func (i *Issuer) givenResources() []string {
	given := i.audience()
	for _, id := range slices.Sorted(maps.Keys(i.Clients)) {
		if c := i.Clients[id]; c != nil {
			given = bearer.Union(given, c.Audience)
			for _, e := range c.Exchanges {
				given = bearer.Union(given, []string{e.To})
			}
		}
	}
	return given
}

// audience returns the resources that the issuer has for clients without their own.
func (i *Issuer) audience() []string {
	if len(i.Audience) > 0 {
		return i.Audience
	}
	return []string{i.URL}
}
