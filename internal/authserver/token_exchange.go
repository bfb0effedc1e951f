package authserver

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// ownTokens implements grants.Tokens: it reads access tokens of this issuer that clients want to exchange (RFC 8693).
type ownTokens struct{ *accessTokens }

// Read implements grants.Tokens.
func (o ownTokens) Read(ctx context.Context, text string) (*grants.Token, error) {
	claims, err := o.check(ctx, text, 0)
	var invalid jwt.InvalidToken
	switch {
	case errors.As(err, &invalid):
		return nil, refuseToken(err)
	case err != nil:
		return nil, err
	case claims.Issuer == "": // it says neither its audience nor its scopes
		return nil, refuseToken(jwt.ErrClaims.Explain("a minimal token", "a token with its audience and scopes", "access_token: claims"))
	case claims.Bound.Other:
		return nil, refuseToken(jwt.ErrBound.Explain("a cnf that nobody here can check", "", ""))
	}
	token := &grants.Token{
		Subject: claims.Subject, Client: claims.ClientID, Scopes: strings.Fields(claims.Scope), Audience: claims.Audience,
		Claims: o.shape.originalClaims(claims.Raw), Expires: claims.Expires, Family: claims.Family,
		Bound: storage.Confirmation{Thumbprint: claims.Bound.Thumbprint, Certificate: claims.Bound.Certificate},
	}
	token.Known, _ = claims.Raw["sub"].(string)
	token.ACR, _ = claims.Raw["acr"].(string)
	token.AuthTime, _ = claims.AuthTime()
	if token.Actor, err = actorOf(claims); err != nil {
		return nil, refuseToken(err)
	}
	for _, source := range claims.Sources {
		token.Sources = append(token.Sources, storage.Source{
			Client: source.ClientID, Token: source.ID, Began: source.Began, Subject: source.Subject, Family: source.Family,
		})
	}
	token.Sources = append(token.Sources, storage.Source{Client: claims.ClientID, Token: claims.ID, Began: revocable(claims).Began})
	return token, nil
}

// Removed implements grants.Tokens, see Revoker.Revoke.
func (o ownTokens) Removed(client string, token *grants.Token) bool {
	return slices.ContainsFunc(token.Sources, func(s storage.Source) bool {
		return s.Subject == "" && o.cutoffs.Removed(token.Subject, client, s.Began) // the others are those of an actor
	})
}

// refuseToken returns the refusal of a token that is not valid. The grant says which parameter has it.
func refuseToken(err error) *grants.Error {
	refusal := &grants.Error{Code: grants.InvalidRequest, Cause: err}
	if invalid, ok := errors.AsType[*jwt.Refusal](err); ok {
		refusal.Sent, refusal.Expected, refusal.Setting = invalid.Sent, invalid.Expected, invalid.Setting
		if invalid.Claims != nil {
			refusal.Family, refusal.Subject = invalid.Claims.Family, invalid.Claims.Subject
		}
	}
	return refusal
}

// originalClaims returns the claims of a token that a grant could have set, by the names that they had before they were renamed.
func (s *AccessTokenShape) originalClaims(raw map[string]any) map[string]any {
	claims := maps.Clone(raw)
	for _, to := range s.Rename {
		delete(claims, to)
	}
	for from, to := range s.Rename {
		if value, ok := raw[to]; ok {
			claims[from] = value
		}
	}
	maps.DeleteFunc(claims, func(name string, _ any) bool { return slices.Contains(ReservedClaims, name) })
	return claims
}

// actorOf returns who acts for the subject of a token of this issuer, nil for nobody.
func actorOf(claims *jwt.Claims) (*storage.Actor, error) {
	var first storage.Actor
	next := &first.Actor
	for claim, there := claims.Raw["act"]; there; {
		act, _ := claim.(map[string]any)
		subject, _ := act["sub"].(string)
		if subject == "" {
			return nil, jwt.ErrClaims.Explain("a malformed act", "", "")
		}
		*next = &storage.Actor{Subject: subject}
		next = &(*next).Actor
		claim, there = act["act"]
	}
	return first.Actor, nil
}

// actClaim returns the actor as a claim, of the types that the claim of a JWT has.
func actClaim(actor *storage.Actor) map[string]any {
	act := map[string]any{"sub": actor.Subject}
	if actor.Actor != nil {
		act["act"] = actClaim(actor.Actor)
	}
	return act
}

// sourceClaim is one of the tokens that another one was exchanged for, in the claim exchanged_from of that.
type sourceClaim struct {
	ClientID string  `json:"client_id"`
	ID       string  `json:"jti"`
	Began    float64 `json:"family_iat,omitempty"`
	Subject  string  `json:"sub,omitempty"`
	Family   string  `json:"family,omitempty"`
}

const exchangedFrom = "exchanged_from" // the claim

// sourceClaims returns the claim for the sources of a token.
func sourceClaims(sources []storage.Source) (claims []sourceClaim) {
	for _, s := range sources {
		claims = append(claims, sourceClaim{s.Client, s.Token, jwt.NumericDate(s.Began), s.Subject, s.Family})
	}
	return claims
}
