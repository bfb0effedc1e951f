package caddyoauth

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/cimd"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/registration"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Client is an app, script or partner that may get tokens. A client with neither a secret, keys nor a certificate is public: an app in a
// browser or on a person's device, which cannot keep a secret and must use PKCE.
type Client struct {
	// The name that the consent page shows. Default: the client ID.
	Name string `json:"name,omitempty"`

	// A file with its logo, for the pages: SVG, PNG, JPEG or WebP, at most 128 KB. Default: none.
	Logo string `json:"logo,omitempty"`

	// Secrets in clear. Each of them authenticates the client, so that you can add a new one before you remove the old one. Use
	// placeholders such as `{env.BILLING_SECRET}` or `{file./run/secrets/billing}`. A secret has no line breaks and no spaces
	// around it; of a file and of a variable, the line break at the end is left out.
	Secrets []string `json:"secrets,omitempty"`

	// Hashes of secrets: `sha256:` and 64 hex digits for secrets of 256 random bits, or the output of `caddy hash-password`
	// (bcrypt, argon2id), which is slow on purpose, for secrets that a person made up.
	SecretHashes []string `json:"secret_hashes,omitempty"`

	// A file with the public keys of the client, which authenticates with JWTs that it signs (`private_key_jwt`) and needs no
	// secret: a JWK set, one JWK, or PEM. It is read when the configuration is loaded.
	JWKSFile string `json:"jwks_file,omitempty"`

	// The URL of the client's JWK set, with https. The server fetches it when the client comes, keeps it as long as its headers
	// say, and fetches it again for a key that it does not know, at most once a minute.
	JWKSURI string `json:"jwks_uri,omitempty"`

	// The JWK set itself, for a client that is added at run time.
	JWKS json.RawMessage `json:"jwks,omitempty"`

	// The URIs to which people are sent back. A request must name one of them exactly. Only the port of a loopback host may
	// differ.
	RedirectURIs []string `json:"redirect_uris,omitempty"`

	// Whether redirect URIs may have a scheme without a period, such as `myapp:/callback`, or http on another host than the
	// person's own device, such as `http://192.168.1.10:3000/callback`. Schemes that run or show what is in the URI, such as
	// `javascript`, are never allowed. The URI that Cursor documents, `cursor://anysphere.cursor-mcp/oauth/callback`, does not need
	// this. Default: false. **Danger:** any program on the person's device can take such a scheme
	// for itself, and anybody in the network can read and change what is sent by http. Both get the code.
	AllowInsecureRedirects bool `json:"allow_insecure_redirects,omitempty"`

	// Whether the client must push its authorization requests (RFC 9126), see the setting of the issuer. Default: false.
	RequirePushed bool `json:"require_pushed_authorization_requests,omitempty"`

	// Whether the client must sign its authorization requests (RFC 9101), see the setting of the issuer. It needs keys. Default: false.
	RequireSigned bool `json:"require_signed_request_object,omitempty"`

	// The only algorithm by which the client may sign its authorization requests, such as `ES256`. Default: that of any of its keys.
	RequestAlgorithm string `json:"request_object_signing_alg,omitempty"`

	// Whether the parameter `iss` is in the responses that people bring back to the client (RFC 9207): `on` or `off`. Default:
	// `on`. **Danger:** with `off`, a client that works with several issuers cannot tell which one a code is from. It is for a
	// client that refuses parameters it does not know.
	Iss string `json:"iss,omitempty"`

	// A security profile that the client is held to: `fapi2`, the FAPI 2.0 Security Profile of the OpenID Foundation. The client then needs
	// keys or a certificate and no secret, and must push its authorization requests and use PKCE. Its tokens are bound to the key of its DPoP
	// proofs, or to its certificate with `tls_client_certificate_bound_access_tokens`, its codes live for a minute at most, its refresh
	// tokens do not rotate unless its own `refresh_token` says so, and what it signs, or gets signed, is by ES256, PS256 or EdDSA and for this
	// issuer alone. Settings that contradict this are errors. Default: none.
	Profile string `json:"profile,omitempty"`

	// The grant types that the client may use. With `refresh_token`, it gets refresh tokens. With `device_code`, which is short for
	// `urn:ietf:params:oauth:grant-type:device_code`, it can run where there is no browser, such as on a TV or a server: a person
	// approves it on another device (RFC 8628). With `token_exchange`, which is short for
	// `urn:ietf:params:oauth:grant-type:token-exchange`, it exchanges tokens, see `exchanges`. With `jwt_bearer`, which is short for `urn:ietf:params:oauth:grant-type:jwt-bearer`, it
	// brings assertions of issuers that the setting `grant jwt_bearer` trusts. Default: with redirect URIs,
	// `authorization_code` and `refresh_token`; without, but with a secret or keys, `client_credentials`, or none if the client introspects,
	// ends sessions or revokes the tokens of users.
	GrantTypes []string `json:"grant_types,omitempty"`

	// The scopes that the client may ask for. If it asks for none, it gets all of them.
	Scopes []string `json:"scopes,omitempty"`

	// The resources (RFC 8707) that the client may ask tokens for. If it asks for none, its tokens are for all of them. Default:
	// those of the issuer.
	Audience []string `json:"audience,omitempty"`

	// The resources whose access tokens the client may introspect, since it is their resource server; `*` is all. A client may
	// always introspect its own tokens. Default: none.
	Introspects []string `json:"introspects,omitempty"`

	// Whether the client may end sessions at the endpoint `sessions`, since it is the site itself: when a session of the site ends, or a
	// person must be signed out everywhere, the site says so. It needs `openid` at the issuer, and a secret or keys. Default: false.
	EndsSessions bool `json:"ends_sessions,omitempty"`

	// Whether the client may revoke all tokens of a user at the endpoint `revoke_user` (Global Token Revocation), since it is the identity
	// provider, or a tool for incidents: somebody has left or was attacked. It needs a secret, keys or a certificate. Default: it may not.
	// **Danger:** whoever has its secret can sign everybody out of all apps.
	RevokesUsers *RevokesUsers `json:"revokes_users,omitempty"`

	// Which access tokens of users the client may exchange for which (RFC 8693), for a service that calls another one for the user. It
	// needs `token_exchange` among its grant types. Default: none.
	Exchanges []Exchange `json:"exchanges,omitempty"`

	// When people are asked for consent: `once`, `always` or `never`. Default: the setting of the issuer.
	Consent storage.ConsentMode `json:"consent,omitempty"`

	// How long people can let the client have access, see the setting of the issuer. Default: the setting of the issuer.
	ConsentLifetime []Lifetime `json:"consent_lifetime,omitempty"`

	// The lifetime of its access tokens. Default: that of the issuer.
	AccessToken *ClientAccessTokenSettings `json:"access_token,omitempty"`

	// The lifetime, the form and the rotation of its refresh tokens. Default: each setting of the issuer.
	RefreshToken *RefreshTokenSettings `json:"refresh_token,omitempty"`

	// Whether a client with a secret or keys must use PKCE: `required` or `optional`. A public client always must. Default:
	// `optional`.
	PKCE string `json:"pkce,omitempty"`

	// Whether each of its token requests must have a DPoP proof (RFC 9449), so that all its tokens are bound to its key and useless to a
	// thief. Without it, the client may send one. Default: false.
	DPoPBoundAccessTokens bool `json:"dpop_bound_access_tokens,omitempty"`

	// Which of its requests must have a redirect_uri. Default: each rule of the issuer.
	RedirectURIRules *RedirectURIRules `json:"redirect_uri_rules,omitempty"`

	ClientCertificates
	ClientOpenID
}

