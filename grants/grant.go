// Package grants holds the grant types of the token endpoint, and what a further one needs.
//
// A grant type is a Caddy module in the namespace oauth.grants that implements [Grant]; its example is a grant type of a site
// of its own. Start with Grant, then read the grant type in question: each has a file of its name.
package grants

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Grant turns one kind of grant into an Authorization (RFC 6749 §4). It mints no access token and sees no
// ResponseWriter. It is used by many requests at once.
type Grant interface {
	// Type returns the grant_type value.
	Type() string

	// Exchange decides on one token request. An *Error goes to the client; any other error is the
	// server's fault and only said to be one.
	Exchange(ctx context.Context, req *Request) (*Authorization, error)
}

// Request is a token request whose client is authenticated and may use the grant type.
type Request struct {
	Issuer string // the issuer's URL
	Client *storage.Client
	// Authenticated says that the client has authenticated, with a secret or a key. Only a client that is Public may not have.
	Authenticated bool
	// Proven is the key and the TLS certificate that the client has proven to have, if any. See [storage.Client.Binding]: the access token is
	// bound to them, and so are the refresh tokens of a client that does not authenticate.
	Proven storage.Confirmation
	// Resources are those that the issuer has beside the Audience of its clients.
	Resources []string
	// Form holds the parameters of the body. None but resource stands there twice; empty ones are
	// left out (RFC 6749 §3.2).
	Form  url.Values
	Store storage.Store
	// Verifier checks user names and passwords, and throttles guessing; nil if the server has none.
	Verifier Verifier
	// Accounts asks the site about the users of refresh tokens; nil if nobody is to be asked.
	Accounts Accounts
	// Tokens reads access tokens of the issuer.
	Tokens Tokens
	// Assertions checks the assertions of issuers elsewhere.
	Assertions Assertions
	// Void reports whether the family with the record of that ID is void, by itself or with others; nil is no.
	Void func(id string, f *storage.Family) bool
	Now  time.Time
}

// Authorization is what a grant allows: the access token to make, and the refresh token to go with it.
type Authorization struct {
	Subject  string // whom the token speaks for; the client's ID if for itself
	Scopes   []string
	Audience []string
	Claims   map[string]any // further claims of the access token
	AuthTime time.Time      // when the user signed in; zero: not known
	Session  storage.Session
	Asked    storage.AskedClaims // claims beside those of the scopes
	Nonce    string              // for the ID token, if the authorization request had one

	Family  string    // the ID of the family's record, "" if there is none
	Started time.Time // when the family did: the access token is void if what began then is; zero: when it is issued

	// Ends is when the access token expires at the latest; zero is no limit but its lifetime. Actor is who acts for the subject (RFC
	// 8693 §4.1), nil for nobody. Sources are the tokens that it was exchanged for: what voids one of them voids it. TokenType is the
	// issued_token_type of the response, "" for none.
	Ends      time.Time
	Actor     *storage.Actor
	Sources   []storage.Source
	TokenType string

	// RefreshToken is the refresh token to hand out, if the grant has made or kept one. Offline asks
	// for a new family with a first one instead.
	RefreshToken string
	RefreshEnds  time.Time // when RefreshToken expires; zero: never
	Offline      bool
}

// Verifier checks the user name and the password of a person. Safe for concurrent use.
type Verifier interface {
	// Verify returns the person. A wrong name or password is ErrBadUser; with any other error it is not
	// known whether they are right.
	Verify(ctx context.Context, username, password string) (*Person, error)
}

// Person is somebody whose password was right.
type Person struct {
	Subject string
	Claims  map[string]any // for the tokens
}

// Accounts tells whether the users of refresh tokens still have an account at the site. Safe for concurrent use.
type Accounts interface {
	// Due reports whether to ask again about a user who had an account at the time last.
	Due(last, now time.Time) bool
	// Ask returns new values for claims of the user, nil for each that the user no longer has. If there is no account any more,
	// the error is ErrNoAccount; with any other error it is not known whether there is.
	Ask(ctx context.Context, a *Account) (claims map[string]any, err error)
}

// Account is the account of a user at the site, and what a client may do for that user.
type Account struct {
	Subject string
	Client  string
	Scopes  []string // that the user has approved
	Family  string   // the ID of the record of the refresh tokens
}

// ErrNoAccount says that the site has no account for a user any more.
var ErrNoAccount = errors.New("no such account")

// VerifierProvider is implemented by a grant that brings a Verifier. The server wraps it with its
// throttle and hands it back in Request.Verifier.
type VerifierProvider interface {
	ProvideVerifier() Verifier
}

