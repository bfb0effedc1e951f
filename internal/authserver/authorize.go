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
	"github.com/caddy-oauth/caddy-oauth/internal/pages"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// authorizeEndpoint is the authorization endpoint (RFC 6749 §3.1). It asks the site who is signed in, asks that person for
// consent if necessary, and redirects the browser to the client with a code or an error.
type authorizeEndpoint struct{ *core }

// serve answers an authorization request, or what a person has posted from the consent page.
func (e *authorizeEndpoint) serve(c *call) error {
	params, formErr := readAuthorizeParams(c.w, c.r)
	repeated, _ := errors.AsType[*wire.RepeatedError](formErr)
	switch {
	case repeated != nil && !repeated.Has("client_id") && !repeated.Has("redirect_uri"):
		params = repeated.Rest // the client gets the error
	case formErr != nil:
		return formErr
	case c.r.Method == http.MethodPost && params.Has("request") && params.Has("decision"):
		return e.decided(c, params)
	}
	pushed := ""
	if uri := params.Get("request_uri"); storage.IsPushedURI(uri) {
		c.named = clients.NamedClient{ID: params.Get("client_id")}
		var err error
		if params, err = e.pushed(c, params); err != nil {
			return err
		}
		pushed, formErr = uri, nil
	}
	client, toSignIn, uncertain := e.findClient(c, params)
	if toSignIn {
		return e.signInFirst(c, params, pushed)
	}
	c.client, c.named = client, clients.NamedClient{ID: params.Get("client_id"), Client: client}
	var brought requestObject
	var problem, fatal error
	if client != nil && pushed == "" && params.Has("request") && client.SignsRequests() {
		if params, brought, problem, fatal = e.openRequest(c, client, params); fatal != nil {
			return fatal
		}
	}
	c.setDeadline(e.config.StoreTimeout) // after the client and the keys of its request object were fetched
	if uncertain != nil {
		return uncertain
	}
	to, err := e.findRedirectTarget(client, params)
	if err != nil {
		return err
	}
	if err := cmp.Or(formErr, problem, e.checkPushed(client, pushed), e.checkSigned(client, pushed != "" || brought.object != "")); err != nil {
		return toClient(err, to)
	}
	req, err := e.checkAuthorizeRequest(client, to, params)
	if err != nil {
		return err
	}
	req.pushed, req.requestObject = pushed, brought
	return toClient(e.proceed(c, req), to)
}

// findClient returns the client of a request. The person must see an error on a page, since no redirect URI is known. A client that
// its website describes may have to be fetched. toSignIn says that the person must sign in before: nobody else can make this
// server fetch what they like.
func (e *authorizeEndpoint) findClient(c *call, params url.Values) (client *storage.Client, toSignIn bool, err error) {
	id := params.Get("client_id")
	if client, err = e.clients.Find(c.ctx, id); client != nil || err != nil {
		return client, false, err
	}
	ended, err := e.clients.Ended(c.ctx, id)
	switch {
	case err != nil:
		return nil, false, err
	case ended || e.documents == nil || !e.documents.Owns(id):
		return nil, false, grants.Refuse(grants.InvalidClient, "the app is not known here: client_id is missing or wrong").
			Explain(id, e.clients.Missing(id), "client")
	}
	user, err := e.user(c)
	if user == nil || err != nil {
		return nil, user == nil && err == nil, err
	}
	client, err = e.documents.Fetch(c.ctx, id)
	if refusal, ok := errors.AsType[*grants.Error](err); ok && refusal.HTTPStatus() == http.StatusUnauthorized {
		page := *refusal // not 401: the person is already signed in
		page.Status = http.StatusBadRequest
		err = &page
	}
	if err == nil {
		client, err = e.clients.UnlessBlocked(c.ctx, client)
	}
	if client == nil && err == nil {
		err = grants.Refuse(grants.InvalidClient, "the app is not known here: the owner of this site has blocked it").
			Explain(id, "an app that is not blocked", "caddy oauth clients unblock")
	}
	return client, false, err
}

// findRedirectTarget returns where the response for a client goes. If it returns an error, the person must see it on a page: nothing may be
// sent to a redirect URI that is not known to be the client's (RFC 6749 §4.1.2.1).
func (e *authorizeEndpoint) findRedirectTarget(client *storage.Client, params url.Values) (redirectTarget, error) {
	none := redirectTarget{}
	uri := params.Get("redirect_uri")
	switch {
	case uri == "" && len(client.RedirectURIs) == 1 && !client.RedirectRules.Authorize:
		uri = client.RedirectURIs[0]
	case uri == "":
		return none, grants.Refuse(grants.InvalidRequest, "redirect_uri is missing").
			Explain("", list(client.RedirectURIs), "client "+client.ID+": redirect_uris")
	case !uris.MatchRedirect(client.RedirectURIs, uri):
		return none, grants.Refuse(grants.InvalidRequest, "redirect_uri is not one that is registered for this app").
			Explain(uri, list(client.RedirectURIs), "client "+client.ID+": redirect_uris")
	}
	to := redirectTarget{redirectURI: uri, mode: "query", state: params.Get("state"), issuer: e.config.URL}
	if client.OmitIssuer {
		to.issuer = ""
	}
	if params.Get("response_mode") == "form_post" && pages.AcceptsFormPost(uri) {
		to.mode = "form_post"
	}
	return to, nil
}

// proceed handles a request that has passed all checks which do not depend on the person.
func (e *authorizeEndpoint) proceed(c *call, req *authorizeRequest) error {
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
	if err := e.cutoffs.Sync(c.ctx); err != nil { // load the cutoffs of other nodes first, so that the new family starts after all of them
		return err
	}
	if req.came, err = e.cameFromLogin(c, req); err != nil {
		return err
	}
	req.askedClaims = e.askedClaims(req, user)
	ask, err := e.mustAsk(c, req, user)
	switch {
	case err != nil:
		return err
	case ask && slices.Contains(req.prompt, "none"): // before all that depends on who the user is
		return &redirectError{grants.Refuse("consent_required", "the user has not approved this").
			Explain("prompt=none", "an approval of the same scopes and resources", "client "+req.client.ID+": consent"), req.redirectTarget}
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
	if err := checkSubjectFor(req.client, req.scopes, user.Subject); err != nil {
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
	if err := e.cutoffs.Cover(c.ctx, lifetimesOf(client)); err != nil {
		return err
	}
	if err := e.usePushed(c.ctx, req); err != nil {
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
		Asked:    req.askedClaims,
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
	code, err := e.issueCode(c, f, now)
	if err != nil {
		return err
	}
	e.forgetVisit(c, req.came)
	return e.respondCode(c, req.redirectTarget, client.CodePrefix+code)
}

// issueCode starts a family with a code, unless its user has got too many for the client.
func (e *authorizeEndpoint) issueCode(c *call, f *storage.Family, now time.Time) (string, error) {
	count, wait := e.limiter.ReserveFamily(throttle.Code, familyAccount(f.Client, f.Subject))
	if count == nil {
		return "", e.tooManyCodes(wait)
	}
	// Record here until when the tokens of the code live. The exchange of the code cannot be repeated, so it should have as few
	// writes as possible.
	until := f.Code.Expires
	if f.Code.Offline {
		until = c.client.RefreshToken.KeptUntil(now)
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
