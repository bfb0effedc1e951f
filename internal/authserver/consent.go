package authserver

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/pages"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// maxAsk is how long a consent page can be answered.
const maxAsk = time.Hour

// mustAsk reports whether the person must be asked for consent. Without a mode that is once, but always for a client that another program
// could pose as, see [storage.ConsentMode].
func (e *authorizeEndpoint) mustAsk(c *call, req *authorizeRequest, user *User) (bool, error) {
	mode := req.client.Consent
	switch {
	case mode == storage.ConsentOnce && req.client.Origin != "" && !openedDirectly(c.r, req.redirectURI):
		mode = storage.ConsentAlways // anybody can name a client that nobody has added
	case mode == "" && impersonable(req.client, req.redirectURI):
		mode = storage.ConsentAlways
	}
	switch {
	case slices.Contains(req.prompt, "consent"), mode == storage.ConsentAlways:
		return true, nil
	case mode == storage.ConsentNever:
		return false, nil
	}
	consents, err := e.consents.of(c.ctx, user.Subject)
	if err != nil {
		return false, err
	}
	now := e.now()
	before := consents.Approved(req.client.ID, now)
	switch {
	case len(e.beyondScopes(req, before.Scopes)) > 0: // claims that no approved scope gives
		return true, nil
	case before.Last.Before(req.client.Created): // the approval was for a removed client that had the same ID
		return true, nil
	case req.client.Origin != "" && !slices.Contains(before.Redirects, pages.HostOf(req.redirectURI)): // the code goes to another website than before
		return true, nil
	}
	until, covered := before.Covers(req.scopes, req.audience)
	req.until = until
	return !covered || req.client.Outlasts(until, now), nil // more access than before, or for longer
}

// openedDirectly reports whether nobody can use an approval of before for somebody else's sake, of a client that brought its own metadata and
// that anybody can name: the person or a program has opened the address, and no other site led here, and the answer goes to a
// website, and not to any program that listens on the device.
func openedDirectly(r *http.Request, redirectURI string) bool {
	return r.Header.Get("Sec-Fetch-Site") == "none" && strings.HasPrefix(redirectURI, "https://")
}

// ask shows the consent page. The form carries the request, sealed for this user: the server need not remember it, and
// nobody can make another person's browser post an answer to it.
func (e *authorizeEndpoint) ask(c *call, req *authorizeRequest, user *User) error {
	// A revocation after this page voids an answer to it.
	began := e.cutoffs.Begin(user.Subject, req.client.ID, e.now())
	if err := e.keepPushed(c, req, user); err != nil {
		return err
	}
	text := strings.Join([]string{strconv.FormatInt(began.UnixMilli(), 10), req.pushed, req.object, e.shown(req, user), req.params.Encode()}, "\n")
	sealed, err := e.sealer.seal(c.ctx, consentPurpose(user), text, maxAsk)
	if err != nil {
		return err
	}
	consents, err := e.consents.of(c.ctx, user.Subject)
	if err != nil {
		return err
	}
	back, err := e.wayBack(c, req, user)
	if err != nil {
		return err
	}
	before := consents.Approved(req.client.ID, e.now())
	page := pages.ConsentPage{
		Access:      e.access(req.client, req.scopes, req.audience, before),
		SignIn:      onlySignIn(req.scopes),
		RedirectURI: req.redirectURI,
		Local:       impersonable(req.client, req.redirectURI),
		User:        displayName(user),
		SwitchURL:   c.site.LoginURL(LoginRequest{ReturnTo: back}),
		Action:      e.config.Paths.Authorize,
		Request:     sealed,
		Claims:      e.beyondScopes(req, nil),
	}
	return e.pages.Consent(c.w, c.r, page)
}

// access returns what a client asks a person for. It says which scopes the person has not approved before.
func (s *core) access(client *storage.Client, scopes, audience []string, before storage.Consent) pages.Access {
	access := pages.Access{
		Client: appOf(client), Audience: foreign(audience, s.config.URL), Lifetimes: lifetimesOn(client), AppsURL: s.config.Paths.Apps,
	}
	for _, name := range scopes {
		access.Scopes = append(access.Scopes, pages.Scope{Name: name, New: before.Approved() && !slices.Contains(before.Scopes, name)})
	}
	return access
}

// withoutEnd is the value of the choice to let a client have access until the person takes that back.
const withoutEnd = "never"

// lifetimeValue returns the value of a choice in a form.
func lifetimeValue(lifetime time.Duration) string {
	if lifetime == 0 {
		return withoutEnd
	}
	return strconv.FormatInt(int64(lifetime/time.Second), 10)
}

