package caddyoauth

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/events"
	"github.com/caddy-oauth/caddy-oauth/internal/pages"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Issuer is an authorization server: an issuer URL with its clients, keys and rules.
type Issuer struct {
	// The issuer's URL, exactly as clients and resource servers know it: https, without query and fragment. Only a loopback
	// host may have http. Every token contains it. It is never taken from a request.
	URL string `json:"url"`

	// The scopes that clients may ask for, in the order in which the consent page shows them.
	Scopes []Scope `json:"scopes,omitempty"`

	// What becomes of a request that names scopes which the client may not have. `refuse`: the answer is `invalid_scope`. `drop`:
	// these scopes are left out; if none remains, the client gets its default scopes. Default: `refuse` for clients of the
	// configuration, and `drop` for clients that were added at run time, since many apps ask every server for the same scopes.
	UnknownScopes string `json:"unknown_scopes,omitempty"`

	// The resources (RFC 8707) that clients may ask tokens for. A request may spell them with upper case in scheme and host, with
	// the default port, and with a slash at the end; tokens have the spelling of this setting. A client that asks for none gets tokens for
	// all of them. A client can have its own. Default: the issuer's URL.
	Audience []string `json:"audience,omitempty"`

	// The clients, by client ID.
	Clients map[string]*Client `json:"clients,omitempty"`

	// Whether AI agents, and other clients of the Model Context Protocol, can connect without being configured: clients describe
	// themselves at their own URL, see `cimd`, or register themselves, see `dynamic`. A person decides about each on the
	// consent page. Default: false.
	MCP bool `json:"mcp,omitempty"`

	// The clients whose ID is the URL of a document that describes them. Default: with `mcp`, all; without, none.
	CIMD *CIMDSettings `json:"cimd,omitempty"`

	// Whether clients can register themselves. Default: with `mcp`, they can; without, they cannot.
	Dynamic *DynamicSettings `json:"dynamic,omitempty"`

	// OpenID Connect: whether clients can sign people in with the accounts of the site. A client may do so if `openid` is among its
	// scopes. Default: they cannot.
	OpenID *OpenIDSettings `json:"openid,omitempty"`

	// The audience that a client must name in a JWT by which it authenticates. `issuer`: the issuer's URL alone, as the latest
	// rules have it (draft-ietf-oauth-rfc7523bis); many clients name the token endpoint. `any`: the issuer's URL or the URL of the
	// token endpoint, or both. Default: `any`.
	ClientAssertionAudience string `json:"client_assertion_audience,omitempty"`

	// The proofs by which clients bind their tokens to a key (DPoP, RFC 9449). Any client may send them.
	DPoP *DPoPSettings `json:"dpop,omitempty"`

	// Whether all clients must push their authorization requests (RFC 9126): they send them to the server first, and a browser brings only
	// a reference, so that nobody can read or change them on the way. Default: false, clients can.
	RequirePushed bool `json:"require_pushed_authorization_requests,omitempty"`

	// Whether all clients must sign their authorization requests (RFC 9101), so that nobody can change them on the way. Clients without
	// keys cannot. Default: false, clients with keys can.
	RequireSigned bool `json:"require_signed_request_object,omitempty"`

	MutualTLSSettings

	// When people are asked for consent. A client can have its own setting. `once`: the first time, and again if the client
	// asks for more scopes or another audience. `always`: each time. `never`: not at all, which is for your own clients.
	// Default: `once` for clients with a secret or an https redirect URI, and `always` for the others, since any program on
	// the person's device can pose as such a client.
	Consent storage.ConsentMode `json:"consent,omitempty"`

	// How long people can let a client have access: durations of whole minutes, such as `7d`, and `never`, which means until they take
	// it back. The consent page offers them, and the first is chosen beforehand; if there is only one, the page just says so. After
	// that time all tokens have expired, and the person is asked again. A client can have its own setting. Clients that need no
	// consent, and grants without a page such as `password`, have no such end. Default: `never`.
	ConsentLifetime []Lifetime `json:"consent_lifetime,omitempty"`

	// The look and the language of the pages that people see.
	Page *PageSettings `json:"page,omitempty"`

	// The lifetime and the form of authorization codes.
	Code *CodeSettings `json:"code,omitempty"`

	// The lifetime and the form of access tokens.
	AccessToken *AccessTokenSettings `json:"access_token,omitempty"`

	// The lifetime, the form and the rotation of refresh tokens.
	RefreshToken *RefreshTokenSettings `json:"refresh_token,omitempty"`

	// Whether the site is asked, when tokens are refreshed, if the user still has an account. Default: it is not asked, and a
	// user whose account is closed can use apps until you revoke the user's tokens or the lifetime of the refresh tokens ends.
	RefreshCheck *grants.RefreshCheck `json:"refresh_check,omitempty"`

	// The paths of the endpoints on the issuer's host. Default: `/oauth/authorize`, `/oauth/token`, `/oauth/jwks`,
	// `/oauth/introspect`, `/oauth/revoke`, `/oauth/revoke_user`, `/oauth/apps`, `/oauth/register`, `/oauth/userinfo`, `/oauth/device_authorization`,
	// `/oauth/device`, `/oauth/logout`, `/oauth/sessions` and `/oauth/par`, below the path of the issuer's URL.
	Endpoints *Endpoints `json:"endpoints,omitempty"`

	// How often this node reads what other nodes have revoked. Its own revocations take effect at once. Default: 5 seconds.
	RevocationPoll caddy.Duration `json:"revocation_poll,omitempty"`

	// How often secrets, passwords, codes and tokens can be wrong before the answer is 429.
	Throttle *ThrottleSettings `json:"throttle,omitempty"`

	// The keys that sign tokens.
	Signing *Signing `json:"signing,omitempty"`

	// Grant types beside `authorization_code`, `refresh_token`, `client_credentials`, `device_code` and `token_exchange`, which are
	// built in. A client may use those that its own settings name.
	GrantsRaw caddy.ModuleMap `json:"grants,omitempty" caddy:"namespace=oauth.grants"`

	WireSettings

	// Whether to refuse all requests that would write to the store, with 503 and Retry-After. All others are answered. Use it
	// while the records move to another store. Default: off.
	ReadOnly bool `json:"read_only,omitempty"`

	// The store of the records: codes, refresh tokens, consents, keys and others. Default: `caddy`, which is Caddy's own
	// storage.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=oauth.stores inline_key=store"`

	// The encryption of the records in the store. Default: none. Tokens, codes and secrets are stored as hashes in any case.
	Encryption *EncryptionSettings `json:"encryption,omitempty"`

	loaded []grants.Grant // nil until the modules are loaded, which empties GrantsRaw
}

