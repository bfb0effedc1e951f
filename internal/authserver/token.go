package authserver

import (
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// tokenEndpoint is the token endpoint (RFC 6749 §3.2).
type tokenEndpoint struct {
	*core

	grants    map[string]grants.Grant
	verifiers map[string]grants.Verifier // of passwords, by the grant types that bring one

	tokens     grants.Tokens     // of this issuer, that clients exchange
	assertions grants.Assertions // of other issuers

	isVoid func(id string, f *storage.Family) bool // cutoffs.VoidsFamily, kept since each use of a method as a value allocates
}

func newTokenEndpoint(s *core) *tokenEndpoint {
	e := &tokenEndpoint{
		core: s, grants: make(map[string]grants.Grant), verifiers: make(map[string]grants.Verifier),
		tokens: ownTokens{s.accessTokens}, assertions: foreignAssertions{s}, isVoid: s.cutoffs.VoidsFamily,
	}
	for _, g := range s.config.Grants {
		e.grants[g.Type()] = g
		if provider, ok := g.(grants.VerifierProvider); ok {
			e.verifiers[g.Type()] = provider.ProvideVerifier()
		}
	}
	return e
}

// serve answers a token request. Its steps are below, in the order in which they run, but for authenticate (core.go), checkPossession and
// useProofOnce (proof.go), setDeadline (deadline.go), and two parts of issue: checkSubjectFor (subject.go) and idToken (id_token.go).
func (e *tokenEndpoint) serve(c *call) error {
	form, err := wire.ReadForm(c.w, c.r, e.config.Wire.Bodies...)
	if err != nil {
		return err
	}
	if err := e.authenticate(c, form); err != nil {
		return err
	}
	grant, err := e.findGrant(c, form.Get("grant_type"))
	if err != nil {
		return err
	}
	if err := e.checkPossession(c); err != nil {
		return err
	}
	now, asksSite := e.now(), e.asksSite(c.grant)
	if !asksSite { // The answer of a site may take longer than the store may: then the deadline begins after it.
		c.setDeadline(e.config.StoreTimeout)
	}
	signer, err := e.prepare(c)
	if err != nil {
		return err
	}
	auth, err := e.exchange(c, grant, form, now)
	if err != nil {
		return err
	}
	if asksSite {
		c.setDeadline(e.config.StoreTimeout)
		now = e.now() // The lifetimes of the tokens begin here.
		// The owner may have retired the key while the site was asked. If the keys cannot be loaded now, the first signer stays: what the
		// client has sent is used up.
		if newest, err := e.prepare(c); err == nil {
			signer = newest
		}
	}
	if c.proof != nil {
		if err := e.useProofOnce(c); err != nil {
			return err
		}
	}
	response, err := e.issue(c, signer, auth, now)
	if err != nil {
		return err
	}
	return e.config.Wire.Response.Write(c.w, response)
}

// findGrant returns the grant of a type, if the client of the call may use it (RFC 6749 §5.2), and sets c.grant.
func (e *tokenEndpoint) findGrant(c *call, grantType string) (grants.Grant, error) {
	if name, ok := e.config.Wire.GrantAliases[grantType]; ok {
		grantType = name
	}
	if grantType == "" {
		return nil, grants.Refuse(grants.InvalidRequest, "grant_type is missing").
			Explain("", list(c.client.GrantTypes), "client "+c.client.ID+": grant_types")
	}
	grant, ok := e.grants[grantType]
	if !ok {
		return nil, grants.Refuse(grants.UnsupportedGrantType, "grant_type is not supported").
			Explain(grantType, list(slices.Sorted(maps.Keys(e.grants))), "grant, grant_alias")
	}
	if !c.client.MayUse(grantType) {
		return nil, grants.Refuse(grants.UnauthorizedClient, "the client may not use this grant_type").
			Explain(grantType, list(c.client.GrantTypes), "client "+c.client.ID+": grant_types")
	}
	c.grant = grant.Type() // not grantType, a part of the body: the metrics keep it as a label
	return grant, nil
}

// asksAccount are the grant types that ask the site whether the user still has an account.
var asksAccount = []string{"refresh_token", grants.JWTBearerType}

// asksSite reports whether a grant asks the site about a user.
func (e *tokenEndpoint) asksSite(grantType string) bool {
	return e.verifiers[grantType] != nil || e.config.Accounts != nil && slices.Contains(asksAccount, grantType)
}

// prepare loads what the tokens of the client need, so that no code or refresh token is used up for tokens that cannot be signed or
// could not be revoked.
func (e *tokenEndpoint) prepare(c *call) (keyring.Signer, error) {
	if err := e.cutoffs.Cover(c.ctx, lifetimesOf(c.client)); err != nil {
		return keyring.Signer{}, err
	}
	if isPairwise(c.client) {
		if _, err := e.keys.Secret(c.ctx); err != nil {
			return keyring.Signer{}, err
		}
	}
	if policy := c.client.OpenID; policy != nil && !c.forItself() {
		return e.keys.LoadFor(c.ctx, policy.IDTokenAlgorithm)
	}
	return e.keys.Load(c.ctx)
}

// forItself reports whether the client of a token request acts for itself, not for a person (RFC 6749 §4.4).
func (c *call) forItself() bool { return c.grant == "client_credentials" }

// exchange has the grant decide on the request. The refusal of a code or refresh token that was used before, or whose user has
// no account any more, revokes its family first, and too many refusals of one client at one address become 429.
func (e *tokenEndpoint) exchange(c *call, grant grants.Grant, form url.Values, now time.Time) (*grants.Authorization, error) {
	verifier := e.verifiers[c.grant]
	if verifier != nil {
		verifier = throttled{verifier, e.core, c.peer.Address}
	}
	auth, err := grant.Exchange(c.ctx, &grants.Request{
		Issuer:   e.config.URL,
		Client:   c.client,
		Form:     form,
		Store:    e.store,
		Now:      now,
		Verifier: verifier,
		Accounts: e.config.Accounts,
		Tokens:   e.tokens,

		Assertions: e.assertions,
		IsVoid:     e.isVoid,

		Resources:     e.resources.all(),
		Authenticated: c.authenticated(),
		Proven:        c.proven,
	})
	if err != nil {
		return nil, e.throttleRefusal(c, e.revoker.RevokeForRefusal(c.ctx, err))
	}
	if e.sweeps && c.grant == "authorization_code" { // the family lives on: there is no unused code to sweep
		e.config.Codes.redeemed(e.config.Name, storage.Key{Kind: storage.KindFamily, ID: auth.Family})
	}
	return auth, nil
}

// countedRefusals are the situations of a refusal that the throttle counts.
var countedRefusals = []string{grants.BadCode, grants.BadRefreshToken, grants.BadSubjectToken, grants.BadAssertion}

// throttleRefusal counts the refusal of a code or of a token. After too many it returns another refusal.
func (e *tokenEndpoint) throttleRefusal(c *call, err error) error {
	refusal, ok := errors.AsType[*grants.Error](err)
	if !ok || !slices.Contains(countedRefusals, refusal.Situation) {
		return err
	}
	wait := e.limiter.Invalid(throttle.Grant, c.client.ID, c.peer.Address)
	if wait == 0 {
		return err
	}
	tooMany := clients.TooManyFailures(wait)
	tooMany.Cause = err
	return tooMany
}

// issue makes the tokens that a grant allows, and starts a family if the authorization needs one.
func (e *tokenEndpoint) issue(c *call, signer keyring.Signer, auth *grants.Authorization, now time.Time) (*wire.TokenResponse, error) {
	// Checked at an approval too. But there may have been none, and the client may have other settings now.
	if err := checkSubjectFor(c.client, auth.Scopes, auth.Subject); err != nil {
		return nil, err
	}
	if auth.Started.IsZero() {
		if err := e.begin(c, auth, now); err != nil {
			return nil, err
		}
	}
	if auth.RefreshToken != "" && c.client.Origin != "" { // Nobody added the client: its record must stay as long as the tokens.
		if err := e.clients.InUse(c.ctx, c.client, c.client.RefreshToken.KeptUntil(now)); err != nil {
			return nil, err
		}
	}
	auth.Asked = e.stillAllowed(c.client, auth.Asked)
	accessToken, err := e.accessTokens.issue(c.ctx, signer, c.client, auth, c.client.Binding(c.proven), now)
	if err != nil {
		return nil, err
	}
	idToken, err := e.idToken(c, signer, auth, accessToken.text, now)
	if err != nil {
		return nil, err
	}
	e.events.issued(c, auth, accessToken.id)
	if !c.forItself() {
		began := auth.Started
		if began.IsZero() {
			began = now
		}
		e.lastUses.record(auth.Subject, c.client.ID, use{now, began, auth.Scopes, seenUntil(c.client, now)})
	}
	tokenType := "Bearer"
	if c.proof != nil {
		tokenType = wire.TypeDPoP
	}
	response := &wire.TokenResponse{
		AccessToken:  accessToken.text,
		TokenType:    tokenType,
		ExpiresIn:    max(1, int64(accessToken.life/time.Second)),
		RefreshToken: auth.RefreshToken,
		Scope:        strings.Join(auth.Scopes, " "),
		IDToken:      idToken,

		IssuedTokenType: auth.TokenType,
	}
	if auth.RefreshToken != "" && e.tellsEnds(c.client) {
		response.RefreshTokenTimeout, response.AuthorizationExpiresIn = secondsTo(auth.RefreshEnds, now), secondsTo(auth.Until, now)
	}
	return response, nil
}

// begin is for an authorization that has no family yet: it starts a family if the authorization needs one. A cutoff
// also voids what begins shortly after it, see [revocation.ClockSkew]. So that a user whose access was revoked a moment ago can sign in
// again, Started is then later than now. The cutoff may be of another node: begin reads those of other nodes first.
func (e *tokenEndpoint) begin(c *call, auth *grants.Authorization, now time.Time) error {
	if !c.forItself() {
		if err := e.cutoffs.Sync(c.ctx); err != nil {
			return err
		}
	}
	began := e.cutoffs.Begin(auth.Subject, c.client.ID, now)
	if began.After(now) {
		auth.Started = began
	}
	if auth.Offline && auth.RefreshToken == "" {
		return e.startFamily(c, auth, began)
	}
	return nil
}

// startFamily starts the family of an authorization that has none, with its first refresh token. The number of families is
// limited. Beyond the limits, the client gets an access token only (RFC 6749 §4.3.3), so that a script goes on that logs in for
// each of its jobs.
func (e *tokenEndpoint) startFamily(c *call, auth *grants.Authorization, started time.Time) error {
	client := c.client
	reservation, wait := e.limiter.ReserveFamily(throttle.Login, familyAccount(client.ID, auth.Subject))
	if reservation == nil {
		e.log.Info("no refresh token: too many for this user and client", zap.String("issuer", e.config.Name),
			zap.String("client_id", client.ID), zap.String("expected", e.limiter.CodeLimits()),
			zap.String("setting", "throttle: codes"), zap.Duration("next", wait))
		return nil
	}
	f := &storage.Family{
		Client:   client.ID,
		Subject:  auth.Subject,
		Scopes:   auth.Scopes,
		Audience: auth.Audience,
		Claims:   auth.Claims,
		AuthTime: auth.AuthTime,
		Started:  started,
		Ends:     client.RefreshToken.Ends(started),

		Authenticated: c.authenticated() && client.Public(),
	}
	if !c.authenticated() {
		f.Bound = client.Binding(c.proven)
	}
	refreshToken, key := f.Start(client.RefreshToken.Length)
	record, err := f.Encode()
	if err == nil {
		err = e.store.Put(c.ctx, key, record, f.Expires(started, client.RefreshToken.Idle))
	}
	if err != nil {
		reservation.Canceled()
		return err
	}
	auth.RefreshToken, auth.Family, auth.Started = client.RefreshToken.Prefix+refreshToken, key.ID, started
	auth.RefreshEnds = f.RefreshEnds(started, client.RefreshToken)
	return nil
}

// stillAllowed returns those of the askedClaims whose scopes the client may still ask for.
func (e *tokenEndpoint) stillAllowed(client *storage.Client, asked storage.AskedClaims) storage.AskedClaims {
	gone := func(name string) bool { return !e.accessTokens.claims.gives(client.Scopes, name) }
	for _, names := range []*[]string{&asked.UserInfo, &asked.IDToken} {
		if slices.ContainsFunc(*names, gone) {
			*names = slices.DeleteFunc(slices.Clone(*names), gone)
		}
	}
	return asked
}

// tellsEnds reports whether the token responses of a client say when its refresh tokens and approvals end.
func (s *core) tellsEnds(client *storage.Client) bool {
	return s.config.TellEnds || len(client.ConsentLifetimes) > 0
}

// secondsTo returns the seconds until a time, at least one, or 0 if the time is zero, which is never.
func secondsTo(end, now time.Time) int64 {
	if end.IsZero() {
		return 0
	}
	return max(1, int64(end.Sub(now)/time.Second))
}
