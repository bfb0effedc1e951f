package caddyoauth

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// OpenIDSettings are about OpenID Connect, by which other applications sign people in with the accounts of the site. The scopes
// `openid`, `profile`, `email`, `address`, `phone` and `offline_access` are known then, and clients that have `openid` among their
// scopes get ID tokens.
type OpenIDSettings struct {
	// The algorithm of ID tokens, for clients without a setting of their own: RS256, ES256 or another of `signing` that has
	// public keys. The server has a key for each algorithm that is used. Default: RS256, which all applications know.
	IDTokenAlgorithm string `json:"id_token_signed_response_alg,omitempty"`

	// Where applications find the claims about a person, such as the email address: `userinfo`, at the userinfo endpoint, or
	// `id_token`, in the ID token too, for applications that ask nowhere else. Default: `userinfo`.
	ClaimsIn string `json:"claims_in,omitempty"`

	// What `sub` says of a person, for clients without a setting of their own: `public`, the user ID, or `pairwise`, a text that each
	// application has for itself, so that applications cannot compare whom they know. `pairwise` needs a salt. Default: `public`.
	SubjectType string `json:"subject_type,omitempty"`

	// The secret that pairwise subjects are made with: at least 32 random characters, as a placeholder such as
	// `{env.PAIRWISE_SALT}`. **Danger:** if you change or lose it, every application with pairwise subjects takes everybody for
	// somebody else.
	PairwiseSalt string `json:"pairwise_salt,omitempty"`

	// Which sign-ins end when a person signs out at an application and the site gives no `sid` in `session`: `app`, those at this
	// application, or `all`, those at all applications; both on all devices. Default: `app`. If the site gives a `sid`, the sign-ins of
	// that session end, at all applications.
	LogoutEnds string `json:"logout_ends,omitempty"`

	// Whether clients that describe themselves may sign people in, see `dynamic` and `cimd`: they may have the scope `openid` and the other
	// standard ones that are not private, and one that authenticates may go without PKCE in requests for `openid` with a `nonce`, which
	// serves the same purpose. The server has a key for `id_token_signed_response_alg` then, and a `jwks_file` of `signing` must have one.
	// Default: false.
	Dynamic bool `json:"dynamic,omitempty"`
}

func (o *OpenIDSettings) resolve(repl *caddy.Replacer) error {
	if o == nil {
		return nil
	}
	return directive.At("pairwise_salt", replace(repl, &o.PairwiseSalt))
}

func (o *OpenIDSettings) checkSalt() error {
	switch salt := o.PairwiseSalt; {
	case salt == "" && o.SubjectType == pairwise:
		return errors.New("expected at least 32 random characters, which subject_type pairwise needs")
	case salt == "" || unresolved(salt):
		return nil
	case len(salt) < 32:
		return errors.New("expected at least 32 random characters")
	}
	return directive.CheckSecret(o.PairwiseSalt)
}

const pairwise = "pairwise" // a subject_type

const defaultIDTokenAlgorithm = "RS256" // OpenID Connect Core §15.1

func (o *OpenIDSettings) check() error {
	if o == nil {
		return nil
	}
	return cmp.Or(
		directive.At("id_token_signed_response_alg", checkPublicAlgorithm(o.IDTokenAlgorithm)),
		directive.At("claims_in", checkChoice(o.ClaimsIn, "userinfo", "id_token")),
		directive.At("subject_type", checkChoice(o.SubjectType, "public", pairwise)),
		directive.At("pairwise_salt", o.checkSalt()),
		directive.At("logout_ends", checkChoice(o.LogoutEnds, "app", "all")),
	)
}

func checkPublicAlgorithm(alg string) error {
	public := slices.DeleteFunc(slices.Clone(jwt.Algorithms), func(alg string) bool { return !jwt.Asymmetric(alg) })
	return checkChoice(alg, public...)
}