// Scope is a permission that clients can ask for.
type Scope struct {
	// The scope in requests and tokens.
	Name string `json:"name"`

	// What it lets a client do, for the consent page, such as "see your orders". Without it, the page shows the name.
	Description string `json:"description,omitempty"`

	// The claims that only tokens with this scope have, such as `groups`. Several scopes can name a claim; any of them gives it.
	// Default: none, and with `openid`, for `profile`, `email`, `address` and `phone`, the claims that OpenID Connect Core section
	// 5.4 names. Tokens have all claims that no scope names.
	Claims []string `json:"claims,omitempty"`

	// The description in other languages, by their tag (BCP 47), such as `de`. The pages must have the language.
	Languages map[string]string `json:"languages,omitempty"`

	// Whether only clients that you add may ask for it, and not those that describe themselves, see `dynamic`. Default: false.
	Private bool `json:"private,omitempty"`
}

// resolve replaces placeholders.
func (i *Issuer) resolve(repl *caddy.Replacer) error {
	if err := replace(repl, &i.URL); err != nil {
		return err
	}
	if unresolved(i.URL) {
		return fmt.Errorf("expected a URL without braces, not %s", i.URL)
	}
	if err := i.Page.resolve(repl); err != nil {
		return directive.At("page", err)
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
	if err := i.OpenID.resolve(repl); err != nil {
		return directive.At("openid", err)
	}
	if err := i.MutualTLSSettings.resolve(repl); err != nil {
		return err
	}
	if err := i.Dynamic.resolve(repl); err != nil {
		return directive.At("dynamic", err)
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

// check finds impossible settings.
func (i *Issuer) check() error {
	err := cmp.Or(
		checkIssuerURL(i.URL),
		directive.At("page", i.Page.check()),
		i.checkScopes(),
		directive.At("unknown_scopes", checkChoice(i.UnknownScopes, "refuse", "drop")),
		directive.At("audience", checkAudience(i.Audience)),
		directive.At("cimd", i.CIMD.check()),
		directive.At("dynamic", i.Dynamic.check()),
		directive.At("openid", i.OpenID.check()),
		directive.At("client_assertion_audience", checkChoice(i.ClientAssertionAudience, "issuer", "any")),
		directive.At("dpop", i.DPoP.check()),
		directive.At("consent", checkConsent(i.Consent)),
		directive.At("consent_lifetime", checkConsentLifetime(i.ConsentLifetime, i.Consent)),
		directive.At("code", i.Code.check()),
		directive.At("access_token", i.AccessToken.check()),
		directive.At("refresh_token", i.RefreshToken.check()),
		directive.At("refresh_check", i.checkRefreshCheck()),
		i.Endpoints.check(i.URL),
		directive.At("revocation_poll", checkRevocationPoll(i.RevocationPoll)),
		directive.At("throttle", i.Throttle.check()),
		directive.At("signing", i.Signing.check()),
		directive.At("encryption_key", i.Encryption.check()),
		i.WireSettings.check(i.grantTypes()),
		i.MutualTLSSettings.check(),
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

// scopeNames returns the scopes that clients can ask for.
func (i *Issuer) scopeNames() []string {
	names := make([]string, 0, len(i.Scopes))
	for _, s := range i.Scopes {
		names = append(names, s.Name)
	}
	if i.OpenID == nil {
		return names
	}
	for _, name := range grants.OpenIDScopes {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func (i *Issuer) checkScopes() error {
	seen := make(map[string]bool)
	for _, s := range i.Scopes {
		switch {
		case !grants.ValidScope(s.Name):
			return directive.At("scope "+s.Name, errors.New("expected a name of printable ASCII without spaces, quotes and backslashes"))
		case seen[s.Name]:
			return directive.At("scope "+s.Name, errors.New("duplicate scope"))
		}
		seen[s.Name] = true
		if err := checkClaimNames(s.Claims); err != nil {
			return directive.At("scope "+s.Name, directive.At("claims", err))
		}
		for _, tag := range slices.Sorted(maps.Keys(s.Languages)) {
			if err := pages.CheckLanguage(tag, i.Page.languages()); err != nil {
				return directive.At("scope "+s.Name, directive.At(tag, err))
			}
		}
	}
	return nil
}

func (i *Issuer) checkRefreshCheck() error {
	if i.RefreshCheck == nil {
		return nil
	}
	for _, name := range i.RefreshCheck.Claims {
		if slices.Contains(authserver.ReservedClaims, name) {
			return directive.At("claims", fmt.Errorf("expected other names; %s is the server's own claim", name))
		}
	}
	return i.RefreshCheck.Check()
}

// endpointURLs returns the URLs of the endpoints, which no other issuer may have. It returns none if the issuer URL has a
// placeholder.
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
		if alias := i.MTLSEndpointAliases; alias != "" && alias != origin {
			urls = append(urls, alias+paths[name])
		}
	}
	return urls
}

// open returns the server of an issuer whose settings were checked.
func (i *Issuer) open(
	ctx caddy.Context, name string, common *authserver.ProcessState, emitter *events.Emitter, log *zap.Logger,
) (*authserver.Server, error) {
	issuer, err := url.Parse(i.URL)
	if err != nil {
		return nil, err
	}
	config := authserver.Config{
		Identity: authserver.Identity{
			Name: name, URL: i.URL, MTLSAlias: i.MTLSEndpointAliases, Paths: i.Endpoints.paths(issuer), AccessToken: i.AccessToken.shape(), Wire: i.wire(),
			OpenID: i.OpenID != nil, LogoutEndsAll: i.OpenID != nil && i.OpenID.LogoutEnds == "all",
		},
		ClientConfig: authserver.ClientConfig{
			Clients: make(map[string]*storage.Client, len(i.Clients)), Secrets: secretHashes,
			AssertionForIssuer: i.ClientAssertionAudience == "issuer", DPoPNonce: i.DPoP.nonce(),
			RequirePushed: i.RequirePushed, RequireSigned: i.RequireSigned,
			TellEnds: len(consentLifetimes(i.ConsentLifetime)) > 0 || i.TokenResponse.namesEnds(),
		},
		Persistence:  authserver.Persistence{ReadOnly: i.ReadOnly, RevocationPoll: time.Duration(i.RevocationPoll)},
		ProcessState: *common,
		Observers: authserver.Observers{
			Logger: log, Audit: log.Named("audit"), Registry: ctx.GetMetricsRegistry(), Observe: emitter.Observe,
		},
		Limits: i.Throttle.limits(),
	}
	for _, scope := range i.Scopes {
		config.Scopes = append(config.Scopes, authserver.Scope{
			Name: scope.Name, Description: scope.Description, Languages: scope.Languages, Claims: scope.Claims,
		})
	}
	longest := i.AccessToken.lifetime().duration()
	for id, c := range i.Clients {
		client, err := c.configured(id, i)
		if err != nil {
			return nil, directive.At("client "+id, err)
		}
		config.Clients[id] = client
		longest = max(longest, client.AccessTokenLifetime)
	}
	used := i.algorithms(&config)
	if i.OpenID != nil {
		config.PairwiseSalt = i.OpenID.PairwiseSalt
	}
	config.Documents = i.documents(name, issuer, common.Fetcher, log)
	config.Registration = i.registration(issuer, common.Fetcher)
	config.DescribedRefreshPrefix = refreshPolicy(true, i.RefreshToken).Prefix
	if config.Keys, err = i.Signing.policy(longest); err != nil {
		return nil, directive.At("signing", directive.At("jwks_file", err))
	}
	algs := algorithmsOf(config.Keys)
	for _, id := range slices.Sorted(maps.Keys(config.Clients)) {
		if err := algs.checkProfile(config.Clients[id], i); err != nil {
			return nil, directive.At("client "+id, err)
		}
	}
	if i.OpenID != nil && i.OpenID.Dynamic {
		if err := algs.check(i.OpenID.algorithm()); err != nil {
			return nil, directive.At("openid", directive.At("id_token_signed_response_alg", err))
		}
	}
	config.Keys.Further, config.Keys.Kept = used, slices.Concat(config.IDTokenAlgorithms, config.UserinfoAlgorithms)
	config.Resolve = i.resolver(longest, algs)
	if i.AccessToken != nil && i.AccessToken.Type == "JWT" {
		config.Keys.Type = "JWT"
	}
	if config.Pages, err = i.pages(); err != nil {
		return nil, err
	}
	if config.Grants, err = i.loadGrants(ctx); err != nil {
		return nil, err
	}
	if i.RefreshCheck != nil {
		i.RefreshCheck.Provision()
		config.Accounts = i.RefreshCheck
	}
	if config.Store, err = i.openStore(ctx, name); err != nil {
		return nil, err
	}
	return authserver.New(config)
}

// pages reads the files of the pages, and the logos of the clients.
func (i *Issuer) pages() (pages.Config, error) {
	config, err := i.Page.read()
	if err != nil {
		return config, directive.At("page", err)
	}
	config.AppLogos = make(map[string][]byte)
	for id, c := range i.Clients {
		if c.Logo == "" {
			continue
		}
		if config.AppLogos[id], err = readImage(c.Logo); err != nil {
			return config, directive.At("client "+id, directive.At("logo", err))
		}
	}
	return config, nil
}

// loadGrants returns the grant types of the issuer.
func (i *Issuer) loadGrants(ctx caddy.Context) ([]grants.Grant, error) {
	all := builtinGrants()
	modules, err := ctx.LoadModule(i, "GrantsRaw")
	if err != nil {
		return nil, err
	}
	for name, module := range modules.(map[string]any) {
		all = append(all, module.(grants.Grant))
		if g, ok := module.(*grants.JWTBearer); ok {
			if err := i.checkTrusted(g); err != nil {
				return nil, directive.At("grant "+name, err)
			}
		}
	}
	i.loaded = all
	return all, nil
}

func builtinGrants() []grants.Grant {
	return []grants.Grant{
		grants.AuthorizationCode{}, grants.RefreshToken{}, grants.ClientCredentials{}, new(grants.DeviceCode), grants.TokenExchange{},
	}
}

// grantTypes returns the grant types that the settings of a client may name, before the modules are loaded and after.
func (i *Issuer) grantTypes() []string {
	known := i.loaded
	if known == nil {
		known = builtinGrants()
	}
	var types []string
	for _, g := range known {
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
	keys, err := storage.NewEncryptionKeys(i.Encryption.Keys, i.Encryption.Off)
	if err != nil {
		return nil, directive.At("encryption_key", err)
	}
	return storage.Encrypted(store, name, keys), nil
}