// resolve replaces placeholders.
func (c *Client) resolve(repl *caddy.Replacer) error {
	for n := range c.Secrets { // a secret may contain braces
		if err := replace(repl, &c.Secrets[n]); err != nil {
			return directive.At("secret", err)
		}
	}
	return cmp.Or(
		directive.At("logo", replace(repl, &c.Logo)),
		directive.At("secret_hash", replaceAll(repl, c.SecretHashes)),
		directive.At("jwks", replace(repl, &c.JWKSFile)),
		directive.At("jwks_uri", replace(repl, &c.JWKSURI)),
		directive.At("redirect_uris", replaceAll(repl, c.RedirectURIs)),
		directive.At("audience", replaceAll(repl, c.Audience)),
		directive.At("introspects", replaceAll(repl, c.Introspects)),
		c.resolveRevokesUsers(repl),
		c.resolveExchanges(repl),
		c.ClientCertificates.resolve(repl),
		c.ClientOpenID.resolve(repl),
	)
}

// check finds impossible settings of a client of the issuer.
func (c *Client) check(id string, issuer *Issuer) error {
	if id == "" || strings.ContainsFunc(id, func(r rune) bool { return r < 0x20 || r > 0x7e }) { // RFC 6749 appendix A.1
		return errors.New("expected a client ID of printable ASCII")
	}
	if cimd.IsURL(id) && issuer.cimd() != nil {
		return errors.New("expected a client ID that is no URL: with cimd, such an ID is that of a client that describes itself there")
	}
	return cmp.Or(
		directive.At("secret", checkSecrets(c.Secrets)),
		directive.At("secret_hash", checkSecretHashes(c.SecretHashes)),
		directive.At("jwks", c.checkKeys()),
		directive.At("jwks_uri", checkKeysURI(c.JWKSURI, issuer.URL)),
		directive.At("redirect_uris", checkRedirectURIs(c.RedirectURIs, c.AllowInsecureRedirects)),
		directive.At("scopes", issuer.checkClientScopes(c.Scopes)),
		directive.At("audience", checkAudience(c.Audience)),
		directive.At("introspects", c.checkIntrospects()),
		directive.At("ends_sessions", c.checkEndsSessions(issuer)),
		directive.At("revokes_users", c.checkRevokesUsers()),
		c.checkExchanges(issuer),
		directive.At("consent", checkConsent(c.Consent)),
		directive.At("consent_lifetime", checkConsentLifetime(c.ConsentLifetime, cmp.Or(c.Consent, issuer.Consent))),
		directive.At("access_token", c.AccessToken.check()),
		directive.At("refresh_token", c.RefreshToken.check()),
		directive.At("redirect_uri_rules", c.RedirectURIRules.check()),
		directive.At("pkce", c.checkPKCE()),
		directive.At("require_signed_request_object", c.checkSigned()),
		directive.At("request_object_signing_alg", checkPublicAlgorithm(c.RequestAlgorithm)),
		directive.At("iss", checkChoice(c.Iss, "on", "off")),
		c.ClientCertificates.check(c.hasKeys()),
		directive.At("self_signed_tls_client_auth", c.checkChains(c.JWKS)),
		c.ClientOpenID.check(c.Scopes, c.RedirectURIs, issuer),
		c.checkGrants(issuer.grantTypes()),
		c.checkProfile(issuer),
	)
}