// ClientOpenID is about a client that signs people in.
type ClientOpenID struct {
	// The algorithm of its ID tokens. Default: that of `openid`.
	IDTokenAlgorithm string `json:"id_token_signed_response_alg,omitempty"`

	// The algorithm that signs the answers of the userinfo endpoint to the client, for one that asks for a JWT. Default: none, the
	// answers are JSON.
	UserinfoAlgorithm string `json:"userinfo_signed_response_alg,omitempty"`

	// Where it finds the claims about a person: `userinfo`, or `id_token`, in the ID token too. Default: that of `openid`.
	ClaimsIn string `json:"claims_in,omitempty"`

	// What `sub` says of a person in its tokens: `public`, the user ID, or `pairwise`, a text that clients with redirect URIs on other
	// hosts cannot compare with theirs. The guards of this server and its log go by the user ID in any case. Default: that of `openid`.
	SubjectType string `json:"subject_type,omitempty"`

	// An https URL. Clients that name the same host here have the same pairwise subjects. Of a client that you add, it is not fetched: you
	// decide. Default: the host of its redirect URIs.
	SectorIdentifierURI string `json:"sector_identifier_uri,omitempty"`

	// The `max_age` of requests that have none, such as `12h`: a person whose login is older has to sign in again; with `0`, each time.
	// It needs `auth_time` in `session`; without that, nobody can sign in to the application. Default: none, a login of any age is
	// accepted.
	DefaultMaxAge *caddy.Duration `json:"default_max_age,omitempty"`

	// Whether nobody may sign in to the application unless its ID tokens say when the person signed in (`auth_time`), which your site
	// tells with `auth_time` of `session`. Default: false. ID tokens say it too without this setting, if your site does.
	RequireAuthTime bool `json:"require_auth_time,omitempty"`

	// The URIs to which people may go on who have signed out. A request must name one of them exactly. Default: none.
	PostLogoutRedirectURIs []string `json:"post_logout_redirect_uris,omitempty"`

	// The URL at which the application learns that a person has signed out, and ends its own session (OpenID Connect Back-Channel
	// Logout). In a Caddyfile, it may be http, and of any host that this server reaches. Of a client that is added at run time, it is
	// https, and of a public host. Default: none.
	BackchannelLogoutURI string `json:"backchannel_logout_uri,omitempty"`

	// Whether the application needs a `sid` in each logout token. If so and the site gives no `sid` in `session`, no logout token
	// is sent. Default: false.
	BackchannelLogoutSessionRequired bool `json:"backchannel_logout_session_required,omitempty"`
}

// resolve replaces placeholders.
func (c *ClientOpenID) resolve(repl *caddy.Replacer) error {
	sector := []string{c.SectorIdentifierURI} // not replace alone: sector ignores a URI with braces
	if err := replaceAll(repl, sector); err != nil {
		return directive.At("sector_identifier_uri", err)
	}
	c.SectorIdentifierURI = sector[0]
	return cmp.Or(
		directive.At("post_logout_redirect_uris", replaceAll(repl, c.PostLogoutRedirectURIs)),
		directive.At("backchannel_logout_uri", replace(repl, &c.BackchannelLogoutURI)),
	)
}

// sector returns the host of the client's sector identifier (OpenID Connect Core §8.1), "" if its subjects are public.
func (c *ClientOpenID) sector(redirectURIs []string, issuer *Issuer) (string, error) {
	switch {
	case cmp.Or(c.SubjectType, issuer.OpenID.SubjectType) != pairwise:
		return "", nil
	case issuer.OpenID.PairwiseSalt == "":
		return "", directive.At("subject_type", errors.New("expected pairwise_salt in openid of the issuer, which pairwise needs"))
	case c.SectorIdentifierURI != "":
		redirectURIs = []string{c.SectorIdentifierURI}
	}
	if slices.ContainsFunc(redirectURIs, unresolved) { // until the configuration is loaded
		return "", nil
	}
	if len(redirectURIs) == 0 { // nobody signs in
		return "", directive.At("sector_identifier_uri", errors.New("expected one, since there are no redirect URIs"))
	}
	sector := uris.CommonHost(redirectURIs)
	if sector == "" {
		return "", directive.At("sector_identifier_uri", errors.New("expected one, since the redirect URIs are not on one host"))
	}
	return sector, nil
}