// lifetimesOn returns what a person can choose from on a page, the shortest first.
func lifetimesOn(client *storage.Client) (choices []pages.Lifetime) {
	for i, lifetime := range client.ConsentLifetimes {
		choices = append(choices, pages.Lifetime{Value: lifetimeValue(lifetime), Duration: lifetime, Chosen: i == 0})
	}
	const last = 1<<63 - 1 // of a lifetime without end
	slices.SortFunc(choices, func(a, b pages.Lifetime) int {
		return cmp.Compare(cmp.Or(a.Duration, last), cmp.Or(b.Duration, last))
	})
	return choices
}

// offered returns the choices that a page shows, so that an answer to another page does not count.
func offered(client *storage.Client) string {
	values := make([]string, 0, len(client.ConsentLifetimes))
	for _, lifetime := range client.ConsentLifetimes {
		values = append(values, lifetimeValue(lifetime))
	}
	return strings.Join(values, " ")
}

// chosenUntil returns the end of the access for the lifetime that the person chose on the consent page; zero: no end. The first
// lifetime is the default, also for a custom template without the choice.
func chosenUntil(client *storage.Client, form url.Values, now time.Time) (time.Time, error) {
	choices := client.ConsentLifetimes
	if len(choices) == 0 {
		return time.Time{}, nil
	}
	i := 0
	if form.Has("lifetime") {
		i = slices.IndexFunc(choices, func(lifetime time.Duration) bool { return lifetimeValue(lifetime) == form.Get("lifetime") })
	}
	switch {
	case i < 0:
		return time.Time{}, errStale.Explain("a lifetime of "+form.Get("lifetime"), "one that the page offers", "client "+client.ID+": consent_lifetime")
	case choices[i] == 0:
		return time.Time{}, nil
	}
	return now.Add(choices[i]), nil
}

// onlySignIn reports whether these scopes are for nothing but to sign a person in, and to learn who that is.
func onlySignIn(scopes []string) bool {
	return slices.Contains(scopes, grants.OpenID) && !slices.ContainsFunc(scopes, func(scope string) bool {
		return scope == "offline_access" || !slices.Contains(grants.OpenIDScopes, scope)
	})
}

// appOf returns a client as people see it. What the owner did not write is a claim: of a client that its website describes, the host of
// that is who it is; of one that registered itself, nothing is known.
func appOf(client *storage.Client) pages.App {
	app := pages.App{ID: client.ID, Name: client.Name}
	switch client.Origin {
	case storage.OriginDocument:
		app.Name, app.Described, app.CallsItself = pages.HostOf(client.ID), true, client.Name
	case storage.OriginRegistered:
		app.Unchecked = true
	}
	return app
}

// shown is what the person approves. It is not the request: scopes, resources and the redirect URI can come from the configuration. If the
// request demands a new login, it also says which one it was, so that no older session of the same person answers the page.
func (e *authorizeEndpoint) shown(req *authorizeRequest, user *User) string {
	what := url.Values{
		"redirect_uri": {req.redirectURI}, "scope": req.scopes, "resource": req.audience, "claim": e.beyondScopes(req, nil),
	}
	if choices := offered(req.client); choices != "" {
		what.Set("lifetime", choices)
	}
	if req.newLogin() {
		what.Set("auth_time", strconv.FormatInt(user.AuthTime.Unix(), 10))
	}
	return what.Encode()
}

func consentPurpose(user *User) string { return "consent\x00" + user.Subject }

// displayName returns a name for the account that its owner recognizes.
func displayName(user *User) string {
	for _, claim := range []string{"name", "preferred_username", "email"} {
		if name, ok := user.Claims[claim].(string); ok && name != "" && name != user.Subject {
			return name + " (" + user.Subject + ")"
		}
	}
	return user.Subject
}

// foreign returns the resources other than the issuer itself.
func foreign(audience []string, issuer string) []string {
	return slices.DeleteFunc(slices.Clone(audience), func(r string) bool { return r == issuer })
}

