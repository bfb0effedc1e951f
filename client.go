package caddyoauth

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Client is an app, script or partner that may get tokens. One without a secret is public: an app in
// a browser or on a person's device, which can keep no secret and must use PKCE.
type Client struct {
	// The name that people see when they are asked for consent. Default: the client ID.
	Name string `json:"name,omitempty"`

	// Secrets in clear, any one of which authenticates the client, so that a new one can be introduced
	// before the old one goes. Take them from a placeholder such as `{env.BILLING_SECRET}` or
	// `{file./run/secrets/billing}`.
	Secrets []string `json:"secrets,omitempty"`

	// Hashes of secrets: `sha256:` and 64 hex digits, which is right for secrets of 256 random bits, or
	// what `caddy hash-password` prints (bcrypt, argon2id), which is slow on purpose.
	SecretHashes []string `json:"secret_hashes,omitempty"`

	// Where people are sent back to. A request must name one of them letter by letter; only the port of a
	// loopback address may differ.
	RedirectURIs []string `json:"redirect_uris,omitempty"`

	// The grant types the client may use. With `refresh_token` it gets refresh tokens. Default:
	// `authorization_code` (RFC 7591).
	GrantTypes []string `json:"grant_types,omitempty"`

	// The scopes the client may ask for, and gets when it asks for none.
	Scopes []string `json:"scopes,omitempty"`

	// The resources (RFC 8707) the client may ask for, and the audience of its tokens when it asks
	// for none. Default: those of the issuer.
	Audience []string `json:"audience,omitempty"`

	// The resources whose access tokens the client may introspect, as their resource server; `*` is all. Its own
	// tokens it may look at in any case. Default: none.
	Introspects []string `json:"introspects,omitempty"`

	// When people are asked for consent: `once`, `always` or `never`. Default: as the issuer says.
	Consent storage.ConsentMode `json:"consent,omitempty"`

	// How its access tokens live, where that differs from the issuer's setting.
	AccessToken *ClientAccessTokenSettings `json:"access_token,omitempty"`

	// How its refresh tokens live, where that differs from the issuer's settings.
	RefreshToken *RefreshTokenSettings `json:"refresh_token,omitempty"`

	// `required` makes a client with a secret use PKCE too; a public client must in any case. Default:
	// `optional`.
	PKCE string `json:"pkce,omitempty"`

	// Where its requests must name their redirect_uri, where that differs from the issuer's rules.
	RedirectURIRules *RedirectURIRules `json:"redirect_uri_rules,omitempty"`
}

// resolve replaces placeholders.
func (c *Client) resolve(repl *caddy.Replacer, path []string) error {
	for setting, values := range map[string][]string{
		"secret": c.Secrets, "secret_hash": c.SecretHashes, "redirect_uris": c.RedirectURIs, "audience": c.Audience, "introspects": c.Introspects,
	} {
		for n := range values {
			if err := replace(repl, &values[n], append(path, setting)...); err != nil {
				return err
			}
			if setting != "secret" && unresolved(values[n]) {
				return settingErr("expected a value without braces, not "+values[n], append(path, setting)...)
			}
		}
	}
	return nil
}

