package caddyoauth

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Issuer is an authorization server: an issuer URL with its clients, keys and rules.
type Issuer struct {
	// The issuer's URL, as clients and resource servers know it: https, without query and fragment;
	// http is for loopback hosts only. It stands in every token. It is never taken from a request.
	URL string `json:"url"`

	// The scopes that clients may ask for, in the order in which people are shown them.
	Scopes []Scope `json:"scopes,omitempty"`

	// The resources (RFC 8707) that clients may ask tokens for, and the audience of tokens when they
	// ask for none. Default: the issuer's URL. A client can have its own.
	Audience []string `json:"audience,omitempty"`

	// The clients, by client ID.
	Clients map[string]*Client `json:"clients,omitempty"`

	// When people are asked for consent, unless the client says otherwise: `once` asks again only when
	// scopes or audience grow, `always` each time, `never` not at all, which is for your own clients.
	// Default: `once` for clients with a secret or an https redirect, `always` for the others, as any
	// program on the person's device could pose as these.
	Consent storage.ConsentMode `json:"consent,omitempty"`

	// A file with your own consent page, an html/template. Default: the built-in page.
	ConsentPage string `json:"consent_page,omitempty"`

	// How authorization codes live.
	Code *CodeSettings `json:"code,omitempty"`

	// How access tokens live.
	AccessToken *AccessTokenSettings `json:"access_token,omitempty"`

	// How refresh tokens live.
	RefreshToken *RefreshTokenSettings `json:"refresh_token,omitempty"`

	// Where the endpoints are on the issuer's host. Default: `/oauth/authorize`, `/oauth/token`, `/oauth/jwks`,
	// `/oauth/introspect`, `/oauth/revoke` and `/oauth/apps` below the path of the issuer's URL.
	Endpoints *Endpoints `json:"endpoints,omitempty"`

	// How often this node looks for what other nodes have revoked. What it revokes itself holds at once.
	// Default: 5 seconds.
	RevocationPoll caddy.Duration `json:"revocation_poll,omitempty"`

	// How often something can be wrong before the answer is 429: secrets, passwords, codes, tokens.
	Throttle *ThrottleSettings `json:"throttle,omitempty"`

	// The keys that sign tokens.
	Signing *Signing `json:"signing,omitempty"`

	// Further grant types. `authorization_code`, `refresh_token` and `client_credentials` are always
	// there; which of them a client may use is said at the client.
	GrantsRaw caddy.ModuleMap `json:"grants,omitempty" caddy:"namespace=oauth.grants"`

	WireSettings

	// Refuses whatever would write to the store: such requests get 503 with Retry-After, and all others are answered.
	// It is for moving the records to another store. Default: off.
	ReadOnly bool `json:"read_only,omitempty"`

	// Where records are kept: codes and refresh tokens, consents, keys. Default: `caddy`, which is
	// Caddy's own storage.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=oauth.stores inline_key=store"`

	// How records are encrypted in the store. Default: they are not; tokens, codes and secrets are hashes in any case.
	Encryption *EncryptionSettings `json:"encryption,omitempty"`
}

// Scope is a permission that clients can ask for.
type Scope struct {
	// The scope as it stands in requests and tokens.
	Name string `json:"name"`

	// What it lets a client do, in words for the consent page, such as "your orders".
	Description string `json:"description,omitempty"`
}

// resolve replaces placeholders and fills in what is not set.
func (i *Issuer) resolve(repl *caddy.Replacer) error {
	if err := replace(repl, &i.URL); err != nil {
		return err
	}
	if unresolved(i.URL) {
		return fmt.Errorf("expected a URL without braces, not %s", i.URL)
	}
	if err := replace(repl, &i.ConsentPage); err != nil {
		return directive.At("consent_page", err)
	}
	if err := i.Signing.resolve(repl); err != nil {
		return directive.At("signing", err)
	}
	if err := i.Encryption.resolve(repl); err != nil {
		return directive.At("encryption_key", err)
	}
	if err := replaceAll(repl, i.Audience); err != nil {
		return directive.At("audience", err)
	}
	for id, c := range i.Clients {
		if c == nil {
			c = new(Client)
			i.Clients[id] = c
		}
		if err := c.resolve(repl); err != nil {
			return directive.At("client "+id, err)
		}
	}
	return nil
}

// replace replaces the placeholders in a value. A placeholder that is unknown or empty is an error.
func replace(repl *caddy.Replacer, value *string) error {
	replaced, err := repl.ReplaceOrErr(*value, true, true)
	if err == nil {
		*value = replaced
	}
	return err
}

// replaceAll replaces the placeholders in values, which may have no braces afterwards.
func replaceAll(repl *caddy.Replacer, values []string) error {
	for n := range values {
		if err := replace(repl, &values[n]); err != nil {
			return err
		}
		if unresolved(values[n]) {
			return fmt.Errorf("expected a value without braces, not %s", values[n])
		}
	}
	return nil
}

