package authserver

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// authorizeEndpoint is the authorization endpoint (RFC 6749 §3.1). It asks the site who is signed in, asks that person for
// consent if necessary, and redirects the browser to the client with a code or an error.
type authorizeEndpoint struct{ *core }

// serve answers an authorization request, or what a person has posted from the consent page.
func (e *authorizeEndpoint) serve(c *call) error {
	params, err := readAuthorizeParams(c.w, c.r)
	c.setDeadline(e.config.StoreTimeout)
	var repeated *wire.RepeatedError
	switch {
	case errors.As(err, &repeated) && !repeated.Has("client_id") && !repeated.Has("redirect_uri"):
		params = repeated.Rest
	case err != nil:
		return err
	case c.r.Method == http.MethodPost && params.Has("request") && params.Has("decision"):
		return e.answer(c, params)
	}
	client, toSignIn, uncertain := e.findClient(c, params)
	if toSignIn {
		return e.signInFirst(c, params)
	}
	var to answerTo
	if client != nil {
		to, uncertain = e.findAnswerTo(client, params)
	}
	c.client, c.named = client, clients.Named{ID: params.Get("client_id"), Client: client}
	switch {
	case uncertain != nil:
		return uncertain
	case err != nil:
		return toClient(err, to)
	}
	return toClient(e.decide(c, client, to, params), to)
}

// decide handles a request whose client and redirect URI are valid.
func (e *authorizeEndpoint) decide(c *call, client *storage.Client, to answerTo, params url.Values) error {
	req, err := e.checkAuthorizeRequest(client, to, params)
	if err != nil {
		return err
	}
	user, err := e.signedIn(c, req)
	if err != nil {
		return err
	}
	if user == nil {
		return e.signIn(c, req)
	}
	if err := e.cutoffs.Sync(c.ctx); err != nil { // so that no revocation before voids what begins here
		return err
	}
	ask, err := e.mustAsk(c, req, user)
	if err != nil {
		return err
	}
	switch {
	case ask && slices.Contains(req.prompt, "none"):
		return &redirectError{grants.Refuse("consent_required", "the user has not approved this").
			Explain("prompt=none", "an approval of the same scopes and resources", "client "+client.ID+": consent"), to}
	case ask:
		return e.ask(c, req, user)
	}
	return e.approve(c, req, user)
}

// signedIn returns the user, or nil if the person must sign in, perhaps again (prompt=login). The site does not tell when a person
// has signed in. So it is only known that somebody did who was sent to the login page if then nobody or somebody else was
// signed in. Otherwise the person may just have come back, and the client gets an error (OpenID Connect Core §3.1.2.1).
func (e *authorizeEndpoint) signedIn(c *call, req *authorizeRequest) (*User, error) {
	user, err := e.user(c)
	if user == nil || err != nil || !slices.Contains(req.prompt, "login") {
		return user, err
	}
	before, returns := e.returnsFromLogin(c.ctx, req)
	switch {
	case !returns:
		return nil, nil
	case before == user.Subject:
		return nil, &redirectError{
			grants.Refuse("login_required", "this site does not tell whether the user has signed in again").
				Explain("prompt=login, and the user was signed in before", "that the user signs out first", "login of the oauth directive"),
			req.answerTo,
		}
	}
	return user, nil
}

// signIn sends the person to the site's login page. If the site has none, the response is 401, so that basic_auth or
// another directive of the site can ask for credentials. The client gets an error if the person must not be asked
// (prompt=none), or must be and cannot (prompt=login without a login page).
func (e *authorizeEndpoint) signIn(c *call, req *authorizeRequest) error {
	if slices.Contains(req.prompt, "none") {
		return &redirectError{grants.Refuse("login_required", "the user is not signed in").
			Explain("prompt=none", "a user", "user of the oauth directive"), req.answerTo}
	}
	returnTo, err := e.returnTo(c, req)
	if err != nil {
		return err
	}
	if login := c.site.LoginURL(returnTo); login != "" {
		redirect(c.w, login)
		return nil
	}
	if slices.Contains(req.prompt, "login") {
		return &redirectError{grants.Refuse("login_required", "this site cannot ask the user to sign in again").
			Explain("prompt=login", "a login page", "login of the oauth directive"), req.answerTo}
	}
	return &grants.Error{
		Code: "login_required", Description: "you are not signed in", Status: http.StatusUnauthorized,
		Cause:   errors.New("the site names no user; put its login before this endpoint, or set login"),
		Setting: "user and login of the oauth directive",
	}
}

// signInFirst is signIn for a request whose client is not known yet, so that no error can go to it.
func (e *authorizeEndpoint) signInFirst(c *call, params url.Values) error {
	prompt, _ := readPrompt(params.Get("prompt"))
	req := &authorizeRequest{params: params, prompt: prompt}
	err := e.signIn(c, req)
	if refusal, ok := errors.AsType[*redirectError](err); ok {
		return refusal.refusal
	}
	return err
}

// afterLogin is a parameter of the URL to which the login page returns. It proves that the person was sent to the login
// page for this request, and says who was signed in then.
const afterLogin = "after_login"

// maxLogin is how long a person may take to sign in.
const maxLogin = time.Hour

