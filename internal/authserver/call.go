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
	// ClientIP returns the address of the client as the site trusts it.
	ClientIP(r *http.Request) string
}

// LoginRequest sends a person to the site's login page.
type LoginRequest struct {
	ReturnTo string     // the path and query of this site that the page sends the person back to
	Again    bool       // somebody is signed in, and must sign in anew
	Hints    url.Values // parameters for the page; nil: none
}

// Noter is a Site that wants to know what requests were about, for a log of its own.
type Noter interface {
	// Note is called after a request was answered, with its client and its grant type, "" if it had none, and whether the
	// client got an authorization code. Client and grant type are IDs that the server knows, and not text from the request.
	Note(r *http.Request, clientID, grantType string, code bool)
}

// Logouter is a Site that can sign people out.
type Logouter interface {
	// LogoutURL returns the URL of the page where the site signs a person out, who is to return to the given path and query of this
	// site, or "" if the site has no such page.
	LogoutURL(returnTo string) string
}

// Certifier is a Site that knows more of the certificates of clients than the TLS connections do: it is behind a proxy.
type Certifier interface {
	// Certificate returns the certificate by which the client of a request has authenticated its connection, nil if there is none. An
	// error says what is wrong with what was sent for it.
	Certificate(r *http.Request) (*mtls.Certificate, error)
}

// User is a person who is signed in to the site.
type User struct {
	Subject string
	Claims  map[string]any // for the tokens

	AuthTime  time.Time // when the person signed in; zero: the site does not tell
	Session   storage.Session
	ACRValues []string // those that a session at the site can have, lowest first; none: not known
}

// call is one request at an endpoint. The last fields are for the log and the metrics, and the endpoint sets them as it
// learns them.
type call struct {
	w       http.ResponseWriter
	r       *http.Request
	site    Site
	address string // of the client, as the site trusts it

	ctx   context.Context // has the deadline; r.Context() has none, since r.WithContext would copy the request
	limit *deadline       // of ctx; nil: none yet
	proof *dpop.Proof     // of a key that the client has; nil: none

	proven storage.Confirmation // the key and the certificate that the client has, see checkPossession

	named   clients.Named   // the client that the request says it comes from
	client  *storage.Client // if known; at the endpoints that authenticate clients, once it is authenticated
	grant   string          // a grant type this server has
	subject string          // who is signed in
	code    bool            // the client got an authorization code
	result  string          // "ok" or an error code
	errorID string          // of a failure
}

func newCall(ctx context.Context, r *http.Request, address string) *call {
	return &call{r: r, address: address, ctx: ctx}
}

// setDeadline limits how long the call may wait for the store from now on, in all. An endpoint sets it when it has done
// what can take long for other reasons, such as reading the body and comparing a slow hash of a secret. Until then, each
// operation of the store has the limit.
func (c *call) setDeadline(timeout time.Duration) {
	c.limit = &deadline{Context: c.ctx, at: time.Now().Add(timeout)}
	c.ctx = c.limit
}

// end releases what the call holds.
func (c *call) end() {
	if c.limit != nil {
		c.limit.stop()
	}
}

// Certificate implements clients.Peer.
func (c *call) Certificate() (*mtls.Certificate, error) {
	if site, ok := c.site.(Certifier); ok {
		return site.Certificate(c.r)
	}
	return mtls.OfConnection(c.r.TLS), nil
}

func (c *call) clientID() string {
	if c.client == nil {
		return ""
	}
	return c.client.ID
}

// isKnown reports whether the owner has added the client of a request, and it has authenticated. Anybody can ask in the name of a public
// client, and can register a client with a secret.
func (c *call) isKnown() bool { return c.named.Method != "" && c.client.Origin == "" }

// asRefusal returns what the client may know of an error.
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
