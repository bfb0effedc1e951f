package caddyoauth

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/guard"
	"github.com/caddy-oauth/caddy-oauth/internal/request"
	"github.com/caddy-oauth/caddy-oauth/internal/routes"
	"github.com/caddy-oauth/caddy-oauth/internal/signin"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// Handler serves the endpoints of an issuer of the `oauth` app: authorize, token, the public keys, the metadata and the
// others. It passes all other requests on.
//
// It looks at the URI that the client sent: a rewrite before it does not change which requests are its own.
//
// It has no login of its own. The site's login says who a person is: the handlers of `login`, and whatever ran before.
//
// The issuer is one of the app's, or the handler defines it with `settings`.
type Handler struct {
	// The name of the issuer. Default: with `settings`, the host of the issuer's URL, with the port and the path if it has any, as in
	// `example.com-shop`; without, the only issuer of the app, or `default`. **Danger:** the keys and records of an issuer are stored
	// under its name. An issuer with another name starts without them: all its tokens become invalid.
	Issuer string `json:"issuer,omitempty"`

	// The settings of the issuer, which this handler then defines: the `oauth` app need not have it. If the handlers of several
	// servers define the same issuer, their settings must be the same. Default: none, the app or another handler has the issuer.
	// **Danger:** Caddy writes the settings of all handlers to its log at level DEBUG. Write secrets as placeholders, such as
	// `{env.BILLING_SECRET}` or `{file./run/secrets/billing}`. The Caddyfile adapter replaces the secrets of clients by their hashes.
	Settings *Issuer `json:"settings,omitempty"`

	// The ID of the person who is signed in, as a placeholder that is empty if nobody is. Use one that Caddy sets after a
	// successful login, such as `{http.auth.user.id}`, or `{http.reverse_proxy.header.Remote-User}` after `forward_auth`.
	// Default: `{http.auth.user.id}`. **Danger:** every browser can forge a header of the request, so never use one here.
	User string `json:"user,omitempty"`

	// The claims of tokens about the person who is signed in, by the name of the claim. A claim whose placeholder is empty is left
	// out. The pages show `name`, `preferred_username` and `email` to the person. **Danger:** as with `user`, never use a header of
	// the request.
	Claims map[string]Claim `json:"claims,omitempty"`

	// What the site knows of how the person has signed in. Default: nothing, and tokens say nothing about it.
	Session *Session `json:"session,omitempty"`

	// How people sign in. Default: whatever has run before the handler says who a person is.
	Login *Login `json:"login,omitempty"`

	app    *App
	server *authserver.Server

	certHeader string // the setting client_cert_header of the issuer

	block    *caddyhttp.Subroute // of the site
	place    *guard.Place
	prepared func() error // prepare, once; an error stays, as it is one of the configuration, which then does not load
	log      *zap.Logger
	noted    *sync.Map // what noteOnce has logged
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.oauth",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision finds the issuer, or adds it to the app, and checks the settings.
func (h *Handler) Provision(ctx caddy.Context) error {
	app, err := ctx.App("oauth")
	if err != nil {
		return err
	}
	h.app, h.block, h.prepared = app.(*App), routes.Block(ctx), sync.OnceValue(h.prepare)
	h.place, h.log, h.noted = guard.NewPlace(h, guardOf, ctx.Logger()), ctx.Logger(), new(sync.Map)
	if h.User == "" {
		h.User = signin.DefaultUser
	}
	if err := h.check(); err != nil {
		return err
	}
	if h.Settings != nil {
		if h.Issuer, err = h.app.define(h); err != nil {
			return err
		}
	} else if h.Issuer == "" {
		if h.Issuer, err = h.app.configuredIssuer(); err != nil {
			return err
		}
	}
	if err := h.Login.provision(ctx); err != nil {
		return err
	}
	h.app.warnings.Warn(ctx.Logger(), slices.Concat(h.userMistakes(), h.claimMistakes()))
	h.app.handlers = append(h.app.handlers, h)
	return h.app.await(h)
}

// reference implements issuerUser.
func (h *Handler) reference() (issuer string, block *caddyhttp.Subroute) { return h.Issuer, nil }

// connect implements issuerUser.
func (h *Handler) connect() error { return h.prepared() }

// provision loads the handlers.
func (l *Login) provision(ctx caddy.Context) error {
	if l == nil {
		return nil
	}
	if err := l.Routes.Provision(ctx); err != nil {
		return directive.At("login", err)
	}
	for list := range routes.Lists(new(caddyhttp.Server), l.Routes) {
		for handler := range routes.Handlers(list) {
			if _, ours := handler.(*Handler); ours {
				return directive.At("login", errors.New("expected handlers that find out who a person is, and not the handler oauth, which runs them"))
			}
		}
	}
	return nil
}

// prepare finds the issuer.
func (h *Handler) prepare() error {
	name, issuer, err := h.app.issuer(h.Issuer)
	if err != nil {
		return err
	}
	h.app.warnings.Warn(h.log, h.authTimeMistakes(issuer))
	h.server, h.certHeader = h.app.servers[name], issuer.ClientCertHeader
	h.app.serveIn(h.block, name)
	return h.server.AddSite(h.facts())
}

// facts returns which claims and acr values this site provides, and whether it can sign people out. The metadata needs
// them.
func (h *Handler) facts() authserver.SiteFacts {
	facts := authserver.SiteFacts{Claims: slices.Collect(maps.Keys(h.Claims))}
	for name, placeholder := range h.Session.placeholders() {
		if placeholder != "" {
			facts.Claims = append(facts.Claims, name)
		}
	}
	if h.Session != nil {
		facts.ACRValues, facts.SignsOut = h.Session.ACRValues, h.Session.Logout != nil
	}
	return facts
}

// check finds impossible settings.
func (h *Handler) check() error {
	for _, name := range slices.Sorted(maps.Keys(h.Claims)) {
		if err := cmp.Or(checkClaimNames([]string{name}), h.Claims[name].check()); err != nil {
			return directive.At("claim "+name, err)
		}
	}
	if h.User != "" && !unresolved(h.User) {
		return directive.At("user", fmt.Errorf("expected a placeholder such as %s; with %s everybody would be signed in", signin.DefaultUser, h.User))
	}
	return cmp.Or(directive.At("session", h.Session.check()), directive.At("login", h.Login.check()))
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if err := h.prepared(); err != nil {
		return err
	}
	e := h.endpoint(request.Original(r).Path)
	if request.HideSecretsFromLogs(w, r, e != nil && e.SecretLocation) {
		return nil
	}
	if h.certHeader != "" {
		request.DropClientCert(r)
	}
	if h.place.Enter(w, r) {
		return nil
	}
	switch {
	case e == nil:
		return next.ServeHTTP(w, r)
	case e.Login == authserver.LoginNone:
		return h.answer(w, r, e, site{h: h})
	}
	return h.answerPerson(w, r, e)
}

// endpoint returns the endpoint at a path, nil if the path is not for this handler. A request for the metadata of an unknown issuer on
// this host is for this handler too, which answers 404.
func (h *Handler) endpoint(path string) *authserver.Endpoint {
	if e := h.server.Endpoint(path); e != nil {
		return e
	}
	if unknown := h.server.UnknownMetadata(path); unknown != nil && !h.app.serves(h.server.Origin(), path) {
		return unknown
	}
	return nil
}

// answerPerson answers a request for a page, after the login of the site.
func (h *Handler) answerPerson(w http.ResponseWriter, r *http.Request, e *authserver.Endpoint) error {
	login := h.login(r)
	if login.IsZero() { // handlers before this one find out who a person is
		return h.answer(w, r, e, site{h: h})
	}
	answer := func(w http.ResponseWriter, r *http.Request) error { return h.answer(w, r, e, site{h: h}) }
	nobody := func(w http.ResponseWriter, r *http.Request) error { return h.answer(w, r, e, site{h: h, nobody: true}) }
	switch {
	case e.Login == authserver.LoginOptional:
		return login.Ask(w, r, answer, nobody)
	case e.Login == authserver.LoginUnlessSilent && h.wantsNoPage(w, r):
		return h.answerWithoutPage(w, r, e, login, answer, nobody)
	}
	return login.Run(w, r, answer)
}

// login returns the login of the site.
func (h *Handler) login(r *http.Request) signin.Login {
	login := signin.Login{Beside: signin.After(h.place.List(r), h)}
	if h.Login != nil {
		login.Routes = h.Login.Routes
	}
	return login
}

// wantsNoPage reports whether an authorization request must be answered without a page of the login (OpenID Connect Core §3.1.2.1,
// prompt=none): the application may have sent it from a hidden iframe.
func (h *Handler) wantsNoPage(w http.ResponseWriter, r *http.Request) bool {
	params := request.Original(r).Query()
	if r.Method == http.MethodPost {
		wire.LimitTime(w, r)
		again := signin.KeepBody(r)
		params, _ = wire.ReadForm(w, r) // the endpoint finds the same error
		r.Body = again()
	}
	return h.server.WantsNoPage(r.Context(), params)
}

// answerWithoutPage answers an authorization request. If the login lets nobody pass, or has failed, the application gets an error, and
// no page or challenge of the login.
func (h *Handler) answerWithoutPage(
	w http.ResponseWriter, r *http.Request, e *authserver.Endpoint, login signin.Login, answer, nobody caddyhttp.HandlerFunc,
) error {
	answered := false
	noting := func(answer caddyhttp.HandlerFunc) caddyhttp.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) error {
			answered = true
			return answer(w, r)
		}
	}
	again, method := signin.KeepBody(r), r.Method
	err := login.Ask(w, r, noting(answer), noting(nobody))
	if err == nil || answered {
		return err
	}
	r.Body, r.Method = again(), method
	return h.answer(w, r, e, site{h: h, failure: err})
}

