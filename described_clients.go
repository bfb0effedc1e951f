package caddyoauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/cimd"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/fetch"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/registration"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// This file has the clients that describe themselves: those that register (dynamic), and those whose ID is the URL of a document
// (cimd). Both get what Issuer.described gives them.

// DynamicSettings are about clients that register themselves (RFC 7591), as AI agents and their tools do. Such a client gets
// `authorization_code` and `refresh_token` alone, must use PKCE, and may ask for every scope that is not private. Each person decides
// about it on the consent page.
type DynamicSettings struct {
	// `open`: everybody can register a client. `token`: whoever has one of the tokens below can. `off`: nobody can. Default:
	// `open`.
	Mode string `json:"mode,omitempty"`

	// The initial access tokens (RFC 7591 section 3), any of which lets somebody register clients. Only with the mode `token`. Take a
	// token out of the list to end it; the clients that were registered with it stay.
	Tokens []InitialToken `json:"tokens,omitempty"`

	// Which redirect URIs a client may have. `any`: https on every host, http on the person's own device, and an app's own
	// scheme; the consent page says where the person goes next. `known`: those of Claude, ChatGPT, VS Code and Cursor, and http on
	// the person's own device. Default: `any`.
	Redirects string `json:"redirects,omitempty"`

	// How many registrations are kept. Beyond that, the server deletes registrations that were never used, and then those whose
	// tokens have expired, the oldest first. If all have valid tokens, nobody can register. Default: 1000.
	Max int `json:"max,omitempty"`

	// How long a registration is kept after its last token has expired. After that, its client has to register again. A registration
	// that was never used is deleted after a day. Default: 90 days.
	Unused Lifetime `json:"unused,omitempty"`

	// When people are asked for consent. `always`: each time. `once`: the first time, and again if the client asks for more or
	// sends them elsewhere. Default: `always`. **Danger:** what a client says about itself is not checked, so that with `once`
	// somebody else can pose as a client that a person has approved before.
	Consent storage.ConsentMode `json:"consent,omitempty"`
}

// InitialToken is a token that lets somebody register clients (RFC 7591 section 3).
type InitialToken struct {
	// The token in clear, as a placeholder such as `{env.REGISTRATION_TOKEN}`, or as `sha256:` and 64 hex digits.
	Token string `json:"token"`

	// How many clients can register with it, on all machines together: at most 1000. A client that sends the same again, or
	// changes its registration, does not count, and one that is deleted still does. Default: any number.
	Uses int `json:"uses,omitempty"`

	// When it ends: a date such as `2027-01-01`, which is the midnight in UTC with which that day begins, or a time such as
	// `2027-01-01T12:00:00+01:00`. Clients that have registered stay. Default: never.
	Until string `json:"until,omitempty"`
}

// maxInitialUses bounds the record of the clients that have used a token.
const maxInitialUses = 1000

// end returns when the token ends, zero if it never does.
func (t *InitialToken) end() (time.Time, error) {
	if t.Until == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if end, err := time.Parse(layout, t.Until); err == nil {
			return end, nil
		}
	}
	return time.Time{}, fmt.Errorf("expected a date such as 2027-01-01, or a time such as 2027-01-01T12:00:00Z, not %s", t.Until)
}

var errNeverUnasked = errors.New("expected once or always, not never: people must decide about clients that nobody knows")

const (
	defaultMaxRegistrations = 1000
	defaultUnused           = 90 * 24 * time.Hour
)

// resolve replaces placeholders.
func (d *DynamicSettings) resolve(repl *caddy.Replacer) error {
	if d == nil {
		return nil
	}
	for n := range d.Tokens {
		if err := replace(repl, &d.Tokens[n].Token); err != nil {
			return directive.At("token", err)
		}
	}
	return nil
}

func (d *DynamicSettings) check() error {
	if d == nil {
		return nil
	}
	mode := cmp.Or(d.Mode, "open")
	switch {
	case mode == "token" && len(d.Tokens) == 0:
		return directive.At("token", errors.New("expected at least one initial access token"))
	case mode != "token" && len(d.Tokens) > 0:
		return directive.At("tokens", errors.New("expected with the mode token only"))
	case d.Max < 0:
		return directive.At("max", errors.New("expected a number from 1"))
	case d.Unused == Never, d.Unused != 0 && d.Unused < Lifetime(24*time.Hour):
		return directive.At("unused", errors.New("expected at least 24h"))
	case d.Consent == storage.ConsentNever:
		return directive.At("consent", errNeverUnasked)
	}
	return cmp.Or(
		checkChoice(mode, "open", "token", "off"),
		directive.At("token", checkInitialTokens(d.Tokens)),
		directive.At("redirects", checkChoice(d.Redirects, "any", "known")),
		directive.At("consent", checkChoice(string(d.Consent), "once", "always")),
	)
}