func checkRedirectURIs(registered []string, insecure bool) error {
	for _, uri := range registered {
		if strings.HasSuffix(uri, ",") || strings.Contains(uri, ",http") {
			return fmt.Errorf("expected spaces between the URIs, and no comma, not %q", uri)
		}
		if unresolved(uri) {
			continue
		}
		check := uris.CheckRedirect
		if insecure || registration.IsKnownClient(uri) { // Cursor documents a scheme without a period
			check = uris.CheckInsecureRedirect
		}
		if err := check(uri); err != nil {
			return fmt.Errorf("%w, not %s", err, uri)
		}
	}
	return nil
}

func (i *Issuer) checkClientScopes(scopes []string) error {
	for _, scope := range scopes {
		if names := i.scopeNames(); !slices.Contains(names, scope) {
			if scope == grants.OpenID {
				return errors.New("expected scopes of the issuer; it has the scope openid with the setting openid only")
			}
			return fmt.Errorf("expected scopes of the issuer; it has no scope %s%s", scope, directive.DidYouMean(scope, names))
		}
	}
	return nil
}

func (c *Client) checkIntrospects() error {
	for _, resource := range c.Introspects {
		if resource != "*" && !unresolved(resource) && !grants.ValidResource(resource) {
			return fmt.Errorf("expected absolute URIs or *, not %s", resource)
		}
	}
	if len(c.Introspects) > 0 && c.public() {
		return errors.New("expected with a secret or keys only: a public client cannot authenticate")
	}
	return nil
}

func (c *Client) checkEndsSessions(issuer *Issuer) error {
	switch {
	case c.EndsSessions && issuer.OpenID == nil:
		return errors.New("expected openid at the issuer: only that has sessions")
	case c.EndsSessions && c.public():
		return errors.New("expected with a secret or keys only: a public client cannot authenticate")
	}
	return nil
}

func (c *Client) checkPKCE() error {
	if c.PKCE == "optional" && c.public() {
		return errors.New("expected required: a client with neither a secret nor keys must use PKCE (RFC 9700 section 2.1.1)")
	}
	return checkChoice(c.PKCE, "required", "optional")
}