// decided handles what the person posted from the consent page.
func (e *authorizeEndpoint) decided(c *call, form url.Values) error {
	c.setDeadline(e.config.StoreTimeout)
	user, err := e.user(c)
	if err != nil {
		return err
	}
	switch {
	case user == nil:
		return errStale
	case !e.fromThisSite(c.r):
		return errOtherSite
	}
	sealed, err := e.sealer.open(c.ctx, consentPurpose(user), form.Get("request"))
	if err != nil {
		return err
	}
	asked, err := readAsked(sealed)
	if err != nil {
		return err
	}
	// The configuration may have changed since the page was shown.
	client, _, err := e.findClient(c, asked.params)
	if err != nil {
		return err
	}
	c.client = client
	to, err := e.findRedirectTarget(client, asked.params)
	if err != nil {
		return err
	}
	req, err := e.checkAuthorizeRequest(client, to, asked.params)
	if err != nil {
		return err
	}
	req.pushed, req.object, req.form = asked.pushed, asked.object, storage.HashID(form.Get("request"))
	req.askedClaims = e.askedClaims(req, user)
	switch {
	case form.Get("decision") != "allow":
		if key, ok := storage.PushedKey(asked.pushed); ok {
			_ = e.store.Delete(c.ctx, key) // it ends soon anyway
		}
		return &redirectError{errDenied, to}
	case asked.shown != e.shown(req, user):
		return errStale
	case req.essentialACR != nil && !slices.Contains(req.essentialACR, user.Session.ACR):
		return &redirectError{errUnmetACR, to}
	case req.maxAge != nil && e.now().Sub(asked.began) > readingTime && e.now().Sub(user.AuthTime) > *req.maxAge:
		return &redirectError{errOldLogin, to}
	}
	if req.until, err = chosenUntil(client, form, e.now()); err != nil {
		return err
	}
	if err := e.cutoffs.Sync(c.ctx); err != nil {
		return toClient(err, to)
	}
	if e.cutoffs.Voids(user.Subject, client.ID, asked.began) { // see Revoker.Revoke
		return errStale
	}
	if err := checkSubjectFor(client, req.scopes, user.Subject); err != nil {
		return toClient(err, to)
	}
	if req.came, err = e.cameFromLogin(c, req); err != nil {
		return toClient(err, to)
	}
	if err := e.remember(c.ctx, user.Subject, approval{client, req.scopes, req.audience, req.until, req.redirectURI}); err != nil {
		return toClient(err, to)
	}
	e.events.record(&Event{Name: eventConsentGiven, Address: c.peer.Address, Client: client.ID, Subject: user.Subject, Scopes: req.scopes, Until: req.until})
	return toClient(e.approve(c, req, user), to)
}

// readingTime is how long a person can read a consent page without the login becoming too old meanwhile for max_age. Some clients want a
// login of the last seconds.
const readingTime = 10 * time.Minute

// asked is what ask has sealed.
type asked struct {
	began  time.Time // when the page was shown
	pushed string    // the reference to the request, if it was pushed
	object string    // the request object that it is from, if there is one
	shown  string    // what the person approves
	params url.Values
}

func readAsked(sealed string) (a asked, err error) {
	parts := strings.SplitN(sealed, "\n", 5)
	if len(parts) != 5 {
		return asked{}, errStale
	}
	millis, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil {
		return asked{}, err
	}
	a = asked{began: time.UnixMilli(millis), pushed: parts[1], object: parts[2], shown: parts[3]}
	a.params, err = url.ParseQuery(parts[4])
	return a, err
}

// fromThisSite reports whether a form was posted by a page of this site, as far as the browser says. A browser that does not say so
// can be old; then the sealed part of the form decides. Our pages send no referrer, so that some browsers say the origin null.
func (s *core) fromThisSite(r *http.Request) bool {
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "same-origin", "none":
		return true
	case "":
	default:
		return false
	}
	origin := r.Header.Get("Origin")
	if origin == "" || origin == "null" || origin == s.origin {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, r.Host)
}

var errDenied = grants.Refuse(grants.AccessDenied, "the user denied access")

var errOtherSite = &grants.Error{
	Code:        grants.InvalidRequest,
	Description: "another site has sent this form: go back to the app and start again",
	Status:      http.StatusForbidden,
}

// maxConnected is how many apps one person can have connected before no other can be added that brought its own metadata. Without
// it, one person could fill the store.
const maxConnected = 100

var errTooManyApps = grants.Refuse(grants.AccessDenied, "this account has too many connected apps: remove some, and start again")

// approval is what a person has approved on a page.
type approval struct {
	client           *storage.Client
	scopes, audience []string
	until            time.Time // zero: never
	redirectURI      string    // where the code goes; "" for a device
}

// remember records what a user approves now.
func (s *core) remember(ctx context.Context, subject string, a approval) error {
	now := s.now()
	return s.consents.change(ctx, subject, func(consents *storage.Consents) error {
		consents.Prune(now)
		if _, known := consents.Clients[a.client.ID]; !known && a.client.Origin != "" && len(consents.Clients) >= maxConnected {
			return errTooManyApps
		}
		consents.Approve(a.client.ID, a.scopes, a.audience, a.until, now)
		if host := pages.HostOf(a.redirectURI); a.client.Origin != "" && host != "" {
			consents.ApproveRedirect(a.client.ID, host)
		}
		return nil
	})
}

// impersonable reports whether another program on the person's device could pose as the client: the client has no secret,
// and its redirect goes to any program that listens there (RFC 8252 §8.6).
func impersonable(client *storage.Client, redirectURI string) bool {
	return client.Public() && !strings.HasPrefix(redirectURI, "https://")
}