// minInitialToken is 128 bits in hex or in base64, about.
const minInitialToken = 20

func checkInitialTokens(tokens []InitialToken) error {
	seen := make(map[string]bool)
	for n := range tokens {
		if err := tokens[n].check(); err != nil {
			return err
		}
		hash := hashOfToken(tokens[n].Token)
		if seen[hash] {
			return errors.New("expected each token once")
		}
		seen[hash] = true
	}
	return nil
}

func (t *InitialToken) check() error {
	if err := checkSecrets([]string{t.Token}); err != nil {
		return err
	}
	_, err := t.end()
	switch token := t.Token; {
	case err != nil:
		return directive.At("until", err)
	case t.Uses < 0 || t.Uses > maxInitialUses:
		return directive.At("uses", fmt.Errorf("expected a number from 1 to %d", maxInitialUses))
	case unresolved(token):
	case strings.HasPrefix(token, "sha256:"):
		if !secretHashes.ValidHash(token) {
			return errors.New("expected sha256: and 64 hex digits in lower case")
		}
	case len(token) < minInitialToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Errorf("expected at least %d random characters, which are printable ASCII without spaces", minInitialToken)
	}
	return nil
}

// hideSecrets replaces tokens that stand in the configuration by their hashes.
func (d *DynamicSettings) hideSecrets() {
	if d == nil {
		return
	}
	for n, token := range d.Tokens {
		if !unresolved(token.Token) {
			d.Tokens[n].Token = hashOfToken(token.Token)
		}
	}
}

// hashOfToken returns the hash of a token, which may be a hash already.
func hashOfToken(token string) string {
	if strings.HasPrefix(token, "sha256:") {
		return token
	}
	return clients.HashSecret(token)
}

// on reports whether clients can register.
func (d *DynamicSettings) on() bool { return d != nil && d.Mode != "off" }

// CIMDSettings are about clients whose ID is the URL of a document on their website, in which they describe themselves (Client ID
// Metadata Document), as AI agents and their tools do. Such a client gets what one that registers itself gets. Nobody registers it:
// this server fetches the document when a person who is signed in comes with its URL.
type CIMDSettings struct {
	// Whether to refuse all such clients, although `mcp` is set. Default: false.
	Off bool `json:"off,omitempty"`

	// The hosts whose clients are accepted; `*.example.com` is for all hosts below example.com. Default: all public hosts but that of
	// the issuer, where people may be able to upload files.
	Allow []string `json:"allow,omitempty"`

	// The hosts whose clients are not accepted. Default: none.
	Deny []string `json:"deny,omitempty"`

	// When people are asked for consent. `always`: each time. `once`: the first time, and again if the client asks for more, sends
	// them elsewhere, or has changed its keys, or if another site led them here. Default: `always`.
	Consent storage.ConsentMode `json:"consent,omitempty"`
}

func (c *CIMDSettings) check() error {
	switch {
	case c == nil:
		return nil
	case c.Off && (len(c.Allow)+len(c.Deny) > 0 || c.Consent != ""):
		return directive.At("off", errors.New("expected no other setting beside off"))
	case c.Consent == storage.ConsentNever:
		return directive.At("consent", errNeverUnasked)
	}
	return cmp.Or(
		directive.At("allow", cimd.Policy{Allow: c.Allow}.Check()),
		directive.At("deny", cimd.Policy{Deny: c.Deny}.Check()),
		directive.At("consent", checkChoice(string(c.Consent), "once", "always")),
	)
}

// cimd returns the settings for clients that their websites describe, nil if there are none.
func (i *Issuer) cimd() *CIMDSettings {
	switch {
	case i.CIMD == nil && i.MCP:
		return new(CIMDSettings)
	case i.CIMD == nil || i.CIMD.Off:
		return nil
	}
	return i.CIMD
}

