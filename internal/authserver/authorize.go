package authserver

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"slices"
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
	decided := c.r.Method == http.MethodPost && params.Has("request") && params.Has("decision")
	if decided || !params.Has("request") { // otherwise the keys of a request object may have to be fetched first
		c.setDeadline(e.config.StoreTimeout)
	}
	repeated, _ := errors.AsType[*wire.RepeatedError](err)
	switch {
	case repeated != nil && !repeated.Has("client_id") && !repeated.Has("redirect_uri"):
		params = repeated.Rest
	case err != nil:
		return err
	case decided:
		return e.answer(c, params)
	}
	pushed := ""
	if uri := params.Get("request_uri"); storage.IsPushedURI(uri) {
		c.named = clients.NamedClient{ID: params.Get("client_id")}
		if params, err = e.pushed(c, params); err != nil {
			return err
		}
		pushed = uri
	}
	client, toSignIn, uncertain := e.findClient(c, params)
	if toSignIn {
		return e.signInFirst(c, params, pushed)
	}
	c.client, c.named = client, clients.NamedClient{ID: params.Get("client_id"), Client: client}
	var brought requestObject
	if client != nil && pushed == "" && params.Has("request") && client.SignsRequests() {
		var problem, fatal error
		if params, brought, problem, fatal = e.openRequest(c, client, params); fatal != nil {
			return fatal
		}
		err = cmp.Or(err, problem)
	}
	if c.limit == nil {
		c.setDeadline(e.config.StoreTimeout)
	}
	var to answerTo
	if client != nil {
		to, uncertain = e.findAnswerTo(client, params)
	}
	switch {
	case uncertain != nil:
		return uncertain
	case err != nil:
		return toClient(err, to)
	}
	if err := cmp.Or(e.checkPushed(client, pushed), e.checkSigned(client, pushed != "" || brought.object != "")); err != nil {
		return toClient(err, to)
	}
	return toClient(e.decide(c, client, to, params, pushed, brought), to)
}

// decide handles a request whose client and redirect URI are valid.
func (e *authorizeEndpoint) decide(
	c *call, client *storage.Client, to answerTo, params url.Values, pushed string, brought requestObject,
) error {
	req, err := e.checkAuthorizeRequest(client, to, params)
	if err != nil {
		return err
	}
	req.pushed, req.requestObject = pushed, brought
	if err := e.readHint(c.ctx, req); err != nil {
		return err
	}
	user, err := e.user(c)
	if err != nil {
		return err
	}
	if user == nil {
		return e.signIn(c, req, nil)
	}
	if err := e.cutoffs.Sync(c.ctx); err != nil { // so that no revocation before voids what begins here
		return err
	}
	ask, err := e.mustAsk(c, req, user)
	switch {
	case err != nil:
		return err
	case ask && slices.Contains(req.prompt, "none"): // before all that depends on who the user is
		return &redirectError{grants.Refuse("consent_required", "the user has not approved this").
			Explain("prompt=none", "an approval of the same scopes and resources", "client "+client.ID+": consent"), to}
	}
	sent, err := e.signInAgain(c, req, user)
	switch {
	case sent:
		return nil
	case ask && errors.Is(err, errOtherUser):
		return &personError{errOtherUser}
	case err != nil:
		return err
	}
	if err := checkSubjectFor(client, req.scopes, user.Subject); err != nil {
		return err
	}
	if ask {
		return e.ask(c, req, user)
	}
	return e.approve(c, req, user)
}

// approve issues a code and sends it to the client.
func (e *authorizeEndpoint) approve(c *call, req *authorizeRequest, user *User) error {
	client := req.client
	if err := checkSubjectFor(client, req.scopes, user.Subject); err != nil {
		return err
	}
	if err := e.cutoffs.Cover(c.ctx, lifetimesOf(client)); err != nil {
		return err
	}
	if err := e.use(c.ctx, req); err != nil {
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
		Asked:    e.askedClaims(req, user),
		Started:  e.cutoffs.Begin(user.Subject, client.ID, now),
		Code: &storage.Code{
			Expires:       now.Add(client.CodeLifetime),
			RedirectURI:   req.redirectURI,
			RedirectSent:  req.redirectSent,
			Challenge:     req.challenge,
			Nonce:         req.params.Get("nonce"),
			KeyThumbprint: req.params.Get("dpop_jkt"),
			Offline:       client.MayUse("refresh_token"),
			RefreshLength: client.RefreshToken.Length,
		},
	}
	f.Ends = f.Code.Expires
	if f.Code.Offline {
		f.Ends = client.RefreshToken.Ends(now)
		f.Code.Expires = client.RefreshToken.EndsCode(f.Code.Expires, now)
	}
	f.EndBy(req.until)
	code, err := e.issueCode(c, f)
	if err != nil {
		return err
	}
	if err := e.forgetVisit(c, req); err != nil {
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
	err := e.sessions.note(c.ctx, c.client, f, key) // before the code, so that a logout misses none
	var record []byte
	if err == nil {
		record, err = f.Encode()
	}
	if err == nil {
		err = e.store.Put(c.ctx, key, record, f.Code.Expires)
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
		Name: eventCodeIssued, Address: c.peer.Address, Client: f.Client, Subject: f.Subject, Family: key.ID, Scopes: f.Scopes,
	})
	return code, nil
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
