// Package grants holds the grant types of the token endpoint, and what a further one needs.
//
// A grant type is a Caddy module in the namespace oauth.grants that implements [Grant], and that an init function registers with
// caddy.RegisterModule. In a Caddyfile, `grant <name>` adds it to an issuer, with the last part of the module's ID as the name, and
// `grant_types` lets a client use it, by what Type returns. The example of Grant is a grant type of a site of its own.
//
// Start with Grant, then read the grant type in question: each has a file of its name. The other files are what they share:
// refusals (error.go), the families of tokens behind codes and refresh tokens (family.go), scopes and resources (scope.go), and the
// questions to the site (site.go, password_site.go, refresh_check.go).
package grants

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Grant turns one kind of grant into an Authorization (RFC 6749 §4). It mints no access token and sees no
// ResponseWriter. It is used by many requests at once.
type Grant interface {
	// Type returns the grant_type value.
	Type() string

	// Exchange decides on one token request. An *Error is sent to the client. Of any other error the client learns only that the
	// server failed.
	Exchange(ctx context.Context, req *Request) (*Authorization, error)
}

// Request is a token request whose client is authenticated and may use the grant type.
type Request struct {
	Issuer string // the issuer's URL
	Client *storage.Client
	// Authenticated is whether the client has authenticated, with a secret, a key or a certificate. It is always true for a client that is not
	// Public.
	Authenticated bool
	// Proven is the key and the TLS certificate that the client has proven to have, if any. See [storage.Client.Binding]: the access token is
	// bound to them, and so are the refresh tokens of a client that does not authenticate.
	Proven storage.Confirmation
	// Resources are those that the issuer has beside the Audience of its clients.
	Resources []string
	// Form holds the parameters of the body. None stands there twice but resource and, in a token exchange, audience; empty ones are
	// left out (RFC 6749 §3.2).
	Form  url.Values
	Store storage.Store
	// Verifier checks user names and passwords, and throttles guessing; nil if the server has none.
	Verifier Verifier
	// Accounts asks the site about the users of refresh tokens and assertions; nil if nobody is to be asked.
	Accounts Accounts
	// Tokens reads access tokens of the issuer.
	Tokens Tokens
	// Assertions checks the assertions of issuers elsewhere.
	Assertions Assertions
	// IsVoid reports whether a family was revoked, alone or with all that its user or its client has. id is the ID of its record. nil: no
	// family was.
	IsVoid func(id string, f *storage.Family) bool
	Now    time.Time
}

// Authorization is what a grant allows: the access token to make, and the refresh token to go with it.
type Authorization struct {
	Subject  string // the sub of the token; the client ID if the client acts for itself
	Scopes   []string
	Audience []string       // see [ChooseAudience]; empty: no aud, and as a rule no guard accepts the token
	Claims   map[string]any // further claims of the access token
	AuthTime time.Time      // when the user signed in; zero: not known
	Session  storage.SiteSession
	Asked    storage.AskedClaims // claims beside those of the scopes
	Nonce    string              // for the ID token, if the authorization request had one

	Family  string    // the ID of the family's record, "" if there is none
	Started time.Time // when the family started: a revocation of what began up to then voids the access token; zero: when that is issued
	Until   time.Time // when the access token expires at the latest; zero: after its lifetime

	// Of a token exchange (RFC 8693).
	Actor     *storage.Actor   // who acts for the subject (§4.1); nil: nobody
	Sources   []storage.Source // the tokens that it was exchanged for: what voids one of them voids the access token
	TokenType string           // the issued_token_type of the response (§2.2.1), "" for none

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
	// the error is ErrNoAccount; with any other error it is not known whether there is. In the grants refresh_token
	// and jwt_bearer, ctx leaves time for the site's answer; in any other one, it ends when the request may wait for the store no longer.
	Ask(ctx context.Context, a *Account) (claims map[string]any, err error)
}

// Account is the account of a user at the site, and what a client may do for that user.
type Account struct {
	Subject string
	Client  string
	Scopes  []string // that the user has approved
	Family  string   // the ID of the record of the refresh tokens; "" for an assertion
}

// ErrNoAccount says that the site has no account for a user any more.
var ErrNoAccount = errors.New("no such account")

// VerifierProvider is implemented by a grant that brings a Verifier. The server wraps it with its
// throttle and hands it back in Request.Verifier.
type VerifierProvider interface {
	ProvideVerifier() Verifier
}

// token returns the value of a parameter without prefix. A parameter that is missing is an invalid_request; the error for a value that
// does not have the prefix is bad. setting is that of the prefix, for the log.
func (req *Request) token(parameter, prefix, setting string, bad *Error) (string, error) {
	value := req.Form.Get(parameter)
	if value == "" {
		return "", Refuse(InvalidRequest, parameter+" is missing")
	}
	token, ok := strings.CutPrefix(value, prefix)
	if !ok {
		cause := neverIssued(value)
		if parameter == kindOf(value) {
			cause = "without the prefix"
		}
		return "", bad.because(cause).Explain("no prefix", prefix, setting)
	}
	return token, nil
}

// kindOf returns the name of a kind of token, such as refresh_token, "" if a text is of no kind that is issued here.
func kindOf(text string) string {
	_, code := storage.CodeKey(text)
	_, refresh := storage.RefreshKey(text)
	_, access := storage.AccessKey(text)
	_, device := storage.DeviceKey(text)
	switch {
	case code:
		return "code"
	case refresh:
		return "refresh_token"
	case access:
		return "access_token"
	case device:
		return "device_code"
	}
	return ""
}

// neverIssued describes, for the log, a token of the wrong kind, such as a refresh token that was sent as a code.
func neverIssued(text string) string {
	switch kindOf(text) {
	case "code":
		return "never issued as one: it is an authorization code"
	case "refresh_token":
		return "never issued as one: it is a refresh token"
	case "access_token":
		return "never issued as one: it is an opaque access token"
	case "device_code":
		return "never issued as one: it is a device code"
	}
	if strings.HasPrefix(text, "eyJ") {
		return "never issued as one: it is a JWT"
	}
	return fmt.Sprintf("never issued here, or damaged on its way: %d characters", len(text))
}