// dynamic returns the settings for clients that register themselves, nil if there are none.
func (i *Issuer) dynamic() *DynamicSettings {
	switch {
	case i.Dynamic == nil && i.MCP:
		return new(DynamicSettings)
	case !i.Dynamic.on():
		return nil
	}
	return i.Dynamic
}

// documents returns the constructor of the source of Client ID Metadata Documents, nil if the issuer accepts none.
func (i *Issuer) documents(name string, issuer *url.URL, fetcher *fetch.Fetcher, log *zap.Logger) func(storage.Store) authserver.Documents {
	settings := i.cimd()
	if settings == nil {
		return nil
	}
	policy, loopback := cimd.Policy{Allow: settings.Allow, Deny: settings.Deny}, uris.IsLoopback(issuer.Hostname())
	if len(settings.Allow) == 0 && !loopback {
		// Otherwise anybody who can upload a file to the site could ask for consent in the site's name.
		policy.Deny = append(slices.Clone(policy.Deny), issuer.Hostname())
	}
	return func(store storage.Store) authserver.Documents {
		return cimd.New(cimd.Config{
			Issuer: name, Loopback: loopback, Fetcher: fetcher, Store: store, Logger: log, Now: time.Now,
			Policy: policy,
			Describe: func(id string, m *registration.Metadata) (*storage.Client, error) {
				return i.described(id, m, storage.OriginDocument)
			},
		})
	}
}

// registration returns how clients can register themselves, nil if they cannot.
func (i *Issuer) registration(issuer *url.URL, fetcher *fetch.Fetcher) *authserver.Registration {
	d := i.dynamic()
	if d == nil {
		return nil
	}
	r := &authserver.Registration{Clients: registration.Config{
		Supported: i.supported(storage.OriginRegistered),
		KnownOnly: d.Redirects == "known",
		Max:       cmp.Or(d.Max, defaultMaxRegistrations),
		Unused:    d.Unused.or(defaultUnused).duration(),
		Describe: func(id string, m *registration.Metadata, secret string) (*storage.Client, error) {
			if secret == "" {
				return i.described(id, m, storage.OriginRegistered)
			}
			return i.described(id, m, storage.OriginRegistered, clients.HashSecret(secret))
		},
	}}
	if i.OpenID != nil && i.OpenID.Dynamic {
		r.Sector = func(ctx context.Context, address string) ([]byte, error) {
			response, err := fetcher.Get(ctx, fetch.Request{
				URL: address, Purpose: "sector identifier", Loopback: uris.IsLoopback(issuer.Hostname()), Limit: maxSectorDocument,
			})
			if err != nil {
				return nil, err
			}
			return response.Body, nil
		}
	}
	for _, token := range d.Tokens {
		until, _ := token.end() // it was checked
		r.Tokens = append(r.Tokens, registration.InitialToken{Hash: hashOfToken(token.Token), Uses: token.Uses, Until: until})
	}
	return r
}

const maxSectorDocument = 16 << 10 // bytes

// supported returns what clients that describe themselves can ask for.
func (i *Issuer) supported(origin storage.ClientOrigin) registration.Supported {
	s := describedMethods[origin]
	if i.OpenID == nil || !i.OpenID.Dynamic {
		return s
	}
	s.OpenID = &registration.OpenIDSupported{
		Algs: i.offeredAlgorithms(), DefaultAlg: i.OpenID.algorithm(),
		SubjectTypes: []string{"public"}, DefaultSubject: cmp.Or(i.OpenID.SubjectType, "public"),
		Sectors: origin == storage.OriginRegistered, // which are fetched once
	}
	if i.OpenID.PairwiseSalt != "" {
		s.OpenID.SubjectTypes = append(s.OpenID.SubjectTypes, pairwise)
	}
	return s
}

// describedMethods are the methods of authentication for clients that describe themselves. A document cannot have a secret.
var describedMethods = map[storage.ClientOrigin]registration.Supported{
	storage.OriginRegistered: {
		AuthMethods:       []string{storage.MethodNone, storage.MethodBasic, storage.MethodPost, storage.MethodKey},
		DefaultAuthMethod: storage.MethodBasic,
		SigningAlgs:       jwt.AssertionAlgorithms(),
	},
	storage.OriginDocument: {
		AuthMethods:       []string{storage.MethodNone, storage.MethodKey},
		DefaultAuthMethod: storage.MethodNone,
		SigningAlgs:       jwt.AssertionAlgorithms(),
	},
}