func (c *Client) checkSigned() error {
	if c.RequireSigned && !c.hasKeys() {
		return errors.New("expected with jwks or jwks_uri only: the client signs with a key")
	}
	return nil
}

// checkGrants finds grant types that do not exist, or that the client cannot use as it is configured.
func (c *Client) checkGrants(known []string) error {
	types := c.grantTypes()
	for _, t := range types {
		if !slices.Contains(known, t) && t == grants.JWTBearerType {
			return directive.At("grant_types", errors.New("jwt_bearer needs the setting grant jwt_bearer at the issuer, with the issuers that it trusts"))
		}
		if !slices.Contains(known, t) {
			return directive.At("grant_types", fmt.Errorf("expected some of %s, not %s%s", strings.Join(known, ", "), t, directive.DidYouMean(t, known)))
		}
	}
	code := slices.Contains(types, "authorization_code")
	switch {
	case slices.Contains(types, "client_credentials") && c.public():
		return directive.At("grant_types", errors.New("client_credentials needs a client with secret, secret_hash, jwks, jwks_uri or a certificate (RFC 6749 section 4.4)"))
	case slices.Contains(types, grants.JWTBearerType) && c.public():
		return directive.At("grant_types", errors.New("jwt_bearer needs a client that authenticates: an assertion must be of no use to whoever steals it"))
	case code && len(c.RedirectURIs) == 0:
		return errors.New("expected redirect_uris, which authorization_code needs; a script needs a secret or keys, and no redirect_uris")
	case !code && len(c.RedirectURIs) > 0:
		return directive.At("redirect_uris", errors.New("expected authorization_code among the grant_types, which these are for"))
	}
	return nil
}

func (c *Client) public() bool {
	return len(c.Secrets) == 0 && len(c.SecretHashes) == 0 && !c.hasKeys() && !c.hasCertificate()
}

func (c *Client) grantTypes() []string {
	switch {
	case len(c.GrantTypes) > 0:
		return longNames(c.GrantTypes)
	case len(c.RedirectURIs) > 0:
		return []string{"authorization_code", "refresh_token"}
	case len(c.Introspects) > 0, c.EndsSessions, c.RevokesUsers != nil:
		return nil // a resource server, the site, or an identity provider
	case c.public():
		return []string{"authorization_code"} // which needs redirect URIs
	}
	return []string{"client_credentials"}
}

// shortNames are the grant types whose names in requests are long.
var shortNames = map[string]string{
	"device_code": grants.DeviceCodeType, "token_exchange": grants.TokenExchangeType, "jwt_bearer": grants.JWTBearerType,
}

// longNames returns grant types by the names that requests have.
func longNames(types []string) []string {
	long := slices.Clone(types)
	for i, name := range long {
		if urn, ok := shortNames[name]; ok {
			long[i] = urn
		}
	}
	return long
}

// client returns the client for the server, with the defaults that the issuer sets.
func (c *Client) client(id string, issuer *Issuer) *storage.Client {
	client := &storage.Client{
		ID:                  id,
		Name:                cmp.Or(c.Name, id),
		SecretHashes:        slices.Clone(c.SecretHashes),
		JWKS:                c.JWKS,
		JWKSURI:             c.JWKSURI,
		RedirectURIs:        c.RedirectURIs,
		GrantTypes:          c.grantTypes(),
		Scopes:              c.Scopes,
		Audience:            c.Audience,
		OwnAudience:         len(c.Audience) > 0,
		Introspects:         c.Introspects,
		Exchanges:           c.exchangeRules(),
		EndsSessions:        c.EndsSessions,
		RevokesUsers:        c.RevokesUsers.identifiers(),
		Consent:             cmp.Or(c.Consent, issuer.Consent),
		ConsentLifetimes:    consentLifetimes(c.ConsentLifetime, issuer.ConsentLifetime),
		CodeLifetime:        issuer.Code.lifetime(),
		RequirePKCE:         c.PKCE == "required",
		RequireDPoP:         c.DPoPBoundAccessTokens,
		Certificate:         c.certificate(),
		BindToCertificate:   c.TLSClientCertificateBoundAccessTokens,
		OmitIssuer:          c.Iss == "off",
		RequirePushed:       c.RequirePushed,
		RequireSigned:       c.RequireSigned,
		RequestAlgorithm:    c.RequestAlgorithm,
		RedirectRules:       redirectRules(c.RedirectURIRules, issuer.RedirectURIRules),
		AccessTokenLifetime: c.AccessToken.lifetime().or(issuer.AccessToken.lifetime().duration()).duration(),
		RefreshToken:        refreshPolicy(c.public(), c.RefreshToken, c.profileRefresh(), issuer.RefreshToken),
		DropUnknownScopes:   issuer.UnknownScopes == "drop",
		OpenID:              c.openID(issuer),
	}
	if c.SelfSignedTLSClientAuth != nil { // the keys are those of its certificates
		client.AuthMethods = []string{storage.MethodSelfSigned}
		if len(c.Secrets)+len(c.SecretHashes) > 0 {
			client.AuthMethods = append(client.AuthMethods, storage.MethodBasic, storage.MethodPost)
		}
	}
	if issuer.Code != nil {
		client.CodePrefix = issuer.Code.Prefix
	}
	if c.Profile == profileFAPI2 {
		clients.HoldToFAPI(client)
	}
	for _, secret := range c.Secrets {
		client.SecretHashes = append(client.SecretHashes, clients.HashSecret(secret))
	}
	if len(client.Audience) == 0 {
		client.Audience = issuer.Audience
	}
	if len(client.Audience) == 0 {
		client.Audience = []string{issuer.URL}
	}
	return client
}

