package authserver

import (
	"context"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/pages"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// logoutEndpoint is where people sign out, and where clients send them for that (OpenID Connect RP-Initiated Logout §2). It ends their
// sign-ins at clients, and sends them to the site, which alone can end its own session.
//
// A person is asked before, since any website can send people here. Nobody is asked who comes with an ID token of this session, or by a
// button of the site itself.
type logoutEndpoint struct{ *core }

const (
	// afterLogout is a parameter of the URL to which the site returns when it has signed the person out. It has where to go next.
	afterLogout = "after_logout"
	// maxSiteLogout is how long the site may take for that.
	maxSiteLogout = 15 * time.Minute
	// maxLogout is how long the page that asks can be answered.
	maxLogout = time.Hour
)

// logoutRequest is a request to sign out.
type logoutRequest struct {
	client *storage.Client // nil: not known
	to     string          // one of the client's post_logout_redirect_uris, "" for a page of ours
	state  string
	hint   *idTokenHint // nil: none that says anything
}

func (e *logoutEndpoint) serve(c *call) error {
	params, err := readAuthorizeParams(c.w, c.r)
	if err != nil {
		return err
	}
	c.setDeadline(e.config.StoreTimeout)
	user, err := c.site.User(c.r) // also one whose ID cannot be the subject of a token
	if err != nil {
		return err
	}
	if user != nil {
		c.subject = user.Subject
	}
	if params.Has(afterLogout) {
		return e.returned(c, user, params.Get(afterLogout))
	}
	answered := c.r.Method == http.MethodPost && params.Has("request") && params.Has("decision")
	switch {
	case answered && user != nil:
		return e.answer(c, user, params)
	case answered:
		return e.show(c, pages.LogoutPage{State: pages.SignedOut})
	}
	req, err := e.read(c, params)
	switch {
	case err != nil:
		return err
	case user == nil && c.r.Method == http.MethodPost:
		// A browser sends no cookie of the site with a POST from another one, but with the GET that follows.
		redirect(c.w, e.config.Paths.Logout+"?"+params.Encode())
		return nil
	case user == nil:
		return e.leave(c, req, pages.SignedOut)
	case e.owns(user, req), c.r.Method == http.MethodPost && c.r.Header.Get("Sec-Fetch-Site") == "same-origin":
		return e.signOut(c, user, req)
	}
	return e.ask(c, user, req)
}

// read checks a request.
func (e *logoutEndpoint) read(c *call, params url.Values) (*logoutRequest, error) {
	id, req := params.Get("client_id"), &logoutRequest{state: params.Get("state")}
	if token := params.Get("id_token_hint"); token != "" {
		hint, err := e.openHint(c.ctx, token)
		switch {
		case errors.Is(err, errHint): // the person is asked
		case err != nil:
			return nil, err
		case hint != nil && id != "" && id != hint.Audience:
			return nil, grants.Refuse(grants.InvalidRequest, "client_id is not the client of id_token_hint").Explain(id, hint.Audience, "")
		case hint != nil:
			id, req.hint = hint.Audience, hint
		}
	}
	if id != "" {
		client, err := e.clients.Find(c.ctx, id)
		c.client, c.named = client, clients.NamedClient{ID: id, Client: client}
		switch {
		case err != nil:
			return nil, err
		case client == nil:
			return nil, grants.Refuse(grants.InvalidClient, "the app is not known here: client_id is wrong").
				Explain(id, e.clients.Missing(id), "client")
		}
		req.client = client
	}
	// Without a client, nothing tells whether the URI is anybody's. The person gets a page of ours.
	uri := params.Get("post_logout_redirect_uri")
	if uri == "" || req.client == nil {
		return req, nil
	}
	if registered := postLogoutRedirectURIs(req.client); !slices.Contains(registered, uri) {
		return nil, grants.Refuse(grants.InvalidRequest, "post_logout_redirect_uri is not one that is registered for this app").
			Explain(uri, list(registered), "client "+req.client.ID+": post_logout_redirect_uris")
	}
	req.to = uri
	return req, nil
}

func postLogoutRedirectURIs(client *storage.Client) []string {
	if client.OpenID == nil {
		return nil
	}
	return client.OpenID.PostLogoutRedirectURIs
}

// owns reports whether the ID token of a request is one of the user's, and of this session if both are known.
func (e *logoutEndpoint) owns(user *User, req *logoutRequest) bool {
	if req.hint == nil || req.hint.Subject != e.pairwise.subject(req.client, user.Subject) {
		return false
	}
	sid := e.pairwise.session(req.client, user.Session.ID)
	return req.hint.Session == "" || sid == "" || req.hint.Session == sid
}

// ask shows the page that asks whether to sign out. Its form carries the request, sealed for this user.
func (e *logoutEndpoint) ask(c *call, user *User, req *logoutRequest) error {
	text := url.Values{"to": {req.to}, "state": {req.state}}
	if req.client != nil {
		text.Set("client_id", req.client.ID)
	}
	sealed, err := e.sealer.seal(c.ctx, logoutPurpose(user), text.Encode(), maxLogout)
	if err != nil {
		return err
	}
	page := pages.LogoutPage{
		State: pages.AskSignOut, User: displayName(user), Action: e.config.Paths.Logout, Request: sealed, Everywhere: user.Session.ID == "",
		SiteStays: e.siteURL(c, "/") == "",
	}
	if req.client != nil && user.Session.ID == "" && !e.config.LogoutEndsAll {
		page.Client = appOf(req.client)
	}
	return e.show(c, page)
}

func logoutPurpose(user *User) string { return "logout\x00" + user.Subject }

// answer handles what a person posted from the page that asks.
func (e *logoutEndpoint) answer(c *call, user *User, form url.Values) error {
	if !e.fromThisSite(c.r) {
		return errOtherSite
	}
	sealed, err := e.sealer.open(c.ctx, logoutPurpose(user), form.Get("request"))
	if err != nil {
		return err
	}
	if form.Get("decision") != "sign_out" {
		return e.show(c, pages.LogoutPage{State: pages.StillSignedIn, User: displayName(user)})
	}
	asked, err := url.ParseQuery(sealed)
	if err != nil {
		return err
	}
	// The configuration may have changed since the page was shown.
	again := url.Values{"client_id": asked["client_id"], "state": asked["state"]}
	if to := asked.Get("to"); to != "" {
		again.Set("post_logout_redirect_uri", to)
	}
	req, err := e.read(c, again)
	if err != nil {
		return err
	}
	return e.signOut(c, user, req)
}

// signOut ends the sign-ins that the logout is about, with their tokens, and sends the person to the site to end its own session.
func (e *logoutEndpoint) signOut(c *call, user *User, req *logoutRequest) error {
	err := e.end(c, user.Subject, func(in *storage.SignIn) bool {
		switch {
		case user.Session.ID != "":
			return in.Session == user.Session.ID
		case req.client != nil && !e.config.LogoutEndsAll:
			return in.Client == req.client.ID
		}
		return true
	})
	if err != nil {
		return err
	}
	next := url.Values{"to": {req.to}, "state": {req.state}, "sub": {user.Subject}, "sid": {user.Session.ID}}
	if req.client != nil {
		next.Set("client_id", req.client.ID)
	}
	sealed, err := e.sealer.seal(c.ctx, afterLogout, next.Encode(), maxSiteLogout)
	if err != nil {
		return err
	}
	if page := e.siteURL(c, e.config.Paths.Logout+"?"+afterLogout+"="+sealed); page != "" {
		redirect(c.w, page)
		return nil
	}
	return e.leave(c, req, pages.SiteSignedIn)
}

// end ends the sign-ins of a person that match.
func (e *logoutEndpoint) end(c *call, subject string, match func(*storage.SignIn) bool) error {
	sessions, err := e.sessions.of(c.ctx, subject)
	if err != nil {
		return err
	}
	return e.logouts.end(c.ctx, subject, sessions.Select(e.now(), match), reasonSignedOut, c.peer.Address)
}

// siteURL returns the page where the site signs people out, and sends them back to a path and query, "" if it has none.
func (e *logoutEndpoint) siteURL(c *call, returnTo string) string {
	if site, ok := c.site.(Logouter); ok {
		return site.LogoutURL(returnTo)
	}
	return ""
}

// returned goes on when the site has signed the person out. An application may have signed the person in again before the site did: that
// ends now, with the session. Nothing else ends, so that nobody gets further by calling it.
func (e *logoutEndpoint) returned(c *call, user *User, sealed string) error {
	text, err := e.sealer.open(c.ctx, afterLogout, sealed)
	if err != nil {
		return err
	}
	next, err := url.ParseQuery(text)
	if err != nil {
		return err
	}
	req := &logoutRequest{to: next.Get("to"), state: next.Get("state")}
	if id := next.Get("client_id"); id != "" {
		if req.client, err = e.clients.Find(c.ctx, id); err != nil {
			return err
		}
		if req.client == nil || !slices.Contains(postLogoutRedirectURIs(req.client), req.to) {
			req.to = "" // not any more
		}
		c.client = req.client
	}
	if user != nil {
		e.log.Warn("the site's page for signing out has sent back a person who is still signed in", zap.String("issuer", e.config.Name),
			zap.String("sub", user.Subject), zap.String("setting", "session: logout"))
		return e.leave(c, req, pages.SiteSignedIn)
	}
	if sid := next.Get("sid"); sid != "" {
		c.subject = next.Get("sub")
		if err := e.end(c, c.subject, func(in *storage.SignIn) bool { return in.Session == sid }); err != nil {
			return err
		}
	}
	return e.leave(c, req, pages.SignedOut)
}

// leave sends the person back to the client, or shows a page of ours. Whoever is still signed in to the site sees that on the page
// before.
func (e *logoutEndpoint) leave(c *call, req *logoutRequest, state pages.LogoutState) error {
	to := req.to
	if to != "" && req.state != "" {
		to = withParams(to, [][2]string{{"state", req.state}})
	}
	if to != "" && state == pages.SignedOut {
		redirect(c.w, to)
		return nil
	}
	page := pages.LogoutPage{State: state, Continue: template.URL(to)} //nolint:gosec // G203: it is registered, and so is its scheme
	if req.client != nil {
		page.Client = appOf(req.client)
	}
	return e.show(c, page)
}

func (e *logoutEndpoint) show(c *call, page pages.LogoutPage) error {
	return e.pages.Logout(c.w, c.r, page)
}

// endSession ends a session at the site, or, without one, all sessions of a person.
func (s *core) endSession(ctx context.Context, sid, subject, address string) (found bool, err error) {
	if sid != "" {
		owner, err := s.sessions.owner(ctx, sid)
		if owner == "" || subject != "" && subject != owner || err != nil {
			return false, err
		}
		subject = owner
	}
	sessions, err := s.sessions.of(ctx, subject)
	if err != nil {
		return false, err
	}
	ended := sessions.Select(s.now(), func(in *storage.SignIn) bool { return sid == "" || in.Session == sid })
	return len(ended) > 0, s.logouts.end(ctx, subject, ended, reasonSiteEnded, address)
}