// described returns a client that describes itself, with the settings that the issuer has for such clients. secretHashes are those of a
// registered client that has a secret. If the metadata does not fit the issuer's OpenID Connect settings, the client loses only openid: it
// may be older than these settings, or may not want openid. The error is a *registration.Error.
func (i *Issuer) described(id string, m *registration.Metadata, origin storage.ClientOrigin, secretHashes ...string) (*storage.Client, error) {
	n, err := m.Negotiate(i.supported(origin))
	if err != nil {
		return nil, err
	}
	signs := m.RequireSigned || n.RequestAlg != "" || slices.Contains(n.AuthMethods, storage.MethodKey)
	if m.JWKS != nil && signs {
		if err := jwt.CheckClientKeys(m.JWKS); err != nil {
			return nil, &registration.Error{Code: registration.InvalidClientMetadata, Member: "jwks", Problem: err.Error()}
		}
	}
	own := Client{
		RedirectURIs: m.RedirectURIs, GrantTypes: n.GrantTypes, SecretHashes: secretHashes, PKCE: "required", Scopes: i.describedScopes(n.SignsIn),
		DPoPBoundAccessTokens: m.DPoPBound, RequireSigned: m.RequireSigned, RequestAlgorithm: n.RequestAlg,
		ClientOpenID: ClientOpenID{
			IDTokenAlgorithm: n.OpenID.IDTokenAlg, UserinfoAlgorithm: n.OpenID.UserinfoAlg,
			SubjectType: n.OpenID.SubjectType, SectorIdentifierURI: n.OpenID.SectorIdentifierURI,
			RequireAuthTime:        n.OpenID.RequireAuthTime,
			PostLogoutRedirectURIs: n.OpenID.PostLogoutRedirectURIs,
			BackchannelLogoutURI:   n.OpenID.BackchannelURI, BackchannelLogoutSessionRequired: n.OpenID.BackchannelSession,
		},
	}
	if seconds := n.OpenID.DefaultMaxAge; seconds != nil {
		maxAge := caddy.Duration(time.Duration(*seconds) * time.Second)
		own.DefaultMaxAge = &maxAge
	}
	client := own.client(id, i)
	client.Name = i.describedName(m.ClientName)
	client.Origin = origin
	client.AuthMethods, client.JWKS, client.JWKSURI = n.AuthMethods, m.JWKS, m.JWKSURI
	client.RefreshToken = refreshPolicy(client.Public(), i.RefreshToken)
	client.DropUnknownScopes = i.UnknownScopes != "refuse"
	client.Consent = i.describedConsent(origin)
	return client, nil
}

// describedConsent returns when people are asked about a client that describes itself.
func (i *Issuer) describedConsent(origin storage.ClientOrigin) storage.ConsentMode {
	var mode storage.ConsentMode
	if d := i.dynamic(); d != nil && origin == storage.OriginRegistered {
		mode = d.Consent
	}
	if c := i.cimd(); c != nil && origin == storage.OriginDocument {
		mode = c.Consent
	}
	return cmp.Or(mode, storage.ConsentAlways)
}

// describedScopes returns the scopes that a client which describes itself may ask for. signsIn says whether it can sign people in.
func (i *Issuer) describedScopes(signsIn bool) []string {
	var names []string
	for _, scope := range i.Scopes {
		if !scope.Private {
			names = append(names, scope.Name)
		}
	}
	if !signsIn {
		return slices.DeleteFunc(names, func(name string) bool { return i.OpenID != nil && name == grants.OpenID })
	}
	for _, name := range grants.OpenIDScopes {
		if !slices.ContainsFunc(i.Scopes, func(s Scope) bool { return s.Name == name }) {
			names = append(names, name)
		}
	}
	return names
}

// describedName returns the name of a client that describes itself as pages may show it, and "" if people could take it for the site
// or for a client of the configuration.
func (i *Issuer) describedName(name string) string {
	taken := []string{i.URL}
	if u, err := url.Parse(i.URL); err == nil {
		taken = append(taken, u.Hostname(), "www."+u.Hostname())
	}
	if i.Page != nil {
		taken = append(taken, i.Page.Name)
	}
	for id, c := range i.Clients {
		taken = append(taken, id, c.Name)
	}
	if registration.LooksLike(name, taken...) {
		return ""
	}
	return name
}