func checkSectorURI(uri string) error {
	if uri == "" || unresolved(uri) {
		return nil
	}
	if u, err := url.Parse(uri); err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return fmt.Errorf("expected an https URL, not %s", uri)
	}
	return nil
}

// check finds impossible settings of a client with these scopes.
func (c *ClientOpenID) check(scopes, redirectURIs []string, issuer *Issuer) error {
	used := map[string]bool{
		"id_token_signed_response_alg": c.IDTokenAlgorithm != "",
		"userinfo_signed_response_alg": c.UserinfoAlgorithm != "",
		"claims_in":                    c.ClaimsIn != "",
		"subject_type":                 c.SubjectType != "",
		"sector_identifier_uri":        c.SectorIdentifierURI != "",
		"default_max_age":              c.DefaultMaxAge != nil,
		"require_auth_time":            c.RequireAuthTime,
		"post_logout_redirect_uris":    len(c.PostLogoutRedirectURIs) > 0,
		"backchannel_logout_uri":       c.BackchannelLogoutURI != "",

		"backchannel_logout_session_required": c.BackchannelLogoutSessionRequired,
	}
	for setting, set := range used {
		if set && (issuer.OpenID == nil || !slices.Contains(scopes, grants.OpenID)) {
			return directive.At(setting, errors.New("expected the scope openid among the scopes of the client, and openid at the issuer"))
		}
	}
	if issuer.OpenID != nil && slices.Contains(scopes, grants.OpenID) {
		if _, err := c.sector(redirectURIs, issuer); err != nil {
			return err
		}
	}
	return cmp.Or(
		directive.At("subject_type", checkChoice(c.SubjectType, "public", pairwise)),
		directive.At("sector_identifier_uri", checkSectorURI(c.SectorIdentifierURI)),
		directive.At("id_token_signed_response_alg", checkPublicAlgorithm(c.IDTokenAlgorithm)),
		directive.At("userinfo_signed_response_alg", checkPublicAlgorithm(c.UserinfoAlgorithm)),
		directive.At("claims_in", checkChoice(c.ClaimsIn, "userinfo", "id_token")),
		directive.At("default_max_age", checkDefaultMaxAge(c.DefaultMaxAge)),
		directive.At("post_logout_redirect_uris", checkPostLogoutRedirectURIs(c.PostLogoutRedirectURIs)),
		directive.At("backchannel_logout_uri", checkBackchannelLogoutURI(c.BackchannelLogoutURI)),
		directive.At("backchannel_logout_session_required", c.checkBackchannelSession()),
	)
}

// checkDefaultMaxAge allows what a max_age can be, which is a number of seconds (OpenID Connect Core §3.1.2.1).
func checkDefaultMaxAge(age *caddy.Duration) error {
	if age == nil {
		return nil
	}
	if d := time.Duration(*age); d < 0 || d%time.Second != 0 || d > math.MaxInt32*time.Second {
		return errors.New("expected whole seconds, such as 12h or 0")
	}
	return nil
}

func checkPostLogoutRedirectURIs(registered []string) error {
	for _, uri := range registered {
		if unresolved(uri) {
			continue
		}
		u, err := url.Parse(uri)
		if err != nil || u.Scheme == "" || u.Fragment != "" || strings.HasSuffix(uri, "#") {
			return fmt.Errorf("expected a URI without a fragment, such as https://app.example.com/, not %s", uri)
		}
		if err := uris.CheckInsecureRedirect(uri); err != nil {
			return fmt.Errorf("%w, not %s", err, uri)
		}
	}
	return nil
}