// returnTo returns the path and query to which the login page returns. It is always the authorization endpoint, so a
// client cannot make the login page an open redirector.
func (e *authorizeEndpoint) returnTo(c *call, req *authorizeRequest) (string, error) {
	params := withoutProof(req.params)
	if slices.Contains(req.prompt, "login") {
		proof, err := e.sealer.seal(c.ctx, afterLogin, c.subject+"\n"+params.Encode(), maxLogin)
		if err != nil {
			return "", err
		}
		params.Set(afterLogin, proof)
	}
	return e.config.Paths.Authorize + "?" + params.Encode(), nil
}

// returnsFromLogin reports whether the person comes from the login page with this same request, and who was signed in before, ""
// if nobody was.
func (e *authorizeEndpoint) returnsFromLogin(ctx context.Context, req *authorizeRequest) (before string, returns bool) {
	proof := req.params.Get(afterLogin)
	if proof == "" {
		return "", false
	}
	sent, err := e.sealer.open(ctx, afterLogin, proof)
	if err != nil {
		return "", false
	}
	before, params, _ := strings.Cut(sent, "\n")
	return before, params == withoutProof(req.params).Encode()
}

func withoutProof(params url.Values) url.Values {
	rest := maps.Clone(params)
	delete(rest, afterLogin)
	return rest
}

// errClientAsUser refuses a user whose ID is that of a client that nobody added. A token of both says that the client acts for itself, and
// a guard would let it in without a user (RFC 9700 §4.15). Anybody can register a client, and then take its ID as the name of an account.
var errClientAsUser = grants.Refuse(grants.AccessDenied, "this account cannot be used with this app").
	Explain("a user whose ID is the client ID", "another user ID", "user of the oauth directive")

// approve issues a code and sends it to the client.
func (e *authorizeEndpoint) approve(c *call, req *authorizeRequest, user *User) error {
	client := req.client
	if client.Origin != "" && user.Subject == client.ID {
		return errClientAsUser
	}
	if err := e.cutoffs.Cover(c.ctx, lifetimesOf(client)); err != nil {
		return err
	}
	now := e.now()
	f := &storage.Family{
		Client:   client.ID,
		Subject:  user.Subject,
		Scopes:   req.scopes,
		Audience: req.audience,
		Claims:   user.Claims,
		AuthTime: user.AuthTime,
		Session:  user.Session,
		Started:  e.cutoffs.Begin(user.Subject, client.ID, now),
		Code: &storage.Code{
			Expires:       now.Add(client.CodeLifetime),
			RedirectURI:   req.redirectURI,
			RedirectSent:  req.redirectSent,
			Challenge:     req.challenge,
			Nonce:         req.params.Get("nonce"),
			Offline:       client.MayUse("refresh_token"),
			RefreshLength: client.RefreshToken.Length,
		},
	}
	f.Ends = f.Code.Expires
	if f.Code.Offline {
		f.Ends = client.RefreshToken.Ends(now)
		f.Code.Expires = client.RefreshToken.EndsCode(f.Code.Expires, now)
	}
	code, err := e.issueCode(c, f)
	if err != nil {
		return err
	}
	return e.respondCode(c, req.answerTo, client.CodePrefix+code)
}

// issueCode starts a family with a code, unless its user has got too many for the client.
func (e *authorizeEndpoint) issueCode(c *call, f *storage.Family) (string, error) {
	count, wait := e.limiter.ReserveFamily(throttle.Code, familyAccount(f.Client, f.Subject))
	if count == nil {
		return "", e.tooManyCodes(wait)
	}
	// Until when the tokens of the code live, so that its exchange, which cannot be repeated, need not write this.
	until := f.Code.Expires
	if f.Code.Offline {
		until = c.client.RefreshToken.KeptUntil(e.now())
	}
	if err := e.clients.InUse(c.ctx, c.client, until); err != nil {
		count.Canceled()
		return "", err
	}
	code, key := f.IssueCode()
	record, err := f.Encode()
	if err == nil {
		err = e.config.Store.Put(c.ctx, key, record, f.Code.Expires)
	}
	if err != nil {
		count.Canceled()
		return "", err
	}
	if e.sweeps {
		e.config.Codes.add(e.config.Name, key, f.Code.Expires)
	}
	c.code = true
	e.events.record(&Event{
		Name: eventCodeIssued, Address: c.address, Client: f.Client, Subject: f.Subject, Family: key.ID, Scopes: f.Scopes,
	})
	return code, nil
}

// familyAccount returns the account that the throttle counts families by: the hash of a user and a client, since both may be long.
func familyAccount(client, subject string) string {
	return storage.HashID(client + "\x00" + subject)
}

// tooManyCodes returns the refusal of a code: of the errors of RFC 6749 §4.1.2.1, the one that tells the client to come
// back later.
func (s *core) tooManyCodes(wait time.Duration) *grants.Error {
	refusal := &grants.Error{
		Code: grants.TemporarilyUnavailable, Description: "this user has got too many codes for this app, try again later",
		Status: http.StatusTooManyRequests, RetryAfter: wait,
	}
	return refusal.Explain("", s.limiter.CodeLimits(), "throttle: codes")
}
