package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/revocation"
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

// Removed implements grants.Tokens.
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

// readSources moves the sources of a token of this issuer from the raw claims to Sources: other readers of the claims must not see
// them.
func readSources(claims *jwt.Claims) error {
	value, ok := claims.Raw[exchangedFrom]
	if !ok {
		return nil
	}
	delete(claims.Raw, exchangedFrom)
	list, ok := value.([]any)
	for i := 0; ok && i < len(list); i++ {
		var source jwt.Source
		source, ok = readSource(list[i])
		claims.Sources = append(claims.Sources, source)
	}
	if !ok {
		return jwt.ErrClaims.Explain("a malformed "+exchangedFrom, "", "").Of(claims)
	}
	return nil
}

// readSource reads a sourceClaim. It returns false if that is malformed.
func readSource(claim any) (source jwt.Source, ok bool) {
	members, ok := claim.(map[string]any)
	for name, to := range map[string]*string{
		"client_id": &source.ClientID, "jti": &source.ID, "sub": &source.Subject, "family": &source.Family,
	} {
		if value, there := members[name]; there {
			text, is := value.(string)
			*to, ok = text, ok && is
		}
	}
	if value, there := members["family_iat"]; there {
		number, _ := value.(json.Number)
		seconds, err := number.Float64()
		source.Began, ok = jwt.FromNumericDate(seconds), ok && err == nil
	}
	return source, ok
}

// checkSources returns an error if one of the tokens that a token was exchanged for is void, see check. It is also an error if the user
// had removed a client before it exchanged one of them, on a node that did not know that yet.
func (a *accessTokens) checkSources(ctx context.Context, claims *jwt.Claims) error {
	for i, source := range claims.Sources {
		ended, err := a.clients.Ended(ctx, source.ClientID)
		if err != nil {
			return err
		}
		t := revocation.Token{ID: source.ID, Family: source.Family, Subject: source.Subject, Client: source.ClientID, Began: source.Began}
		if t.Subject == "" {
			t.Subject = claims.Subject
		}
		if t.Family == "" {
			t.Family = claims.Family
		}
		switch {
		case ended:
			return jwt.ErrRevoked.Explain("exchanged for a token of the client "+source.ClientID+", which was removed", "", "client").Of(claims)
		case a.cutoffs.VoidsToken(t):
			return jwt.ErrRevoked.Explain("exchanged for a token that is void: "+a.cutoffs.Why(t), "", "").Of(claims)
		}
		if client := a.removedAfter(claims, i); client != "" {
			return jwt.ErrRevoked.Explain("exchanged by the client "+client+", which the user had removed", "", "").Of(claims)
		}
	}
	return nil
}

// removedAfter returns a client that exchanged the source at i, or what came of it, although the user had removed the client before; ""
// if there is none. A source of an actor has nothing to do with the other clients.
func (a *accessTokens) removedAfter(claims *jwt.Claims, i int) string {
	first := claims.Sources[i]
	if first.Subject != "" {
		return ""
	}
	for _, by := range claims.Sources[i+1:] {
		if by.Subject == "" && a.cutoffs.Removed(claims.Subject, by.ClientID, first.Began) {
			return by.ClientID
		}
	}
	if a.cutoffs.Removed(claims.Subject, claims.ClientID, first.Began) {
		return claims.ClientID
	}
	return ""
}