func checkBackchannelLogoutURI(uri string) error {
	if uri == "" || unresolved(uri) {
		return nil
	}
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || strings.Contains(uri, "#") || u.User != nil {
		return fmt.Errorf("expected a URL with https or http, without user name and fragment, not %s", uri)
	}
	return nil
}

func (c *ClientOpenID) checkBackchannelSession() error {
	if c.BackchannelLogoutSessionRequired && c.BackchannelLogoutURI == "" {
		return errors.New("expected backchannel_logout_uri too, where the application learns of it")
	}
	return nil
}

// openID returns what the client gets, nil if it signs nobody in.
func (c *Client) openID(issuer *Issuer) *storage.OpenIDPolicy {
	if issuer.OpenID == nil || !slices.Contains(c.Scopes, grants.OpenID) {
		return nil
	}
	sector, _ := c.sector(c.RedirectURIs, issuer) // which was checked
	return &storage.OpenIDPolicy{
		Sector:            sector,
		IDTokenAlgorithm:  cmp.Or(c.IDTokenAlgorithm, c.profileIDToken(issuer), issuer.OpenID.algorithm()),
		UserinfoAlgorithm: c.UserinfoAlgorithm,
		ClaimsInIDToken:   cmp.Or(c.ClaimsIn, issuer.OpenID.ClaimsIn) == "id_token",
		DefaultMaxAge:     (*time.Duration)(c.DefaultMaxAge),
		RequireAuthTime:   c.RequireAuthTime,

		PostLogoutRedirectURIs: c.PostLogoutRedirectURIs,
		BackchannelLogoutURI:   c.BackchannelLogoutURI, BackchannelLogoutSession: c.BackchannelLogoutSessionRequired,
	}
}

// algorithm is the algorithm of ID tokens for clients without a setting of their own.
func (o *OpenIDSettings) algorithm() string {
	return cmp.Or(o.IDTokenAlgorithm, defaultIDTokenAlgorithm)
}

// algorithms sets which algorithms the metadata offers. It returns those for which the server keeps a key from the start: the ones that
// configured clients use, and the default of described clients.
func (i *Issuer) algorithms(config *authserver.Config) (used []string) {
	if i.OpenID == nil {
		return nil
	}
	add := func(list *[]string, alg string) {
		if alg != "" && !slices.Contains(*list, alg) {
			*list = append(*list, alg)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(config.Clients)) {
		if policy := config.Clients[id].OpenID; policy != nil {
			add(&config.IDTokenAlgorithms, policy.IDTokenAlgorithm)
			add(&config.UserinfoAlgorithms, policy.UserinfoAlgorithm)
			add(&used, policy.IDTokenAlgorithm)
			add(&used, policy.UserinfoAlgorithm)
		}
	}
	if len(config.IDTokenAlgorithms) == 0 { // until a client is added
		add(&config.IDTokenAlgorithms, i.OpenID.algorithm())
	}
	if i.OpenID.Dynamic {
		add(&used, i.OpenID.algorithm())
		for _, alg := range i.offeredAlgorithms() {
			add(&config.IDTokenAlgorithms, alg)
			add(&config.UserinfoAlgorithms, alg)
		}
	}
	slices.Sort(config.IDTokenAlgorithms)
	slices.Sort(config.UserinfoAlgorithms)
	slices.Sort(used)
	return used
}

// offeredAlgorithms are those that clients which describe themselves can ask for. If the keys are in a file, they are those that the
// configuration names, for which the file must have keys.
func (i *Issuer) offeredAlgorithms() []string {
	offered := []string{i.OpenID.algorithm()}
	for _, c := range i.Clients {
		offered = append(offered, c.IDTokenAlgorithm, c.UserinfoAlgorithm)
	}
	if i.Signing == nil || i.Signing.JWKSFile == "" {
		offered = append(offered, defaultIDTokenAlgorithm, "ES256")
	}
	slices.Sort(offered)
	return slices.DeleteFunc(slices.Compact(offered), func(alg string) bool { return alg == "" })
}