// check returns what is wrong with a client, and the path to where.
func (c *Client) check(id string, issuer *Issuer) (problem string, path []string) {
	if id == "" || strings.ContainsFunc(id, func(r rune) bool { return r < 0x20 || r > 0x7e }) { // RFC 6749 appendix A.1
		return "expected a client ID of printable ASCII", nil
	}
	if slices.Contains(c.Secrets, "") {
		return "expected a secret, but it is empty", []string{"secret"}
	}
	for _, hash := range c.SecretHashes {
		if !unresolved(hash) && !secretHashes.ValidHash(hash) {
			return "expected sha256: and 64 hex digits in lower case, or a hash that caddy hash-password prints", []string{"secret_hash"}
		}
	}
	for _, uri := range c.RedirectURIs {
		if unresolved(uri) {
			continue
		}
		if err := uris.CheckRedirect(uri); err != nil {
			return err.Error() + ", not " + uri, []string{"redirect_uris"}
		}
	}
	for _, scope := range c.Scopes {
		if !slices.ContainsFunc(issuer.Scopes, func(s Scope) bool { return s.Name == scope }) {
			return "expected scopes of the issuer; it has no scope " + scope, []string{"scopes"}
		}
	}
	if problem := checkAudience(c.Audience); problem != "" {
		return problem, []string{"audience"}
	}
	for _, resource := range c.Introspects {
		if resource != "*" && !unresolved(resource) && !grants.ValidResource(resource) {
			return "expected absolute URIs or *, not " + resource, []string{"introspects"}
		}
	}
	if len(c.Introspects) > 0 && c.public() {
		return "expected with a secret only: a public client cannot authenticate", []string{"introspects"}
	}
	if problem := checkConsent(c.Consent); problem != "" {
		return problem, []string{"consent"}
	}
	if problem, setting := c.AccessToken.check(); problem != "" {
		return problem, []string{"access_token", setting}
	}
	if problem, setting := c.RefreshToken.check(); problem != "" {
		return problem, []string{"refresh_token", setting}
	}
	if problem, setting := c.RedirectURIRules.check(); problem != "" {
		return problem, []string{"redirect_uri_rules", setting}
	}
	if c.PKCE != "" && c.PKCE != "required" && c.PKCE != "optional" {
		return "expected required or optional, not " + c.PKCE, []string{"pkce"}
	}
	if c.PKCE == "optional" && c.public() {
		return "expected required: a client without a secret must use PKCE (RFC 9700 section 2.1.1)", []string{"pkce"}
	}
	return c.checkGrants(issuer.grantTypes())
}

// checkGrants finds grant types that do not exist, or that the client cannot use as it is.
func (c *Client) checkGrants(known []string) (problem string, path []string) {
	types := c.grantTypes()
	for _, t := range types {
		if !slices.Contains(known, t) {
			return "expected some of " + strings.Join(known, ", ") + ", not " + t, []string{"grant_types"}
		}
	}
	code := slices.Contains(types, "authorization_code")
	switch {
	case slices.Contains(types, "client_credentials") && c.public():
		return "client_credentials needs a client with secret or secret_hash (RFC 6749 section 4.4)", []string{"grant_types"}
	case code && len(c.RedirectURIs) == 0:
		return "authorization_code needs redirect_uris", nil
	case !code && len(c.RedirectURIs) > 0:
		return "expected authorization_code among the grant_types, which these are for", []string{"redirect_uris"}
	}
	return "", nil
}

func (c *Client) public() bool { return len(c.Secrets) == 0 && len(c.SecretHashes) == 0 }

func (c *Client) grantTypes() []string {
	if len(c.GrantTypes) == 0 && len(c.RedirectURIs) == 0 && len(c.Introspects) > 0 {
		return nil // a resource server
	}
	if len(c.GrantTypes) == 0 {
		return []string{"authorization_code"}
	}
	return c.GrantTypes
}

// client returns the client as requests see it.
func (c *Client) client(id string, issuer *Issuer) *storage.Client {
	client := &storage.Client{
		ID:                  id,
		Name:                c.Name,
		SecretHashes:        slices.Clone(c.SecretHashes),
		RedirectURIs:        c.RedirectURIs,
		GrantTypes:          c.grantTypes(),
		Scopes:              c.Scopes,
		Audience:            c.Audience,
		Introspects:         c.Introspects,
		Consent:             c.Consent,
		CodeLifetime:        issuer.Code.lifetime(),
		RequirePKCE:         c.PKCE == "required",
		RedirectRules:       redirectRules(c.RedirectURIRules, issuer.RedirectURIRules),
		AccessTokenLifetime: c.AccessToken.lifetime().or(issuer.AccessToken.lifetime().duration()).duration(),
		RefreshToken:        refreshPolicy(c.public(), c.RefreshToken, issuer.RefreshToken),
	}
	if issuer.Code != nil {
		client.CodePrefix = issuer.Code.Prefix
	}
	for _, secret := range c.Secrets {
		client.SecretHashes = append(client.SecretHashes, authserver.HashSecret(secret))
	}
	if client.Name == "" {
		client.Name = id
	}
	if client.Consent == "" {
		client.Consent = issuer.Consent
	}
	if len(client.Audience) == 0 {
		client.Audience = issuer.Audience
	}
	if len(client.Audience) == 0 {
		client.Audience = []string{issuer.URL}
	}
	return client
}