// check finds impossible settings.
func (i *Issuer) check() error {
	err := cmp.Or(
		checkIssuerURL(i.URL),
		checkScopes(i.Scopes),
		directive.At("audience", checkAudience(i.Audience)),
		directive.At("consent", checkConsent(i.Consent)),
		directive.At("code", i.Code.check()),
		directive.At("access_token", i.AccessToken.check()),
		directive.At("refresh_token", i.RefreshToken.check()),
		i.Endpoints.check(i.URL),
		directive.At("revocation_poll", checkRevocationPoll(i.RevocationPoll)),
		directive.At("throttle", i.Throttle.check()),
		directive.At("signing", i.Signing.check()),
		directive.At("encryption_key", i.Encryption.check()),
		i.WireSettings.check(i.grantTypes()),
	)
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(i.Clients)) {
		if err := i.Clients[id].check(id, i); err != nil {
			return directive.At("client "+id, err)
		}
	}
	return nil
}

// endpointURLs returns the URLs that no other issuer can have, if they are known.
func (i *Issuer) endpointURLs() []string {
	u, err := url.Parse(i.URL)
	if err != nil || unresolved(i.URL) {
		return nil
	}
	origin := u.Scheme + "://" + u.Host
	paths := pathsByName(i.Endpoints.paths(u))
	var urls []string
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		urls = append(urls, origin+paths[name])
	}
	return urls
}

// open makes the server of a checked issuer.
func (i *Issuer) open(
	ctx caddy.Context, name string, common *shared, o *observer, log *zap.Logger,
) (*authserver.Server, error) {
	issuer, err := url.Parse(i.URL)
	if err != nil {
		return nil, err
	}
	config := authserver.Config{
		Name:    name,
		URL:     i.URL,
		Paths:   i.Endpoints.paths(issuer),
		Clients: make(map[string]*storage.Client, len(i.Clients)),
		Secrets: secretHashes,
		Wire:    i.wire(),

		AccessToken: i.accessToken(),

		Throttle:    common.throttle,
		Revocations: common.revocations,
		Limits:      i.Throttle.limits(),
		Observe:     o.observe,

		Generations: common.servers,
		ReadOnly:    i.ReadOnly,

		RevocationPoll: time.Duration(i.RevocationPoll),
		Logger:         log,
		Audit:          log.Named("audit"),
		Registry:       ctx.GetMetricsRegistry(),
	}
	for _, scope := range i.Scopes {
		config.Scopes = append(config.Scopes, authserver.Scope(scope))
	}
	longest := i.AccessToken.lifetime().duration()
	for id, c := range i.Clients {
		client := c.client(id, i)
		config.Clients[id] = client
		longest = max(longest, client.AccessTokenLifetime)
	}
	config.Resolve = i.resolver(longest)
	if config.Keys, err = i.Signing.policy(longest); err != nil {
		return nil, directive.At("signing", directive.At("jwks_file", err))
	}
	if config.ConsentTemplate, err = readFile(i.ConsentPage); err != nil {
		return nil, directive.At("consent_page", err)
	}
	if config.Grants, err = i.loadGrants(ctx); err != nil {
		return nil, err
	}
	if config.Store, err = i.openStore(ctx, name); err != nil {
		return nil, err
	}
	return authserver.New(config)
}

// loadGrants returns the grant types of the issuer.
func (i *Issuer) loadGrants(ctx caddy.Context) ([]grants.Grant, error) {
	all := builtinGrants()
	modules, err := ctx.LoadModule(i, "GrantsRaw")
	if err != nil {
		return nil, err
	}
	for _, module := range modules.(map[string]any) {
		all = append(all, module.(grants.Grant))
	}
	return all, nil
}

func builtinGrants() []grants.Grant {
	return []grants.Grant{grants.AuthorizationCode{}, grants.RefreshToken{}, grants.ClientCredentials{}}
}

// grantTypes returns the grant types that clients of the issuer can be given.
func (i *Issuer) grantTypes() []string {
	var types []string
	for _, g := range builtinGrants() {
		types = append(types, g.Type())
	}
	for _, name := range slices.Sorted(maps.Keys(i.GrantsRaw)) {
		if info, err := caddy.GetModule("oauth.grants." + name); err == nil {
			if g, ok := info.New().(grants.Grant); ok {
				types = append(types, g.Type())
			}
		}
	}
	return types
}

// openStore returns the issuer's store.
func (i *Issuer) openStore(ctx caddy.Context, name string) (storage.Store, error) {
	if i.StoreRaw == nil {
		i.StoreRaw = json.RawMessage(`{"store": "caddy"}`)
	}
	module, err := ctx.LoadModule(i, "StoreRaw")
	if err != nil {
		return nil, err
	}
	store, err := module.(storage.Opener).Open(name)
	if err != nil || i.Encryption == nil {
		return store, err
	}
	keys, err := storage.NewKeyring(i.Encryption.Keys, i.Encryption.Off)
	if err != nil {
		return nil, directive.At("encryption_key", err)
	}
	return storage.Encrypted(store, name, keys), nil
}

func readFile(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	b, err := os.ReadFile(name) //nolint:gosec // G304: the owner of the site names it
	return string(b), err
}

// secretHashes are Caddy's own password hashes, by the prefixes of their encoded forms.
var secretHashes = clients.Secrets{
	"$2a$":       caddyauth.BcryptHash{},
	"$2b$":       caddyauth.BcryptHash{},
	"$2y$":       caddyauth.BcryptHash{},
	"$argon2id$": caddyauth.Argon2idHash{},
}