// resolver returns a function that makes a client of the settings of a client that was added at run time. The settings are
// checked like those of the configuration, and the current settings of the issuer are the defaults. The server keeps keys and
// revocations for access tokens of up to the longest lifetime, so no token may live longer.
func (i *Issuer) resolver(longest time.Duration, algs fileAlgorithms) clients.Resolver {
	return func(r *storage.AddedClient, hashes []string) (*storage.Client, error) {
		c, err := decodeClient(r.Settings)
		if err != nil {
			return nil, err
		}
		c.SecretHashes = hashes
		if err := c.check(r.ID, i); err != nil {
			return nil, err
		}
		client := c.client(r.ID, i)
		client.DropUnknownScopes = i.UnknownScopes != "refuse"
		if client.AccessTokenLifetime > longest {
			return nil, directive.At("access_token", directive.At("lifetime", fmt.Errorf("expected at most %s, the longest of the configuration", longest)))
		}
		if err := cmp.Or(algs.checkOpenID(client.OpenID), algs.checkProfile(client, i)); err != nil {
			return nil, err
		}
		return client, nil
	}
}

// decodeClient reads the settings of a client that was added at run time.
func decodeClient(settings json.RawMessage) (*Client, error) {
	c := new(Client)
	if err := caddy.StrictUnmarshalJSON(settings, c); err != nil {
		return nil, fmt.Errorf("expected JSON: %w", err)
	}
	if len(c.Secrets)+len(c.SecretHashes) > 0 {
		return nil, errors.New("expected no secrets among the settings: the store keeps them apart")
	}
	if c.JWKSFile != "" {
		return nil, directive.At("jwks_file", errors.New("expected none: only a client of the configuration can have a file; jwks has the keys themselves"))
	}
	if c.SelfSignedTLSClientAuth != nil && len(c.SelfSignedTLSClientAuth.Files) > 0 {
		return nil, directive.At("self_signed_tls_client_auth", errors.New("expected no files: only a client of the configuration can have some; x5c in jwks has the certificates themselves"))
	}
	if c.Logo != "" {
		return nil, directive.At("logo", errors.New("expected none: only a client of the configuration can have a file"))
	}
	// The checks skip values with placeholders, which only a configuration can have.
	for setting, values := range map[string][]string{
		"jwks_uri": {c.JWKSURI}, "redirect_uris": c.RedirectURIs, "audience": c.Audience, "introspects": c.Introspects,
		"post_logout_redirect_uris": c.PostLogoutRedirectURIs, "backchannel_logout_uri": {c.BackchannelLogoutURI},
		"sector_identifier_uri": {c.SectorIdentifierURI},
		"exchange":              c.exchangeResources(),
		"revokes_users":         c.RevokesUsers.issuers(),
		"tls_client_auth": {
			c.TLSClientAuthSubjectDN, c.TLSClientAuthSANDNS, c.TLSClientAuthSANURI, c.TLSClientAuthSANIP, c.TLSClientAuthSANEmail,
		},
	} {
		for _, value := range values {
			if unresolved(value) {
				return nil, directive.At(setting, fmt.Errorf("expected a value without braces, not %s", value))
			}
		}
	}
	return c, nil
}