// answer answers a request at an endpoint.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, e *authserver.Endpoint, s site) error {
	r, w = request.WithOriginal(r), request.KeepHeaders(w)
	outcome, err := h.server.ServeHTTP(w, r, e, request.PeerOf(r, h.certHeader), s)
	if outcome.Client != "" {
		logOutcome(r, outcome)
	}
	var page *authserver.PageError
	if !errors.As(err, &page) {
		return err
	}
	failure := caddyhttp.Error(page.Status, page)
	failure.ID = page.ID
	if routes.HandlesError(r, failure) {
		return failure
	}
	return h.server.WritePage(w, r, page)
}

// logOutcome adds to the access log what a request was about.
func logOutcome(r *http.Request, outcome authserver.Outcome) {
	fields := append(make([]zap.Field, 0, 3), zap.String("client_id", outcome.Client))
	if outcome.GrantType != "" {
		fields = append(fields, zap.String("grant_type", outcome.GrantType))
	}
	if outcome.Code {
		fields = append(fields, zap.Bool("code_issued", true))
	}
	request.Log(r, fields...)
}

// site gives an authorization server what Caddy knows about a request.
type site struct {
	h *Handler

	nobody  bool  // the login has let nobody pass
	failure error // of the login
}

// User implements authserver.Site.
func (s site) User(r *http.Request) (*authserver.User, error) {
	if s.nobody || s.failure != nil {
		return nil, s.failure
	}
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	// If a placeholder in it is empty, nobody is signed in: the rest may be just a prefix.
	subject, err := repl.ReplaceOrErr(s.h.User, true, true)
	if err != nil || subject == "" {
		return nil, nil //nolint:nilerr // the error says which placeholder is empty
	}
	user := &authserver.User{Subject: subject}
	for name, claim := range s.h.Claims {
		value, err := claim.value(repl)
		if err != nil {
			s.h.noteOnce("a claim is left out: its value does not have the type of the setting", zap.String("claim", name), zap.Error(err))
		}
		if value != nil {
			if user.Claims == nil {
				user.Claims = make(map[string]any, len(s.h.Claims))
			}
			user.Claims[name] = value
		}
	}
	if s.h.Session != nil {
		if user.AuthTime, user.Session, err = s.h.Session.read(repl, time.Now()); err != nil {
			s.h.noteOnce("the session is ignored: a value from the login is malformed", zap.Error(err))
		}
		user.ACRValues = s.h.Session.ACRValues
	}
	return user, nil
}

