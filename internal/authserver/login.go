package authserver

import (
	"crypto/rand"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// The login is the site's. This file sends people there who must sign in, or must do so anew, and decides what it proves when they
// come back. Nobody is sent twice for one request: what is not proven then is an error for the client.

// signIn sends a person to the site's login page: somebody who is not signed in, or the user, who must sign in anew. If the site has
// no page, the response is 401, so that basic_auth or another directive of the site can ask for credentials. The client gets an error
// if the person must not be asked (prompt=none), or must be and cannot (prompt=login without a login page).
func (e *authorizeEndpoint) signIn(c *call, req *authorizeRequest, user *User) error {
	if slices.Contains(req.prompt, "none") {
		return &redirectError{grants.Refuse("login_required", "the user is not signed in").
			Explain("prompt=none", "a user", "user of the oauth directive"), req.redirectTarget}
	}
	login, err := e.loginURL(c, req, user)
	switch {
	case err != nil:
		return err
	case login != "":
		redirect(c.w, login)
		return nil
	case req.newLogin():
		return &redirectError{grants.Refuse("login_required", "this site cannot ask the user to sign in again").
			Explain("prompt=login or max_age", "a login page", "login and session of the oauth directive"), req.redirectTarget}
	}
	return &grants.Error{
		Code: "login_required", Description: "you are not signed in", Status: http.StatusUnauthorized,
		Cause:   errors.New("the site names no user; put its login before this endpoint, or set login"),
		Setting: "user and login of the oauth directive",
	}
}

// signInFirst is signIn for a request whose client is not known yet, so that no error can go to it.
func (e *authorizeEndpoint) signInFirst(c *call, params url.Values, pushed string) error {
	prompt, _ := readPrompt(promptOf(params))
	req := &authorizeRequest{params: params, prompt: prompt, pushed: pushed}
	if pushed == "" {
		req.requestObject = requestObject{params.Get("request"), e.now()}
	}
	err := e.signIn(c, req, nil)
	if refusal, ok := errors.AsType[*redirectError](err); ok {
		return refusal.refusal
	}
	return err
}

// signInAgain sends the user to the login page if the request demands something of the login that this user has not done. It reports
// whether it has. A user who has just come from there is not sent again.
func (e *authorizeEndpoint) signInAgain(c *call, req *authorizeRequest, user *User) (sent bool, err error) {
	if !req.demanding() {
		return false, nil
	}
	unmet, must := e.unmet(req, user)
	if unmet == nil {
		return false, nil
	}
	if req.came == nil && !slices.Contains(req.prompt, "none") && unmet != errNoAuthTime {
		login, err := e.loginURL(c, req, user)
		if err != nil {
			return false, err
		}
		if login != "" {
			redirect(c.w, login)
			return true, nil
		}
	}
	if must {
		return false, &redirectError{unmet, req.redirectTarget}
	}
	return false, nil
}

const loginSettings = "login and session of the oauth directive"

var (
	errOldLogin = grants.Refuse("login_required", "it is not certain that the user has signed in again").
			Explain("prompt=login, max_age, or default_max_age of the client", "an auth_time of after the request, or that somebody else was signed in before", loginSettings)
	errNoAuthTime = grants.Refuse("login_required", "this site does not tell when the user has signed in").
			Explain("max_age, or default_max_age or require_auth_time of the client", "a site that tells", "session of the oauth directive: auth_time")
	errOtherUser = grants.Refuse("login_required", "another user is signed in than the one that was asked for").
			Explain("id_token_hint, or sub in claims", "the same user", loginSettings)
	errNotSelected = grants.Refuse("account_selection_required", "this site cannot ask which account to use").
			Explain("prompt=select_account", "a login page", loginSettings)
	errUnmetACR = grants.Refuse("unmet_authentication_requirements", "the user has not signed in as it was asked for").
			Explain("an essential acr in claims", "a session with one of the values", "session of the oauth directive: acr")
)

// unmet returns what the request demands and the user has not done, as a refusal; nil if there is nothing. must says that there is no
// answer without it.
func (e *authorizeEndpoint) unmet(req *authorizeRequest, user *User) (refusal *grants.Error, must bool) {
	switch {
	case !req.subjects.accept(e.pairwise.subject(req.client, user.Subject)):
		return errOtherUser, true
	case (req.maxAge != nil || req.needsAuthTime()) && user.AuthTime.IsZero():
		return errNoAuthTime, true
	case slices.Contains(req.prompt, "login") && !req.came.proves(user):
		return errOldLogin, true
	case req.maxAge != nil && (*req.maxAge == 0 || e.now().Sub(user.AuthTime) > *req.maxAge) && !req.came.proves(user):
		return errOldLogin, true
	case slices.Contains(req.prompt, "select_account") && req.came == nil:
		return errNotSelected, true
	case req.essentialACR != nil && !slices.Contains(req.essentialACR, user.Session.ACR):
		return errUnmetACR, true
	case !metACR(user.ACRValues, req.acrValues, user.Session.ACR):
		return errUnmetACR, false
	}
	return nil, false
}

// metACR reports whether a session with that acr is as well authenticated as the client wants, or the site cannot do better: it knows
// none of the values. known are the values of the site, lowest first.
func metACR(known, wanted []string, acr string) bool {
	least := -1
	for _, value := range wanted {
		if value == acr {
			return true
		}
		if i := slices.Index(known, value); i >= 0 && (least < 0 || i < least) {
			least = i
		}
	}
	return least < 0 || slices.Index(known, acr) > least
}

// demanding reports whether the request may demand something of the login.
func (r *authorizeRequest) demanding() bool {
	return r.maxAge != nil || r.needsAuthTime() ||
		slices.ContainsFunc([]string{"prompt", "max_age", "acr_values", "id_token_hint", "claims"}, r.params.Has)
}

// needsAuthTime reports whether the client's ID tokens must say when the user has signed in. The client may not be known yet.
func (r *authorizeRequest) needsAuthTime() bool {
	return r.client != nil && r.signsIn() && r.client.OpenID.RequireAuthTime
}

// newLogin reports whether the request demands that the person signs in now.
func (r *authorizeRequest) newLogin() bool {
	return slices.Contains(r.prompt, "login") || r.maxAge != nil
}

// maxHint is how long a parameter of the client may be that the login page gets.
const maxHint = 255

// hints returns what the login page learns of the request. Values from the client are not shown on pages of this server, so that
// only their length and control characters are checked.
func (r *authorizeRequest) hints(again bool) url.Values {
	hints := make(url.Values)
	for _, name := range []string{"login_hint", "ui_locales", "acr_values"} {
		value := r.params.Get(name)
		if name == "acr_values" && value == "" {
			value = strings.Join(r.essentialACR, " ")
		}
		if value != "" && len(value) <= maxHint && !strings.ContainsFunc(value, unicode.IsControl) {
			hints.Set(name, value)
		}
	}
	var prompt []string
	selects := slices.Contains(r.prompt, "select_account")
	if slices.Contains(r.prompt, "login") || again && !selects {
		prompt = append(prompt, "login")
	}
	if selects {
		prompt = append(prompt, "select_account")
	}
	if len(prompt) > 0 {
		hints.Set("prompt", strings.Join(prompt, " "))
	}
	return hints
}

// afterLogin is a parameter of the URL to which the login page returns. It proves that the person was sent to the login
// page for this request, and says who was signed in then.
const afterLogin = "after_login"

// maxLogin is how long a person may take to sign in.
const maxLogin = time.Hour

// loginURL returns the URL of the login page, "" if there is none. It leads back to the authorization endpoint, so a client cannot make
// the login page an open redirector. user is who is signed in, or nil.
func (e *authorizeEndpoint) loginURL(c *call, req *authorizeRequest, user *User) (string, error) {
	if err := e.keepPushed(c, req, user); err != nil {
		return "", err
	}
	back, err := e.wayBack(c, req, user)
	if err != nil {
		return "", err
	}
	return c.site.LoginURL(LoginRequest{ReturnTo: back, Again: user != nil, Hints: req.hints(user != nil)}), nil
}

// wayBack returns the path and query by which a person comes back from the login page, with the proof of the visit if the request may
// demand it.
func (e *authorizeEndpoint) wayBack(c *call, req *authorizeRequest, user *User) (string, error) {
	params := req.inURL()
	if req.demanding() || req.object != "" { // which may have expired when the person comes back
		proof, err := e.sealer.seal(c.ctx, afterLogin, e.visit(c, req, user).encode(), maxLogin)
		if err != nil {
			return "", err
		}
		params.Set(afterLogin, proof)
	}
	return e.config.Paths.Authorize + "?" + params.Encode(), nil
}

// asked returns the parameters that the proof of a visit to the login page is for. With a request object, they are in it.
func (r *authorizeRequest) asked() url.Values {
	if r.object != "" {
		return r.inURL()
	}
	return withoutProof(r.params)
}

func withoutProof(params url.Values) url.Values {
	rest := maps.Clone(params)
	delete(rest, afterLogin)
	return rest
}

// visit is a visit to the login page, as it is sealed in the URL to which that returns.
type visit struct {
	sent    time.Time // when the person was sent there
	browser string    // the hash of the secret that the browser got for the request
	before  string    // who was signed in then; "": nobody
	since   time.Time // and since when; zero: not known
	seen    time.Time // when the request object was first seen that the browser has brought; zero: there is none
	request string    // the hash of the request, so that the URL does not have all of it twice

	elsewhere bool // the person comes back with another browser
}

func (v *visit) encode() string {
	seconds := func(t time.Time) string {
		if t.IsZero() {
			return "0"
		}
		return strconv.FormatInt(t.Unix(), 10)
	}
	return strings.Join([]string{seconds(v.sent), seconds(v.since), seconds(v.seen), v.browser, v.before, v.request}, "\n")
}

func decodeVisit(sealed string) (*visit, bool) {
	parts := strings.SplitN(sealed, "\n", 6)
	if len(parts) != 6 {
		return nil, false
	}
	v := &visit{browser: parts[3], before: parts[4], request: parts[5]}
	for i, t := range []*time.Time{&v.sent, &v.since, &v.seen} {
		seconds, err := strconv.ParseInt(parts[i], 10, 64)
		if err != nil {
			return nil, false
		}
		if seconds != 0 {
			*t = time.Unix(seconds, 0)
		}
	}
	return v, true
}

// visit begins a visit to the login page.
func (e *authorizeEndpoint) visit(c *call, req *authorizeRequest, user *User) *visit {
	request := storage.HashID(req.asked().Encode())
	v := &visit{sent: e.now(), seen: req.seen, browser: storage.HashID(e.rememberBrowser(c, request)), request: request}
	if user != nil {
		v.before, v.since = user.Subject, user.AuthTime
	}
	return v
}

// cameFromLogin returns the visit to the login page from which the person comes back with this same request, nil if there was none.
func (e *authorizeEndpoint) cameFromLogin(c *call, req *authorizeRequest) (*visit, error) {
	proof := req.params.Get(afterLogin)
	if proof == "" {
		return nil, nil
	}
	sealed, err := e.sealer.open(c.ctx, afterLogin, proof)
	if errors.Is(err, errStale) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v, ok := decodeVisit(sealed)
	if !ok || v.request != storage.HashID(req.asked().Encode()) {
		return nil, nil
	}
	v.elsewhere = !slices.ContainsFunc(e.windows(c), v.isOf)
	return v, nil
}

// proves reports whether the user has signed in since the browser was sent to the login page. If the site tells when somebody has
// signed in, that must be after, to the second. The clock of the login may be ahead of ours, so that it must also be later than
// what the site said before. If its clock is behind, a new login may be taken for the old one; the client then gets an error, which
// is safe. If the site does not report the time, a new login is only known if no user, or another one, was signed in before.
func (v *visit) proves(user *User) bool {
	switch {
	case v == nil || v.elsewhere:
		return false
	case user.AuthTime.IsZero():
		return v.before != user.Subject
	case user.AuthTime.Unix() < v.sent.Unix():
		return false
	}
	return v.before != user.Subject || user.AuthTime.Unix() > v.since.Unix()
}

// browserCookie is the name of a cookie by which a browser is known that was sent to the login page. Without it, somebody could be sent
// there with one browser, where nobody is signed in, and come back with another, where a person has been signed in for long.
func (e *authorizeEndpoint) browserCookie() string {
	if e.secure() {
		return "__Secure-oauth-login"
	}
	return "oauth-login"
}

func (e *authorizeEndpoint) secure() bool { return strings.HasPrefix(e.origin, "https:") }

// maxWindows is how many requests a browser can have at the login page at once. The oldest goes first.
const maxWindows = 8

// maxSecret is how long one of their secrets can be.
const maxSecret = 100

// windows returns the secrets of the browser, one for each request that is at the login page in one of its windows. A secret ends in the
// hash of its request.
func (e *authorizeEndpoint) windows(c *call) []string {
	cookie, err := c.r.Cookie(e.browserCookie())
	if err != nil || cookie.Value == "" {
		return nil
	}
	windows := slices.DeleteFunc(strings.SplitN(cookie.Value, "~", maxWindows+1), func(secret string) bool {
		return len(secret) > maxSecret
	})
	return windows[:min(len(windows), maxWindows)]
}

// isOf reports whether the secret is that of the visit's request and browser.
func (v *visit) isOf(secret string) bool { return storage.HashID(secret) == v.browser }

// rememberBrowser returns the secret of the browser for the request. A page that is loaded again has the same one.
func (e *authorizeEndpoint) rememberBrowser(c *call, request string) string {
	windows := e.windows(c)
	i := slices.IndexFunc(windows, func(secret string) bool { return strings.HasSuffix(secret, "."+request) })
	if i < 0 {
		windows = append(windows, rand.Text()+"."+request)
		windows = windows[max(0, len(windows)-maxWindows):]
		i = len(windows) - 1
	}
	e.setBrowser(c.w, strings.Join(windows, "~"), maxLogin)
	return windows[i]
}

// forgetVisit makes all visits for a request worthless, when one of them has led to a code: they cannot be used again, by who finds
// them in the history. Other windows of the browser keep theirs. The visit is nil if there was none.
func (e *authorizeEndpoint) forgetVisit(c *call, v *visit) {
	if v == nil || v.elsewhere {
		return
	}
	windows := slices.DeleteFunc(e.windows(c), v.isOf)
	lifetime := maxLogin
	if len(windows) == 0 {
		lifetime = -time.Second
	}
	e.setBrowser(c.w, strings.Join(windows, "~"), lifetime)
}

func (e *authorizeEndpoint) setBrowser(w http.ResponseWriter, secret string, lifetime time.Duration) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // G124: it is Secure wherever the issuer is https
		Name: e.browserCookie(), Value: secret, Path: e.config.Paths.Authorize, MaxAge: int(lifetime / time.Second),
		HttpOnly: true, Secure: e.secure(), SameSite: http.SameSiteLaxMode,
	})
}
