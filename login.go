package caddyoauth

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oauth/caddy-oauth/internal/request"
	"github.com/caddy-oauth/caddy-oauth/internal/routes"
)

// Login is how people sign in: by handlers that find out who a person is, on a page of the site, or both.
type Login struct {
	// The handlers that find out who a person is, such as those of `basic_auth` and `forward_auth`. They run only for requests that
	// need a person, before the answer: the page where people approve a client, and the page where they see their apps. They see the
	// URL that the client sent.
	Routes caddyhttp.RouteList `json:"routes,omitempty"`

	// The URL of a page where people sign in, and which sends them back afterwards, or its path on this site. People who are not
	// signed in are sent there, and so are those who must sign in again, unless `reauthenticate` of `session` has another page for them.
	// The page may get the parameters `login_hint`, a name for the account that the application suggests, `ui_locales` and `acr_values`,
	// and `prompt`: with `login`, it must ask who is signed in to sign in again, and with `select_account`, which account to use. They
	// come from the application: show none of them without escaping it. Default: none, for sites whose login is a challenge of the
	// browser.
	URL string `json:"url,omitempty"`

	// The query parameter that tells the page where to send people afterwards. If the page is a path on this site, the value is
	// a path with a query, otherwise a complete URL of the issuer. Default: `return_to`.
	Parameter string `json:"parameter,omitempty"`
}

func (l *Login) check() error {
	switch {
	case l == nil:
		return nil
	case l.URL == "" && l.Parameter != "":
		return errors.New("expected the URL of the page that the parameter is for")
	case l.URL == "" && len(l.Routes) == 0:
		return errors.New("expected the URL or the path of a login page, directives in braces, or both")
	case l.URL == "":
		return nil
	}
	return checkSitePage(l.URL)
}

// checkSitePage checks the URL of a page of the site that sends people back.
func checkSitePage(page string) error {
	u, err := url.Parse(page)
	path := err == nil && u.Scheme == "" && u.Host == "" && strings.HasPrefix(u.Path, "/")
	web := err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http")
	if !path && !web || u.Fragment != "" {
		return fmt.Errorf("expected the URL or the path of a login page, such as /login, not %s", page)
	}
	return nil
}

// pageURL returns the URL of a page of the site, with hints as parameters, that sends people back to a path on the origin of the issuer.
func pageURL(page, parameter, origin, returnTo string, hints url.Values) string {
	u, err := url.Parse(page)
	if page == "" || err != nil {
		return ""
	}
	if u.Host != "" {
		returnTo = origin + returnTo
	}
	query := u.Query()
	maps.Copy(query, hints)
	query.Set(cmp.Or(parameter, "return_to"), returnTo)
	u.RawQuery = query.Encode()
	return u.String()
}

// signIn runs the handlers, and then answer. Without handlers, it runs the logins that stand beside the directive.
func (l *Login) signIn(w http.ResponseWriter, r *http.Request, beside []login, answer caddyhttp.HandlerFunc) error {
	if l == nil || len(l.Routes) == 0 {
		return signInBeside(w, r, beside, answer)
	}
	// In place: placeholders have the URL of this very request.
	rewritten, target, method := *r.URL, r.RequestURI, r.Method
	*r.URL = *request.Original(r)
	r.RequestURI = r.URL.RequestURI()
	defer func() { *r.URL, r.RequestURI = rewritten, target }()

	body := &keptBody{ReadCloser: r.Body}
	r.Body = body
	return l.Routes.Compile(caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		r.Body, r.Method = body.again(), method
		return answer(w, r)
	})).ServeHTTP(w, r)
}

var errLoginFailed = errors.New("the login has failed")

