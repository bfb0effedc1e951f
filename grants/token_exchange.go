package grants

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

func init() {
	caddy.RegisterModule(TokenExchange{})
}

// TokenExchange gives a service that got a user's access token another one, with which it calls the next service for that user (RFC
// 8693). The settings of the client say which of its tokens it may exchange for which.
//
// The new token names the client as the actor (act), has at most the scopes of the first one, and ends with it: when that expires, and
// when that, its family, its user or its client is revoked. There is no refresh token.
type TokenExchange struct{}

// CaddyModule returns the Caddy module information.
func (TokenExchange) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "oauth.grants.token_exchange",
		New: func() caddy.Module { return new(TokenExchange) },
	}
}

// TokenExchangeType is the grant_type of TokenExchange.
const TokenExchangeType = "urn:ietf:params:oauth:grant-type:token-exchange"

// Type implements Grant.
func (TokenExchange) Type() string { return TokenExchangeType }

// The types of tokens (RFC 8693 §3).
const (
	typeAccessToken = "urn:ietf:params:oauth:token-type:access_token"
	typeJWT         = "urn:ietf:params:oauth:token-type:jwt"
)

// maxExchanges is the greatest length of the chain of exchanges behind a subject_token or an actor_token, the token itself
// included. It bounds the chain of actors and so the size of a token.
const maxExchanges = 4

// Tokens reads access tokens of the issuer. Safe for concurrent use.
type Tokens interface {
	// Read returns what an access token says. A token that is not valid now is an *Error, with any other error it is not known
	// whether it is.
	Read(ctx context.Context, token string) (*Token, error)

	// Removed reports whether the user has taken back the access of a client since the sign-in or the approval that the token is of.
	Removed(client string, token *Token) bool
}

// Token is what a valid access token says.
type Token struct {
	Subject  string // whom it speaks for
	Known    string // the Subject as others know it; another one if the client has pairwise subjects
	Client   string // whom it was issued to
	Scopes   []string
	Audience []string
	Claims   map[string]any // those that a grant could have set, by the names that it would use
	AuthTime time.Time      // when the user signed in; zero: not known
	ACR      string
	Expires  time.Time
	Family   string               // the ID of the family's record, "" if there is none
	Actor    *storage.Actor       // who acts for the subject; nil: nobody
	Bound    storage.Confirmation // the key without which nobody can use it
	// Sources are the token itself, and before it those that it was exchanged for.
	Sources []storage.Source
}

// Exchange implements Grant.
func (TokenExchange) Exchange(ctx context.Context, req *Request) (*Authorization, error) {
	if !req.Authenticated {
		return nil, Refuse(UnauthorizedClient, "a token exchange needs a client with a secret or a key").
			Explain("neither a secret nor a client_assertion", "a client that authenticates", "client "+req.Client.ID+": secret, jwks")
	}
	if typ := req.Form.Get("requested_token_type"); typ != "" && typ != typeAccessToken {
		return nil, Refuse(InvalidRequest, "requested_token_type must be "+typeAccessToken).Explain(typ, typeAccessToken, "")
	}
	subject, err := req.presented(ctx, "subject_token")
	if err != nil {
		return nil, err
	}
	if err := checkExchanged(req, subject); err != nil {
		return nil, err
	}
	auth, err := exchangeFor(req, subject)
	if err != nil {
		return nil, err
	}
	return auth, actFor(ctx, req, auth)
}

// presented reads the token in a parameter, whose type another parameter has.
func (req *Request) presented(ctx context.Context, parameter string) (*Token, error) {
	text, typ := req.Form.Get(parameter), req.Form.Get(parameter+"_type")
	switch {
	case text == "":
		return nil, Refuse(InvalidRequest, parameter+" is missing")
	case typ == "":
		return nil, Refuse(InvalidRequest, parameter+"_type is missing")
	case typ != typeAccessToken && (typ != typeJWT || !strings.Contains(text, ".")):
		return nil, Refuse(InvalidRequest, parameter+" must be an access token of this server, with the type "+typeAccessToken).
			Explain(typ, typeAccessToken, "")
	}
	token, err := req.Tokens.Read(ctx, text)
	if refusal, ok := errors.AsType[*Error](err); ok {
		invalid := *refusal // RFC 8693 §2.2.2
		invalid.Code, invalid.Description = InvalidRequest, parameter+" is invalid, expired or was revoked"
		invalid.Situation = BadSubjectToken
		return nil, &invalid
	}
	return token, err
}

// checkExchanged refuses tokens that nobody may exchange, or not in this request.
func checkExchanged(req *Request, subject *Token) error {
	switch {
	// The new token would have another client_id, and pass for that of a user of this name.
	case subject.Subject == subject.Client:
		return Refuse(InvalidRequest, "subject_token is that of a client, which is no user").
			Explain("a token of the client "+subject.Client+" for itself", "a token of a user; a client gets its own by client_credentials", "")
	case subject.Subject == req.Client.ID: // its token would pass for one of the client itself
		return Refuse(InvalidRequest, "subject_token is that of a user with the ID of this client").
			Explain("a token of the user "+subject.Subject, "a user whose ID is not that of the client", "")
	// Otherwise an exchange would turn a sender-constrained token into a bearer token.
	case !subject.Bound.IsZero() && req.Client.Binding(req.Proven).IsZero():
		return Refuse(InvalidRequest, "subject_token is bound to a key: prove a key of your own, to which the new token is bound").
			Explain("neither a DPoP proof nor a certificate that binds tokens", "a proof of the client's own key", "")
	case len(subject.Sources) > maxExchanges:
		return errTooLong("subject_token")
	case req.Tokens.Removed(req.Client.ID, subject): // otherwise the client would be back with the user's next request
		return Refuse(InvalidRequest, "the user of subject_token has removed this client").
			Explain("a token of a sign-in from before that", "a token of a sign-in or an approval since then", "")
	}
	return nil
}

