package authserver

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// token is the token endpoint (RFC 6749 §3.2). A request goes through it once, from top to bottom.
func (s *Server) token(c *call) error {
	form, err := wire.ReadForm(c.w, c.r, s.config.Wire.Bodies...)
	if err != nil {
		return err
	}
	client, err := s.authenticate(c, form)
	if err != nil {
		return err
	}
	grant, err := s.findGrant(form.Get("grant_type"), client)
	if err != nil {
		return err
	}
	c.grant = grant.Type()
	now := s.now()
	auth, err := s.exchange(c, grant, form, now)
	if err != nil {
		return err
	}
	response, err := s.issue(c, auth, now)
	if err != nil {
		return err
	}
	return s.config.Wire.Response.Write(c.w, response)
}

// authenticate finds the client of a request, and notes in the call which one it is or names.
func (s *Server) authenticate(c *call, form url.Values) (client *storage.Client, err error) {
	client, c.named, err = s.authenticator.Authenticate(c.ctx(), c.r, form, c.address)
	c.client = client
	return client, err
}

// findGrant returns the grant of a type, if this client may use it (RFC 6749 §5.2).
func (s *Server) findGrant(grantType string, client *storage.Client) (grants.Grant, error) {
	if name, ok := s.config.Wire.GrantAliases[grantType]; ok {
		grantType = name
	}
	if grantType == "" {
		return nil, grants.Refuse(grants.InvalidRequest, "grant_type is missing")
	}
	grant, ok := s.grants[grantType]
	if !ok {
		return nil, grants.Refuse(grants.UnsupportedGrantType, "grant_type is not supported")
	}
	if !client.MayUse(grantType) {
		return nil, grants.Refuse(grants.UnauthorizedClient, "the client may not use this grant_type")
	}
	return grant, nil
}

// exchange has the grant decide on the request. The refusal of a code or refresh token that was used before revokes its
// family first, and too many refusals of one client at one address become 429.
func (s *Server) exchange(c *call, grant grants.Grant, form url.Values, now time.Time) (*grants.Authorization, error) {
	verifier := s.verifierFor(c)
	if verifier == nil { // else the site may take long to answer about a password
		c.setDeadline(s.config.StoreTimeout)
	}
	ctx := c.ctx()
	if err := s.loadCutoffs(ctx); err != nil {
		return nil, err
	}
	if err := s.keys.Load(ctx); err != nil { // before a code is used up in vain
		return nil, err
	}
	auth, err := grant.Exchange(ctx, &grants.Request{
		Issuer:   s.config.URL,
		Client:   c.client,
		Form:     form,
		Store:    s.config.Store,
		Now:      now,
		Verifier: verifier,
		Void:     s.cutoffs.VoidsFamily,
	})
	if err != nil {
		return nil, s.throttleRefusal(c, s.revoker.RevokeReplayed(ctx, err))
	}
	if verifier != nil {
		c.setDeadline(s.config.StoreTimeout)
	}
	return auth, nil
}

// throttleRefusal counts the refusal of a code or refresh token. After too many it returns another refusal.
func (s *Server) throttleRefusal(c *call, err error) error {
	refusal, ok := errors.AsType[*grants.Error](err)
	if !ok || refusal.Situation != grants.BadCode && refusal.Situation != grants.BadRefreshToken {
		return err
	}
	wait := s.limiter.Invalid(throttle.Grant, c.client.ID, c.address)
	if wait == 0 {
		return err
	}
	tooMany := clients.TooManyFailures(wait)
	tooMany.Cause = err
	return tooMany
}

// issue makes the tokens that a grant allows, and starts a family if the authorization needs one.
func (s *Server) issue(c *call, auth *grants.Authorization, now time.Time) (*wire.TokenResponse, error) {
	if auth.Offline && auth.RefreshToken == "" {
		if err := s.startFamily(c.ctx(), c.client, auth, now); err != nil {
			return nil, err
		}
	}
	accessToken, id, err := s.accessTokens.issue(c.ctx(), c.client, auth, now)
	if err != nil {
		return nil, err
	}
	s.issued(c, auth, id)
	if c.grant != "client_credentials" { // which is about nobody's account
		s.uses.note(auth.Subject, c.client.ID, use{now, auth.Scopes})
	}
	return &wire.TokenResponse{
		AccessToken:  accessToken,
		TokenType:    "Bearer",
		ExpiresIn:    int64(c.client.AccessTokenLifetime / time.Second),
		RefreshToken: auth.RefreshToken,
		Scope:        strings.Join(auth.Scopes, " "),
	}, nil
}

// startFamily starts the family of an authorization that has none, with its first refresh token.
func (s *Server) startFamily(
	ctx context.Context, client *storage.Client, auth *grants.Authorization, now time.Time,
) error {
	f := &storage.Family{
		Client:   client.ID,
		Subject:  auth.Subject,
		Scopes:   auth.Scopes,
		Audience: auth.Audience,
		Claims:   auth.Claims,
		AuthTime: auth.AuthTime,
		Started:  now,
		Ends:     client.RefreshToken.Ends(now),

		TokenLife: client.AccessTokenLifetime,
	}
	refreshToken, key := f.Start(client.RefreshToken.Length)
	record, err := f.Encode()
	if err != nil {
		return err
	}
	auth.RefreshToken, auth.Family, auth.Started = client.RefreshToken.Prefix+refreshToken, key.ID, now
	return s.config.Store.Put(ctx, key, record, f.Expires(now, client.RefreshToken.Idle))
}