// ask is signIn for an endpoint that also answers people who are not signed in, by nobody. What the handlers answer to them is dropped,
// unless the login has failed.
func (l *Login) ask(w http.ResponseWriter, r *http.Request, beside []login, answer, nobody caddyhttp.HandlerFunc) error {
	g := &gate{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}}
	before, body, method := w.Header().Clone(), &keptBody{ReadCloser: r.Body}, r.Method
	r.Body = body
	err := l.signIn(g, r, beside, func(w http.ResponseWriter, r *http.Request) error {
		g.open = true
		return answer(w, r)
	})
	refusal, refused := errors.AsType[caddyhttp.HandlerError](err)
	status := cmp.Or(refusal.StatusCode, g.status)
	switch {
	case g.open:
		return err
	case err != nil && !refused:
		return caddyhttp.Error(http.StatusServiceUnavailable, err)
	case status == http.StatusTooManyRequests: // it does not say who this is
		return caddyhttp.Error(http.StatusServiceUnavailable, cmp.Or(refusal.Err, errLoginFailed))
	case refusal.StatusCode >= http.StatusInternalServerError:
		return err
	case status >= http.StatusInternalServerError:
		return caddyhttp.Error(status, errLoginFailed)
	}
	clear(w.Header())
	maps.Copy(w.Header(), before)
	r.Body, r.Method = body.again(), method
	return nobody(w, r)
}

// gate drops a response until it is open.
type gate struct {
	*caddyhttp.ResponseWriterWrapper

	open   bool
	status int // of the response that was dropped
}

// WriteHeader implements http.ResponseWriter.
func (g *gate) WriteHeader(status int) {
	if g.open {
		g.ResponseWriterWrapper.WriteHeader(status)
		return
	}
	g.status = status
}

// Write implements http.ResponseWriter.
func (g *gate) Write(b []byte) (int, error) {
	if g.open {
		return g.ResponseWriterWrapper.Write(b)
	}
	return len(b), nil
}

// ReadFrom implements io.ReaderFrom.
func (g *gate) ReadFrom(r io.Reader) (int64, error) {
	if g.open {
		return g.ResponseWriterWrapper.ReadFrom(r)
	}
	return io.Copy(io.Discard, r)
}

// FlushError is what http.ResponseController calls.
func (g *gate) FlushError() error {
	if g.open {
		return http.NewResponseController(g.ResponseWriterWrapper.ResponseWriter).Flush()
	}
	return nil
}

// login is a login of the site that stands beside the directive, and runs for pages too.
type login struct {
	matchers caddyhttp.MatcherSets // of its route
	handler  caddyhttp.MiddlewareHandler
}

// loginsAfter returns the logins that stand after a handler in a list of routes.
func loginsAfter(list caddyhttp.RouteList, h caddyhttp.MiddlewareHandler) (logins []login) {
	var found bool
	for _, route := range list {
		for _, handler := range route.Handlers {
			if found && routes.IsLogin(handler) {
				logins = append(logins, login{route.MatcherSets, handler})
			}
			found = found || handler == h
		}
	}
	return logins
}

// signInBeside runs those of the logins whose own matchers match, and then answer.
func signInBeside(w http.ResponseWriter, r *http.Request, logins []login, answer caddyhttp.HandlerFunc) error {
	next := answer
	for _, l := range slices.Backward(logins) {
		then := next
		next = func(w http.ResponseWriter, r *http.Request) error {
			matches, err := l.matchers.AnyMatchWithError(r)
			switch {
			case err != nil:
				return err
			case !matches:
				return then(w, r)
			}
			return l.handler.ServeHTTP(w, r, then)
		}
	}
	return next(w, r)
}

// keptBody is the body of a request that handlers may read before the endpoint does.
type keptBody struct {
	io.ReadCloser

	mu   sync.Mutex
	read []byte
	over bool // the endpoint has it now
}

// maxKept is how much of a body is kept. It is more than any endpoint accepts.
const maxKept = 128 << 10

// Read implements io.Reader.
func (b *keptBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over { // a proxy may read on after it got its answer
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p)
	b.read = append(b.read, p[:min(n, maxKept-len(b.read))]...)
	return n, err
}

// Close does nothing. The server closes the body.
func (b *keptBody) Close() error { return nil }

// again returns the body from its start.
func (b *keptBody) again() io.ReadCloser {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(strings.NewReader(string(b.read)), b.ReadCloser), b.ReadCloser}
}
