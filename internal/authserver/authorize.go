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
	"unicode"
	"unicode/utf8"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// authorize is the authorization endpoint (RFC 6749 §3.1). It asks the site who is signed in, asks that person for
// consent if necessary, and redirects the browser to the client with a code or an error.
func (s *Server) authorize(c *call) error {
	params, err := readAuthorizeParams(c.w, c.r)
	c.setDeadline(s.config.StoreTimeout)
	var repeated *wire.RepeatedError
	switch {
	case errors.As(err, &repeated) && !repeated.Has("client_id") && !repeated.Has("redirect_uri"):
		params = repeated.Rest
	case err != nil:
		return err
	case c.r.Method == http.MethodPost && params.Has("request") && params.Has("decision"):
		return s.answer(c, params)
	}
	client, to, uncertain := s.findAnswerTo(c.ctx(), params)
	c.client = client
	switch {
	case uncertain != nil:
		return uncertain
	case err != nil:
		return toClient(err, to)
	}
	return toClient(s.decide(c, client, to, params), to)
}

// decide handles a request whose client and redirect URI are valid.
func (s *Server) decide(c *call, client *storage.Client, to answerTo, params url.Values) error {
	req, err := s.checkAuthorizeRequest(client, to, params)
	if err != nil {
		return err
	}
	user, err := s.signedIn(c, req)
	if err != nil {
		return err
	}
	if user == nil {
		return s.signIn(c, req)
	}
	ask, err := s.mustAsk(c.ctx(), req, user)
	if err != nil {
		return err
	}
	switch {
	case ask && slices.Contains(req.prompt, "none"):
		return &redirectError{grants.Refuse("consent_required", "the user has not approved this"), to}
	case ask:
		return s.ask(c, req, user)
	}
	return s.approve(c, req, user)
}

// signedIn returns the user, or nil if the person must sign in, perhaps again (prompt=login).
func (s *Server) signedIn(c *call, req *authorizeRequest) (*User, error) {
	user, err := s.user(c)
	if user == nil || err != nil {
		return nil, err
	}
	if slices.Contains(req.prompt, "login") && !s.returnsFromLogin(c.ctx(), req) {
		return nil, nil
	}
	return user, nil
}

// user asks the site who is signed in, and checks that the user's ID can be the subject of a token. It returns nil if
// nobody is signed in.
func (s *Server) user(c *call) (*User, error) {
	user, err := c.site.User(c.r)
	if user == nil || err != nil {
		return nil, err
	}
	c.subject = user.Subject
	return user, s.checkSubject(c.ctx(), user.Subject)
}

// checkSubject checks that a user's ID can be the subject of a token.
func (s *Server) checkSubject(ctx context.Context, subject string) error {
	forbid := func(cause string) error {
		return &grants.Error{
			Code: grants.AccessDenied, Description: "this account cannot be used with apps",
			Status: http.StatusForbidden, Cause: errors.New(cause),
		}
	}
	if len(subject) > 255 || !utf8.ValidString(subject) || strings.ContainsFunc(subject, unicode.IsControl) {
		return forbid("the user ID is over 255 bytes, not UTF-8 or has control characters")
	}
	// A resource server that identifies users by sub must not mistake a client for a user (RFC 9700 §4.15).
	other, err := s.clients.Find(ctx, subject)
	if err != nil {
		return err
	}
	if other != nil && other.MayUse("client_credentials") {
		return forbid("the user ID is also the ID of a client with client_credentials")
	}
	return nil
}

// signIn sends the person to the site's login page. If the site has none, the response is 401, so that basic_auth or
// another directive of the site can ask for credentials. The client gets an error if the person must not be asked
// (prompt=none), or must be and cannot (prompt=login without a login page).
func (s *Server) signIn(c *call, req *authorizeRequest) error {
	if slices.Contains(req.prompt, "none") {
		return &redirectError{grants.Refuse("login_required", "the user is not signed in"), req.answerTo}
	}
	returnTo, err := s.returnTo(c, req)
	if err != nil {
		return err
	}
	if login := c.site.LoginURL(returnTo); login != "" {
		redirect(c.w, login)
		return nil
	}
	if slices.Contains(req.prompt, "login") {
		return &redirectError{grants.Refuse("login_required", "this site cannot ask the user to sign in again"), req.answerTo}
	}
	return &grants.Error{
		Code: "login_required", Description: "you are not signed in", Status: http.StatusUnauthorized,
		Cause: errors.New("the site names no user; put its login before this endpoint, or set login"),
	}
}

// afterLogin is a parameter of the URL to which the login page returns. It proves that the person was sent to the login
// page for this request, as prompt=login demands.
const afterLogin = "after_login"

// maxLogin is how long a person may take to sign in.
const maxLogin = time.Hour

// returnTo returns the path and query to which the login page returns. It is always the authorization endpoint, so a
// client cannot make the login page an open redirector.
func (s *Server) returnTo(c *call, req *authorizeRequest) (string, error) {
	params := withoutProof(req.params)
	if slices.Contains(req.prompt, "login") {
		proof, err := s.sealer.seal(c.ctx(), afterLogin, params.Encode(), maxLogin)
		if err != nil {
			return "", err
		}
		params.Set(afterLogin, proof)
	}
	return s.config.Paths.Authorize + "?" + params.Encode(), nil
}

// returnsFromLogin reports whether the person comes from the login page with this same request.
func (s *Server) returnsFromLogin(ctx context.Context, req *authorizeRequest) bool {
	proof := req.params.Get(afterLogin)
	if proof == "" {
		return false
	}
	sent, err := s.sealer.open(ctx, afterLogin, proof)
	if err != nil {
		return false
	}
	return sent == withoutProof(req.params).Encode()
}

func withoutProof(params url.Values) url.Values {
	rest := maps.Clone(params)
	delete(rest, afterLogin)
	return rest
}

// approve issues a code and sends it to the client.
func (s *Server) approve(c *call, req *authorizeRequest, user *User) error {
	now := s.now()
	client := req.client
	f := &storage.Family{
		Client:   client.ID,
		Subject:  user.Subject,
		Scopes:   req.scopes,
		Audience: req.audience,
		Claims:   user.Claims,
		Started:  now,
		Code: &storage.Code{
			Expires:       now.Add(client.CodeLifetime),
			RedirectURI:   req.redirectURI,
			RedirectSent:  req.redirectSent,
			Challenge:     req.challenge,
			Offline:       client.MayUse("refresh_token"),
			RefreshLength: client.RefreshToken.Length,
		},
	}
	f.Ends = f.Code.Expires
	if f.Code.Offline {
		f.Ends = client.RefreshToken.Ends(now)
		f.Code.Expires = client.RefreshToken.EndsCode(f.Code.Expires, now)
	}
	code, key := f.IssueCode()
	record, err := f.Encode()
	if err != nil {
		return err
	}
	if err := s.config.Store.Put(c.ctx(), key, record, f.Code.Expires); err != nil {
		return err
	}
	return s.respondCode(c, req.answerTo, client.CodePrefix+code)
}
