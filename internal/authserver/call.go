package authserver

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/dpop"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Site is what the site around the server knows of a request.
type Site interface {
	// User returns who is signed in, nil if nobody is.
	User(r *http.Request) (*User, error)
	// LoginURL returns the URL of the page of the site where a person signs in, or "" if the site has no such page.
	LoginURL(to LoginRequest) string
}

// LoginRequest sends a person to the site's login page.
type LoginRequest struct {
	ReturnTo string     // the path and query of this site that the page sends the person back to
	Again    bool       // somebody is signed in, and must sign in anew
	Hints    url.Values // parameters for the page; nil: none
}

// Logouter is a Site that can sign people out.
type Logouter interface {
	// LogoutURL returns the URL of the page where the site signs a person out, who is to return to the given path and query of this
	// site, or "" if the site has no such page.
	LogoutURL(returnTo string) string
}

// User is a person who is signed in to the site.
type User struct {
	Subject string
	Claims  map[string]any // for the tokens

	AuthTime  time.Time // when the person signed in; zero: the site does not tell
	Session   storage.SiteSession
	ACRValues []string // those that a session at the site can have, lowest first; none: not known
}

// call is one request at an endpoint, and what the endpoint learns of it. The fields from subject on are for the log, the metrics and the
// events.
type call struct {
	w    http.ResponseWriter
	r    *http.Request
	site Site
	peer mtls.Peer

	ctx      context.Context // has the deadline; r.Context() has none, since r.WithContext would copy the request
	deadline *deadline       // of ctx; nil: none yet

	named  clients.NamedClient  // the client that the request says it comes from
	client *storage.Client      // if known; at the endpoints that authenticate clients, once it is authenticated
	grant  string               // a grant type this server has
	proof  *dpop.Proof          // of a key that the client has; nil: none
	proven storage.Confirmation // the key and the certificate that the client has, see checkPossession

	subject string // who is signed in
	code    bool   // the client got an authorization code
	result  string // "ok" or an error code
	errorID string // of a failure
}

// isKnown reports whether the owner has added the client of a request, and it has authenticated. Anybody can ask in the name of a public
// client, and can register a client with a secret.
func (c *call) isKnown() bool { return c.authenticated() && c.client.Origin == "" }

// authenticated reports whether the client has authenticated, with a secret, a key or a certificate.
func (c *call) authenticated() bool { return c.named.Method != "" }

// readAuthorizeParams reads the parameters of an authorization request, a GET or a POST (RFC 6749 §3.1).
func readAuthorizeParams(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if r.Method == http.MethodPost {
		return wire.ReadForm(w, r)
	}
	return wire.ReadQuery(r)
}

// list is a setting with several values, for the log.
func list(values []string) string {
	if len(values) == 0 {
		return "none"
	}
	return strings.Join(values, " ")
}

// asRefusal returns what the client may know of an error: of any that is no [grants.Error], only that the server has failed, with 503.
func asRefusal(err error) *grants.Error {
	if refusal, ok := errors.AsType[*grants.Error](err); ok {
		return refusal
	}
	description := "the server cannot answer now, try again later"
	if errors.Is(err, storage.ErrReadOnly) {
		description = "the issuer is read-only at the moment, try again later"
	}
	return &grants.Error{
		Code:        grants.TemporarilyUnavailable,
		Description: description,
		Status:      http.StatusServiceUnavailable,
		Cause:       err,
	}
}