// noteOnce logs a warning about the configuration once, although every request triggers it.
func (h *Handler) noteOnce(message string, fields ...zap.Field) {
	if _, noted := h.noted.LoadOrStore(message+fields[0].String, true); !noted {
		h.log.Warn(message, fields...)
	}
}

// LoginURL implements authserver.Site.
func (s site) LoginURL(to authserver.LoginRequest) string {
	origin := s.h.server.Origin()
	if again := s.h.Session.reauthenticate(); again != nil && (to.Again || s.h.Login == nil || s.h.Login.URL == "") {
		return pageURL(again.URL, again.Parameter, origin, to.ReturnTo, to.Hints)
	}
	if s.h.Login == nil {
		return ""
	}
	return pageURL(s.h.Login.URL, s.h.Login.Parameter, origin, to.ReturnTo, to.Hints)
}

// LogoutURL implements authserver.Logouter.
func (s site) LogoutURL(returnTo string) string {
	if s.h.Session == nil || s.h.Session.Logout == nil {
		return ""
	}
	page := s.h.Session.Logout
	return pageURL(page.URL, page.Parameter, s.h.server.Origin(), returnTo, nil)
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
	_ issuerUser                  = (*Handler)(nil)
	_ authserver.Site             = site{}
	_ authserver.Logouter         = site{}
)
