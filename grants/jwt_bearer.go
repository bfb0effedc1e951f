package grants

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

func init() {
	caddy.RegisterModule(new(JWTBearer))
}

// JWTBearer exchanges an assertion, a JWT about a user that a trusted issuer has signed, for an access token (RFC 7523 §2.1). One
// kind of assertion is the ID-JAG (draft-ietf-oauth-identity-assertion-authz-grant): with it, the identity provider of a company
// lets an app, such as an AI agent, act for its employees without a consent page.
//
// The client must authenticate, and each assertion works once. There is no refresh token: the client gets a new assertion.
//
// **Danger:** the issuers that are listed here decide who somebody is at this site, within `subjects`. Whoever has a key of theirs can act
// as any of these users.
type JWTBearer struct {
	// The issuers that are trusted, by their URL, as their assertions have it in `iss`.
	Issuers map[string]*TrustedIssuer `json:"issuers,omitempty"`

	trusted []AssertionIssuer
}

// CaddyModule returns the Caddy module information.
func (*JWTBearer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "oauth.grants.jwt_bearer",
		New: func() caddy.Module { return new(JWTBearer) },
	}
}

// JWTBearerType is the grant_type of JWTBearer.
const JWTBearerType = "urn:ietf:params:oauth:grant-type:jwt-bearer"

// Type implements Grant.
func (*JWTBearer) Type() string { return JWTBearerType }

// Profiler is implemented by a grant that has profiles, such as the one of ID-JAGs.
type Profiler interface {
	// Profiles returns their names, for authorization_grant_profiles_supported in the metadata.
	Profiles() []string
}

// ProfileIDJAG is the name of the profile of ID-JAGs in the metadata.
const ProfileIDJAG = "urn:ietf:params:oauth:grant-profile:id-jag"

// Profiles implements Profiler. It does not tell which issuers are trusted.
func (g *JWTBearer) Profiles() []string {
	for _, from := range g.Issuers {
		if from.IDJAG {
			return []string{ProfileIDJAG}
		}
	}
	return nil
}

// Assertions checks the assertions of issuers elsewhere. Safe for concurrent use.
type Assertions interface {
	// Check returns what an assertion says, if one of the trusted issuers has made it for this issuer, and if it is valid now. If it is
	// not, the error is an *Error; with any other error it is not known.
	Check(ctx context.Context, assertion string, trusted []AssertionIssuer) (*Assertion, error)
	// Accept notes that an assertion was used for a user of this site, on all nodes. If it was used before, or if nobody can have this
	// user ID, the error is an *Error.
	Accept(ctx context.Context, a *Assertion, subject string) error
}

// AssertionIssuer is an issuer elsewhere, with its keys.
type AssertionIssuer struct {
	URL     string
	JWKS    json.RawMessage // a JWK set; without it, JWKSURI is the URL of one
	JWKSURI string
	IDJAG   bool // all its assertions are ID-JAGs; otherwise none is
}

// Assertion is what a good assertion says.
type Assertion struct {
	Issuer  string
	Subject string // as the issuer knows the user
	Client  string // that the assertion is for; "" if it does not say
	ID      string
	Expires time.Time
	Claims  map[string]any       // all of them
	Bound   storage.Confirmation // the key that the client must prove to have
}

// RefuseAssertion returns the refusal of an assertion. The client does not learn what is wrong; the log does: what it says, what was
// expected, and the setting of the issuer that decides.
func RefuseAssertion(sent, expected, issuer, setting string) *Error {
	path := "grant jwt_bearer"
	if issuer != "" {
		path += ": issuer " + issuer
	}
	if setting != "" {
		path += ": " + setting
	}
	return errBadAssertion.Explain(sent, expected, path)
}

var errBadAssertion = &Error{Code: InvalidGrant, Description: "the assertion was refused", Situation: BadAssertion}

// Exchange implements Grant.
func (g *JWTBearer) Exchange(ctx context.Context, req *Request) (*Authorization, error) {
	if !req.Authenticated {
		return nil, Refuse(UnauthorizedClient, "an assertion needs a client that authenticates").
			Explain("no client authentication", "a client that authenticates", "client "+req.Client.ID+": secret, jwks")
	}
	text := req.Form.Get("assertion")
	if text == "" {
		return nil, Refuse(InvalidRequest, "assertion is missing")
	}
	a, err := req.Assertions.Check(ctx, text, g.trusted)
	if err != nil {
		return nil, err
	}
	from := g.Issuers[a.Issuer]
	subject, err := from.subject(a, req)
	if err != nil {
		return nil, err
	}
	scopes, audience, err := from.choose(a, req)
	if err != nil {
		return nil, err
	}
	claims, err := askAccount(ctx, req, subject, scopes)
	if err != nil {
		return nil, err
	}
	if err := req.Assertions.Accept(ctx, a, subject); err != nil {
		return nil, err
	}
	return &Authorization{Subject: subject, Scopes: scopes, Audience: audience, Claims: claims}, nil
}