// Error is a refusal: what the client may know of it, and the cause for the operator's log.
type Error struct {
	Code        string // an error code of RFC 6749 §5.2 or an extension
	Description string // for the client's developer: printable ASCII without '"' and '\'
	Status      int    // of the HTTP response; zero is 400
	Cause       error  // for the log only

	// What the operator needs to mend it, for the log only and without any secret: what the request said, what it could have
	// said, and the setting that decides.
	Sent, Expected, Setting string

	// Whose code or refresh token was refused, as far as it is known, for the log only: the ID of the record of its family, and
	// the user.
	Family, Subject string

	// Situation is what happened, more precisely than Code, for a server that is set to answer it in other words.
	Situation string
	// RetryAfter is when it makes sense to ask again, if that is known.
	RetryAfter time.Duration
}

// The situations that a configuration can give their own code and text. Any other refusal is its Code.
const (
	BadAssertion    = "bad_assertion"
	BadClient       = "bad_client"
	BadCode         = "bad_code"
	BadRefreshToken = "bad_refresh_token"
	BadSubjectToken = "bad_subject_token"
	BadUser         = "bad_user"
)

// Error codes: RFC 6749 §4.1.2.1 and §5.2, RFC 8707 §2, RFC 9449.
const (
	InvalidRequest          = "invalid_request"
	InvalidClient           = "invalid_client"
	InvalidGrant            = "invalid_grant"
	InvalidScope            = "invalid_scope"
	InvalidTarget           = "invalid_target"
	UnauthorizedClient      = "unauthorized_client"
	UnsupportedGrantType    = "unsupported_grant_type"
	UnsupportedResponseType = "unsupported_response_type"
	AccessDenied            = "access_denied"
	InvalidDPoPProof        = "invalid_dpop_proof" // RFC 9449 §5
	UseDPoPNonce            = "use_dpop_nonce"     // RFC 9449 §8
	ServerError             = "server_error"
	TemporarilyUnavailable  = "temporarily_unavailable"
)

// Codes are all the error codes of the token endpoint.
var Codes = []string{
	InvalidRequest, InvalidClient, InvalidGrant, InvalidScope, InvalidTarget, UnauthorizedClient,
	UnsupportedGrantType, InvalidDPoPProof, UseDPoPNonce, ServerError, TemporarilyUnavailable,
}

// Refuse returns an Error without a cause beyond what it says.
func Refuse(code, description string) *Error {
	return &Error{Code: code, Description: description}
}

// Explain returns a copy of the error that says more in the log: what was sent, what was expected, and which setting decides.
// None of them may be a secret. An empty one keeps what the error says already.
func (e *Error) Explain(sent, expected, setting string) *Error {
	explained := *e
	explained.Sent, explained.Expected = cmp.Or(sent, e.Sent), cmp.Or(expected, e.Expected)
	explained.Setting = cmp.Or(setting, e.Setting)
	return &explained
}

// because returns a copy of the error with a cause.
func (e *Error) because(cause string) *Error {
	explained := *e
	explained.Cause = errors.New(cause)
	return &explained
}

// about returns a copy of the error that says whose code or refresh token was refused.
func (e *Error) about(family, subject string) *Error {
	explained := *e
	explained.Family, explained.Subject = family, subject
	return &explained
}

func (e *Error) Error() string {
	s := e.Code
	if e.Description != "" {
		s += ": " + e.Description
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Cause }

// HTTPStatus returns the status of the response.
func (e *Error) HTTPStatus() int {
	if e.Status == 0 {
		return http.StatusBadRequest
	}
	return e.Status
}

// Replay is the Cause of an Error when a used code or refresh token was presented again. The caller of the grant then ends the
// family.
type Replay struct {
	What    string // "authorization code" or "refresh token"
	Family  string // the ID of its record
	Client  string
	Subject string
}

func (r *Replay) Error() string {
	return r.What + " of family " + r.Family + " of client " + r.Client + " and subject " + r.Subject + " used again"
}

// Closed is the Cause of an Error when the site says that the user of a refresh token has no account any more. The caller of
// the grant then ends the family.
type Closed struct {
	Account *Account
	Err     error // what the site said
}

func (c *Closed) Error() string { return c.Err.Error() }

func (c *Closed) Unwrap() error { return c.Err }

// Ended is the Cause of an Error when something of a revoked family is presented. The caller of the grant then makes sure that
// the family has ended: whoever revoked it may have failed half way.
type Ended struct {
	Family  string    // the ID of its record
	Revoked time.Time // when its record became a tombstone; zero: it did not, and Request.Void says that the family is void
	Reason  string
}

func (e *Ended) Error() string {
	if e.Revoked.IsZero() {
		return "family " + e.Family + " is void: it was revoked, or all tokens of its user or its client were"
	}
	return "family " + e.Family + " was revoked at " + e.Revoked.UTC().Format(time.RFC3339) + ": " + e.Reason
}