// errTooLong refuses the token in a parameter, which stems from too many others.
func errTooLong(parameter string) *Error {
	return Refuse(InvalidRequest, parameter+" was exchanged too often").
		Explain("a token of one exchange after another", "fewer services in a row, actor tokens included", "")
}

// exchangeFor returns the authorization for the target that the request names, of those that the rules of the client allow for the
// subject's token.
func exchangeFor(req *Request, subject *Token) (*Authorization, error) {
	setting := "client " + req.Client.ID + ": exchange"
	var targets []string
	from := make([]string, 0, len(req.Client.Exchanges))
	for _, rule := range req.Client.Exchanges {
		from = append(from, rule.From)
		if slices.Contains(subject.Audience, rule.From) && !slices.Contains(targets, rule.To) {
			targets = append(targets, rule.To)
		}
	}
	if len(targets) == 0 {
		return nil, Refuse(InvalidRequest, "subject_token is not for this client to exchange").
			Explain("a token for "+strings.Join(subject.Audience, " "), "a token for "+strings.Join(from, " "), setting)
	}
	audience, err := ChooseAudience(append(slices.Clone(req.Form["resource"]), req.Form["audience"]...), targets)
	if err != nil {
		return nil, explainSetting(err, setting)
	}
	allowed := intersect(subject.Scopes, withoutOpenID(req.Client))
	for _, target := range audience {
		allowed = intersect(allowed, exchangeScopes(req.Client, subject, target))
	}
	scopes, err := ChooseScopes(req.Client, req.Form.Get("scope"), allowed)
	if own := withoutOpenID(req.Client); err == nil && len(allowed) == 0 && len(own) > 0 && namesAccess(subject.Scopes) {
		// Refuse instead of issuing a token without scopes, which some resource servers treat as full access.
		err = Refuse(InvalidScope, "the client may have none of the scopes of subject_token").Explain(strings.Join(subject.Scopes, " "), strings.Join(own, " "), "")
	}
	if err != nil {
		return nil, explainSetting(err, setting+", scopes; the subject_token has "+strings.Join(subject.Scopes, " "))
	}
	return &Authorization{
		Subject: subject.Subject, Scopes: scopes, Audience: audience, Claims: subject.Claims, AuthTime: subject.AuthTime,
		Session: storage.SiteSession{ACR: subject.ACR}, Family: subject.Family, Until: subject.Expires, Sources: subject.Sources,
		Actor:     &storage.Actor{Subject: req.Client.ID, Actor: subject.Actor},
		TokenType: typeAccessToken,
	}, nil
}

// exchangeScopes returns the scopes that the rules of a client allow for a target, of those of the subject's token.
func exchangeScopes(client *storage.Client, subject *Token, target string) (scopes []string) {
	for _, rule := range client.Exchanges {
		if rule.To != target || !slices.Contains(subject.Audience, rule.From) {
			continue
		}
		if len(rule.Scopes) == 0 {
			return subject.Scopes
		}
		scopes = append(scopes, rule.Scopes...)
	}
	return scopes
}

// explainSetting replaces the setting that a refusal names.
func explainSetting(err error, setting string) error {
	if refusal, ok := errors.AsType[*Error](err); ok {
		return refusal.Explain("", "", setting)
	}
	return err
}

// actFor sets the actor (RFC 8693 §4.1): the subject of actor_token, or the client itself if the request has none.
func actFor(ctx context.Context, req *Request, auth *Authorization) error {
	if !req.Form.Has("actor_token") {
		if req.Form.Has("actor_token_type") { // RFC 8693 §2.1
			return Refuse(InvalidRequest, "actor_token_type is there, and actor_token is missing")
		}
		return nil
	}
	actor, err := req.presented(ctx, "actor_token")
	if err != nil {
		return err
	}
	switch {
	case actor.Client != req.Client.ID:
		return Refuse(InvalidRequest, "actor_token was issued to another client").
			Explain("a token of the client "+actor.Client, "a token of the client "+req.Client.ID, "")
	case !actor.Bound.ProvenBy(req.Proven):
		return refuseOtherKey(Refuse(InvalidRequest, "actor_token is bound to another key"), req, actor.Bound)
	case len(actor.Sources) > maxExchanges:
		return errTooLong("actor_token")
	case actor.Known != actor.Subject: // which others must not learn
		return Refuse(InvalidRequest, "actor_token has a subject that only its client knows").
			Explain("a pairwise subject", "an actor_token of a client with public subjects", "client "+req.Client.ID+": subject_type")
	}
	auth.Actor.Subject = actor.Subject
	auth.Sources = slices.Clip(auth.Sources)
	for _, source := range actor.Sources {
		source.Subject, source.Family = cmp.Or(source.Subject, actor.Subject), cmp.Or(source.Family, actor.Family)
		auth.Sources = append(auth.Sources, source)
	}
	if actor.Expires.Before(auth.Until) {
		auth.Until = actor.Expires
	}
	return nil
}
