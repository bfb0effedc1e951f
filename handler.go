package caddyoauth

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// Handler serves the endpoints of an issuer of the `oauth` app: authorize, token, the public keys and the
// metadata. All other requests it passes on.
//
// It has no login of its own: whoever the site has found to be signed in, is.
type Handler struct {
	// The name of the issuer. Default: the only one there is, or `default`.
	Issuer string `json:"issuer,omitempty"`

	// Who is signed in, as a placeholder, which must be empty if nobody is. Take one that Caddy sets
	// after a successful login, such as `{http.auth.user.id}`, or, after `forward_auth`,
	// `{http.reverse_proxy.header.Remote-User}`; never a header of the request, which any browser can forge.
	// Default: `{http.auth.user.id}`.
	User string `json:"user,omitempty"`

	// Claims for the tokens of the person who is signed in, by name, as placeholders with the same
	// care. Empty ones are left out. `name`, `preferred_username` and `email` are also shown to the person.
	Claims map[string]string `json:"claims,omitempty"`

	// The site's login page, for sites whose login is a page and not a challenge.
	Login *Login `json:"login,omitempty"`

	server *authserver.Server
}

// Login is a page where people sign in, and that sends them back afterwards.
type Login struct {
	// The URL of the page, or its path on this site.
	URL string `json:"url"`

	// The parameter that tells the page where to send people back to. It is a path with a query on this
	// site if the URL is a path, else a whole URL of the issuer. Default: `return_to`.
	Parameter string `json:"parameter,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.oauth",
		New: func() caddy.Module { return new(Handler) },
	}
}

const defaultUser = "{http.auth.user.id}"

// Provision finds the issuer.
func (h *Handler) Provision(ctx caddy.Context) error {
	app, err := ctx.AppIfConfigured("oauth")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return errors.New("the oauth directive needs the global option oauth with an issuer")
	}
	if err != nil {
		return err
	}
	if h.server, err = app.(*App).server(h.Issuer); err != nil {
		return err
	}
	if h.User == "" {
		h.User = defaultUser
	}
	if err := h.check(); err != nil {
		return err
	}
	warnForgeable(ctx.Logger(), "user", h.User)
	for _, name := range slices.Sorted(maps.Keys(h.Claims)) {
		warnForgeable(ctx.Logger(), "claim "+name, h.Claims[name])
	}
	return nil
}

// check finds impossible settings.
func (h *Handler) check() error {
	for _, name := range slices.Sorted(maps.Keys(h.Claims)) {
		if slices.Contains(authserver.ReservedClaims, name) || name == "" {
			return directive.At("claim "+name, errors.New("expected another name; this claim is the server's own"))
		}
	}
	if h.User != "" && !unresolved(h.User) {
		return directive.At("user", fmt.Errorf("expected a placeholder such as %s; with %s everybody would be signed in", defaultUser, h.User))
	}
	if h.Login == nil {
		return nil
	}
	u, err := url.Parse(h.Login.URL)
	if err != nil || u.Fragment != "" || !(u.Scheme == "" && u.Host == "" && strings.HasPrefix(u.Path, "/") ||
		u.Host != "" && (u.Scheme == "https" || u.Scheme == "http")) {
		return directive.At("login", fmt.Errorf("expected the URL or the path of a login page, such as /login, not %s", h.Login.URL))
	}
	return nil
}

// warnForgeable warns of a placeholder whose value the browser chooses.
func warnForgeable(log *zap.Logger, setting, value string) {
	for _, placeholder := range strings.Split(value, "{")[1:] {
		chosen := strings.HasPrefix(placeholder, "http.request.") && !strings.HasPrefix(placeholder, "http.request.tls.")
		if chosen {
			log.Warn("this comes from the request, and any browser can forge it; use what Caddy sets after a login",
				zap.String("setting", setting), zap.String("value", value))
		}
	}
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !h.server.Serves(r.URL.Path) {
		return next.ServeHTTP(w, r)
	}
	err := h.server.ServeHTTP(w, r, site{h})
	var page *authserver.PageError
	if !errors.As(err, &page) {
		return err
	}
	failure := caddyhttp.Error(page.Status, page)
	failure.ID = page.ID
	if handlesErrors(r, failure) {
		return failure
	}
	return h.server.WritePage(w, page)
}

// handlesErrors reports whether the site has a handle_errors route that is for this failure. Without one, Caddy
// would answer with an empty page.
func handlesErrors(r *http.Request, failure caddyhttp.HandlerError) bool {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server.Errors == nil {
		return false
	}
	failed := server.Errors.WithError(r, failure)
	return handles(server.Errors.Routes, failed)
}

// handles reports whether any of the routes does something with the request. A Caddyfile wraps the
// routes of a site in a subroute for its hosts, and those of `handle_errors 404` in one for the status.
func handles(routes caddyhttp.RouteList, r *http.Request) bool {
	return slices.ContainsFunc(routes, func(route caddyhttp.Route) bool {
		match, err := route.MatcherSets.AnyMatchWithError(r)
		return match && err == nil && slices.ContainsFunc(route.Handlers, func(h caddyhttp.MiddlewareHandler) bool {
			sub, ok := h.(*caddyhttp.Subroute)
			return !ok || handles(sub.Routes, r)
		})
	})
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)

// site tells an authorization server what Caddy knows of a request.
type site struct{ h *Handler }

var _ authserver.Site = site{}

// User implements authserver.Site.
func (s site) User(r *http.Request) (*authserver.User, error) {
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	// With any part of it empty nobody is signed in: what is left may be a mere prefix.
	subject, err := repl.ReplaceOrErr(s.h.User, true, true)
	if err != nil || subject == "" {
		return nil, nil //nolint:nilerr // the error names the placeholder that is empty
	}
	user := &authserver.User{Subject: subject}
	for name, placeholder := range s.h.Claims {
		if value := repl.ReplaceAll(placeholder, ""); value != "" {
			if user.Claims == nil {
				user.Claims = make(map[string]any, len(s.h.Claims))
			}
			user.Claims[name] = value
		}
	}
	return user, nil
}

// LoginURL implements authserver.Site.
func (s site) LoginURL(returnTo string) string {
	if s.h.Login == nil {
		return ""
	}
	u, err := url.Parse(s.h.Login.URL)
	if err != nil {
		return ""
	}
	if u.Host != "" {
		returnTo = s.h.server.Origin() + returnTo
	}
	parameter := s.h.Login.Parameter
	if parameter == "" {
		parameter = "return_to"
	}
	query := u.Query()
	query.Set(parameter, returnTo)
	u.RawQuery = query.Encode()
	return u.String()
}

// ClientIP implements authserver.Site.
func (s site) ClientIP(r *http.Request) string { return clientIP(r) }