// subject returns the user of this site whom an assertion is about, if the issuer may speak for that user, to this client.
func (t *TrustedIssuer) subject(a *Assertion, req *Request) (string, error) {
	refuse := func(sent, expected, setting string) (string, error) {
		return "", RefuseAssertion(sent, expected, a.Issuer, setting)
	}
	switch {
	case a.Client != req.Client.ID && (t.IDJAG || a.Client != ""): // of an ID-JAG, it is required
		return refuse("client_id "+a.Client, "client_id "+req.Client.ID+", of the client that brings the assertion", "")
	case len(t.Clients) > 0 && !slices.Contains(t.Clients, req.Client.ID):
		return refuse("an assertion that the client "+req.Client.ID+" brings", "one of the clients "+strings.Join(t.Clients, ", "), "clients")
	case !a.Bound.IsZero() && !a.Bound.ProvenBy(req.Client.Binding(req.Proven)):
		return refuse("an assertion that is bound to another key", "a proof of the key in its cnf", "")
	case a.Claims["authorization_details"] != nil: // nobody here understands it, and it may narrow what the client can do
		return refuse("the claim authorization_details", "an assertion without it", "")
	}
	subject := a.Subject
	if t.Map == "email" {
		email, _ := a.Claims["email"].(string)
		switch verified, there := a.Claims["email_verified"]; {
		case strings.Count(email, "@") != 1:
			return refuse("email "+email, "an email address", "map")
		case there && verified != true:
			return refuse("an email address that is not verified", "email_verified true, or no such claim", "map")
		}
		subject = email
	}
	switch {
	case !slices.ContainsFunc(t.Subjects, func(pattern string) bool { return matchSubject(pattern, subject) }):
		return refuse("the user "+subject, strings.Join(t.Subjects, " "), "subjects")
	case subject == req.Client.ID: // its token would pass for one of the client itself
		return refuse("the user "+subject, "a user, and not the client", "subjects")
	}
	return subject, nil
}

// matchSubject reports whether a subject is one of those that a pattern means: an asterisk stands for any characters.
func matchSubject(pattern, subject string) bool {
	before, after, wild := strings.Cut(pattern, "*")
	if !wild {
		return subject == pattern
	}
	return len(subject) >= len(before)+len(after) && strings.HasPrefix(subject, before) && strings.HasSuffix(subject, after)
}

// choose returns the scopes and the resources of the token: those that the request asks for, of those that the assertion names, the
// issuer may give, and the client may have.
func (t *TrustedIssuer) choose(a *Assertion, req *Request) (scopes, audience []string, err error) {
	allowed := withoutOpenID(req.Client)
	if own := allowed; len(t.Scopes) > 0 {
		// Refuse instead of issuing a token without scopes, which some resource servers treat as full access.
		if allowed = intersect(own, t.Scopes); len(allowed) == 0 && len(own) > 0 {
			return nil, nil, Refuse(InvalidScope, "the client may have none of the scopes that the issuer of the assertion can give").
				Explain(strings.Join(t.Scopes, " "), strings.Join(own, " "), "grant jwt_bearer: issuer "+a.Issuer+": scopes")
		}
	}
	if claim, there := a.Claims["scope"]; there {
		named, ok := claim.(string)
		if !ok {
			return nil, nil, RefuseAssertion("a scope that is no text", "scopes with spaces between them", a.Issuer, "")
		}
		if allowed = intersect(allowed, strings.Fields(named)); len(allowed) == 0 && named != "" {
			return nil, nil, req.ofClient(Refuse(InvalidScope, "the client may have none of the scopes of the assertion").
				Explain(named, strings.Join(req.Client.Scopes, " "), "scopes"))
		}
	}
	if scopes, err = ChooseScopes(req.Client, req.Form.Get("scope"), allowed); err != nil {
		return nil, nil, req.ofClient(err)
	}
	claim, there := a.Claims["resource"]
	named, ok := textsOf(claim)
	switch {
	case there && !ok:
		return nil, nil, RefuseAssertion("a resource that is neither a text nor a list of them", "URIs", a.Issuer, "")
	case there:
		if audience, err = ChooseAudience(named, req.Client.Audience, req.otherResources()...); err == nil {
			audience, err = ChooseAudience(req.Form["resource"], audience)
		}
	default:
		audience, err = ChooseAudience(req.Form["resource"], req.Client.Audience, req.otherResources()...)
	}
	return scopes, audience, req.ofClient(err)
}

// textsOf returns a claim that is a text or a list of texts, and false for anything else.
func textsOf(claim any) ([]string, bool) {
	if text, ok := claim.(string); ok {
		return []string{text}, true
	}
	list, ok := claim.([]any)
	texts := make([]string, 0, len(list))
	for _, element := range list {
		text, isText := element.(string)
		texts, ok = append(texts, text), ok && isText
	}
	return texts, ok && len(texts) > 0
}

// askAccount asks the site whether the user has an account, if that is configured, and returns the claims in the answer. It changes
// nothing in the store, so the client can repeat a request that fails because the site did not answer.
func askAccount(ctx context.Context, req *Request, subject string, scopes []string) (map[string]any, error) {
	if req.Accounts == nil {
		return nil, nil
	}
	claims, err := req.Accounts.Ask(ctx, &Account{Subject: subject, Client: req.Client.ID, Scopes: scopes})
	switch {
	case errors.Is(err, ErrNoAccount):
		refusal := errBadAssertion.Explain("the user "+subject, "a user who has an account at the site", "refresh_check")
		refusal.Cause, refusal.Subject = err, subject
		return nil, refusal
	case err != nil:
		return nil, &Error{
			Code: TemporarilyUnavailable, Description: "the server cannot answer now, try again later",
			Status: http.StatusServiceUnavailable, Setting: "refresh_check", Cause: err, Subject: subject,
		}
	}
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	return claims, nil
}
