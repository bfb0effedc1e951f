package caddyoauth

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/routes"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// This file finds settings that load, and cannot work or are not what their owner means. The Caddyfile adapter warns of them with the
// file and the line, by the logger of Caddy's own directives, so that `caddy adapt` and `caddy validate` show them. Provision warns of
// settings in any format, without a line. What an owner can mean gets no warning.
//
// caddyfile_mistakes.go finds what can only be seen in a Caddyfile: where directives stand, and what stands beside them.

// mistake is what a warning is about.
type mistake struct {
	path    []string        // of the setting, as in directive.Error
	at      caddyfile.Token // where it stands; none: where the path leads
	seen    string
	instead string // what to write
	key     string // tells it from others; "" is seen
}

const mistakeMessage = "the configuration loads, but this is probably a mistake"

// warn logs mistakes. The parser knows where the settings stand; it is nil outside the Caddyfile adapter.
func warn(log *zap.Logger, p *directive.Parser, mistakes []mistake) {
	for _, m := range mistakes {
		if p != nil {
			adapterSaid.add(m)
		}
		fields := []zap.Field{zap.String("seen", m.seen), zap.String("instead", m.instead)}
		if len(m.path) > 0 {
			fields = append(fields, zap.String("setting", strings.Join(m.path, ": ")))
		}
		at := m.at
		if p != nil && at.File == "" {
			at = p.Find(m.path)
		}
		if at.File != "" {
			fields = append(fields, zap.String("file", at.File), zap.Int("line", at.Line))
		}
		log.Warn(mistakeMessage, fields...)
	}
}

func adapterLog() *zap.Logger { return caddy.Log().Named("config.adapter.caddyfile") }

// warnings are the mistakes that were warned of.
type warnings struct {
	mu   sync.Mutex
	seen map[string]bool
}

// mostWarnings bounds what is remembered of configurations that are adapted and never loaded.
const mostWarnings = 1000

// add reports whether there was no such warning before.
func (w *warnings) add(m mistake) bool {
	seen := cmp.Or(m.key, m.seen)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen[seen] {
		return false
	}
	if w.seen == nil {
		w.seen = make(map[string]bool)
	}
	if len(w.seen) < mostWarnings {
		w.seen[seen] = true
	}
	return true
}

// take returns the warnings, and forgets them.
func (w *warnings) take() *warnings {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := &warnings{seen: w.seen}
	w.seen = nil
	return taken
}

// adapterSaid has what the Caddyfile adapter has warned of since this process provisioned a configuration. The next configuration is
// the adapted one as a rule, and need not say the same again without lines.
var adapterSaid warnings

// warn logs mistakes in the settings of a configuration, each once.
func (a *App) warn(log *zap.Logger, mistakes []mistake) {
	warn(log, nil, slices.DeleteFunc(mistakes, func(m mistake) bool { return !a.said.add(m) }))
}

// shortSecret is the length below which a secret can be guessed.
const shortSecret = 16

// mistakes finds settings of an issuer that cannot work. Call it before placeholders are replaced. The path leads to the issuer.
func (i *Issuer) mistakes(path ...string) (found []mistake) {
	add := func(seen, instead string, setting ...string) {
		found = append(found, mistake{path: append(slices.Clone(path), setting...), seen: seen, instead: instead})
	}
	shown := make(map[string]bool) // scopes on the consent page
	for _, id := range slices.Sorted(maps.Keys(i.Clients)) {
		c := i.Clients[id]
		if c == nil {
			continue
		}
		if strings.Contains(id, ":") {
			add(fmt.Sprintf("the client ID %s has a colon, at which many programs end the name of HTTP Basic", id), "a client ID without a colon", "client "+id)
		}
		for _, secret := range c.Secrets {
			if len(secret) < shortSecret && !unresolved(secret) {
				add("the secret of the client "+id+" is so short that it can be guessed",
					"32 random characters, from {env.NAME} or {file./path/of/the/file}", "client "+id, "secret")
			}
		}
		for _, e := range c.Exchanges {
			if given := i.givenResources(); !i.MCP && !slices.ContainsFunc(given, unresolved) && !unresolved(e.From) && !slices.Contains(given, e.From) {
				add("no client of the configuration gets tokens for "+e.From+", which the client "+id+" could exchange",
					"exchange from "+directive.OneOf(given), "client "+id, e.name())
			}
		}
		if seen, instead := i.signInMistake(id, c); seen != "" {
			add(seen, instead, "client "+id, "scopes")
		}
		if i.RequireSigned && !c.hasKeys() && slices.Contains(c.grantTypes(), "authorization_code") {
			add("the client "+id+" has no keys to sign its authorization requests with, which require_signed_request_object demands",
				"jwks or jwks_uri", "client "+id)
		}
		mode := c.Consent
		if mode == "" {
			mode = i.Consent
		}
		if mode != storage.ConsentNever && slices.Contains(c.grantTypes(), "authorization_code") {
			for _, scope := range c.Scopes {
				shown[scope] = true
			}
		}
	}
	if i.Dynamic != nil {
		for _, token := range i.Dynamic.Tokens {
			if end, err := token.end(); err == nil && !end.IsZero() && !time.Now().Before(end) {
				add("an initial access token has ended, at "+end.Format(time.RFC3339), "a later date at until, or no such token", "dynamic", "token")
			}
		}
	}
	for _, s := range i.Scopes {
		switch {
		case s.Name == grants.OpenID && i.OpenID == nil:
			add("the scope openid is that of OpenID Connect, which the issuer does not have", "openid, and no scope of that name", "scope openid")
		case i.OpenID != nil && slices.Contains(grants.OpenIDScopes, s.Name): // it has words
		case s.Description == "" && shown[s.Name]:
			add("the consent page shows the scope "+s.Name+", which has no words for people",
				fmt.Sprintf("scope %s %q", s.Name, "what it lets an app do"), "scope "+s.Name)
		}
	}
	return found
}

// signsIn returns the grant type for which people sign in to a client of the issuer, "" if they sign in to none.
func (i *Issuer) signsIn() string {
	const code = "authorization_code"
	if i.cimd() != nil || i.dynamic() != nil {
		return code
	}
	found := ""
	for _, c := range i.Clients {
		if c == nil {
			continue
		}
		switch types := c.grantTypes(); {
		case slices.Contains(types, code):
			return code
		case slices.Contains(types, grants.DeviceCodeType):
			found = "device_code"
		}
	}
	return found
}

// What is wrong with the place of an oauth directive or handler.
const (
	nobodySignsIn = "nobody can sign in: oauth has no login, and clients have "
	loginInOAuth  = "login { forward_auth ... } or login { basic_auth ... } in oauth"
	respondFirst  = "respond stands before oauth, and answers all requests"
	oauthFirst    = "oauth first, and respond after it"
)

// placeMistakes finds what cannot work of the place of a handler among the routes of its site. A handler that is not Caddy's own may be
// a login.
func (h *Handler) placeMistakes(server *caddyhttp.Server, site caddyhttp.RouteList, issuer *Issuer) (found []mistake) {
	login, answered := false, false
	for list := range routes.Lists(server, site) {
		for handler := range routes.Handlers(list) {
			pkg := reflect.Indirect(reflect.ValueOf(handler)).Type().PkgPath()
			login = login || routes.IsLogin(handler) || !strings.HasPrefix(pkg, caddyPackages) && !strings.HasPrefix(pkg, ownPackages)
		}
		answered = answered || routes.Has(list, h) && h.answeredBefore(list)
	}
	if h.Login == nil && h.needsLogin() && issuer.signsIn() != "" && !login {
		found = append(found, mistake{seen: nobodySignsIn + issuer.signsIn(), instead: loginInOAuth})
	}
	if answered {
		found = append(found, mistake{seen: respondFirst, instead: oauthFirst})
	}
	return found
}

// answeredBefore reports whether a response to all requests stands before the handler in a list of routes.
func (h *Handler) answeredBefore(list caddyhttp.RouteList) bool {
	for _, route := range list {
		for _, handler := range route.Handlers {
			if handler == h {
				return false
			}
			if _, responds := handler.(*caddyhttp.StaticResponse); responds && len(route.MatcherSets) == 0 {
				return true
			}
		}
	}
	return false
}

var (
	caddyPackages = reflect.TypeFor[caddy.Context]().PkgPath() + "/"
	ownPackages   = reflect.TypeFor[Handler]().PkgPath()
)

var placeholder = regexp.MustCompile(`\{([^{}]+)\}`)

// placeholders returns the names of the placeholders in a value.
func placeholders(value string) (names []string) {
	for _, m := range placeholder.FindAllStringSubmatch(value, -1) {
		names = append(names, m[1])
	}
	return names
}

// unusedScopes finds scopes of a guard that no client of the issuer may have. Clients that were added at run time may.
func (i *Issuer) unusedScopes(g *Guard) (found []mistake) {
	if len(i.Clients) == 0 {
		return nil
	}
	for _, scope := range g.Scopes {
		given := false
		for _, c := range i.Clients {
			given = given || c != nil && slices.Contains(c.Scopes, scope)
		}
		if !given {
			found = append(found, mistake{
				path: []string{"oauth_guard", "scopes"}, seen: "no client of the configuration may have the scope " + scope,
				instead: "scopes " + scope + " in a client, or another scope here",
			})
		}
	}
	return found
}

// stepUpMistakes finds what a guard needs of a login, and no site of its issuer tells.
func (a *App) stepUpMistakes(g *Guard) (found []mistake) {
	sites, tellsTime, tellsACR := 0, false, false
	for _, h := range a.handlers {
		if h.Issuer != g.Issuer {
			continue
		}
		sites++
		tellsTime = tellsTime || h.Session != nil && h.Session.AuthTime != ""
		tellsACR = tellsACR || h.Session != nil && h.Session.ACR != ""
	}
	if g.MaxAge > 0 && sites > 0 && !tellsTime {
		found = append(found, mistake{
			path: []string{"oauth_guard", "max_age"}, seen: "no site of the issuer tells when people sign in, so that no token passes",
			instead: "session { auth_time ... } in the oauth directive",
		})
	}
	if len(g.ACR) > 0 && sites > 0 && !tellsACR {
		found = append(found, mistake{
			path: []string{"oauth_guard", "acr"}, seen: "no site of the issuer tells how people sign in, so that no token passes",
			instead: "session { acr ... } in the oauth directive",
		})
	}
	return found
}

// loginResult is what is known of the placeholders that a login sets.
type loginResult struct {
	sets    []string // prefixes of their names; nil: nothing is known
	headers []string // of the answer of forward_auth, that copy_headers names; nil: none are named
	copied  []string // headers of the request that are from the login
}

// logins are the directives of Caddy that find out who a person is, and the placeholders that they set.
var logins = map[string]string{
	"basic_auth": authPlaceholders, "basicauth": authPlaceholders,
	"forward_auth": proxyPlaceholders, "reverse_proxy": proxyPlaceholders,
}

const (
	authPlaceholders   = "http.auth.user."
	proxyPlaceholders  = "http.reverse_proxy."
	headerPlaceholders = proxyPlaceholders + "header."
)

// wrong returns what is wrong with the placeholder of a user or a claim after this login, "" if it may work, and what to write.
func (l *loginResult) wrong(name string) (seen, instead string) {
	if name == "http.auth.user" || name == "user" {
		return nothingSets(name)
	}
	if header, ok := strings.CutPrefix(name, "http.request.header."); ok {
		if hasHeader(l.copied, header) {
			return "", ""
		}
		return "the header " + header + " comes from the request, and every browser can forge it", "{rp.header." + header + "} after forward_auth"
	}
	if strings.HasPrefix(name, "http.request.") && !strings.HasPrefix(name, "http.request.tls.") {
		return "{" + name + "} comes from the request, and every browser can forge it", "a placeholder that Caddy sets after a login, such as " + defaultUser
	}
	ofLogin := strings.HasPrefix(name, authPlaceholders) || strings.HasPrefix(name, proxyPlaceholders)
	if len(l.sets) == 0 || !ofLogin {
		return "", ""
	}
	if !slices.ContainsFunc(l.sets, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
		instead = defaultUser
		if strings.HasPrefix(name, authPlaceholders) {
			instead = "user {rp.header.Remote-User}, or the header in which your site names the person"
		}
		return "the directives of login do not set {" + name + "}", instead
	}
	if header, ok := strings.CutPrefix(name, headerPlaceholders); ok && len(l.headers) > 0 && !hasHeader(l.headers, header) {
		return "the login copies " + strings.Join(l.headers, ", ") + ", and not the header " + header, "{rp.header." + l.headers[0] + "}, or " + header + " in copy_headers too"
	}
	return "", ""
}

func nothingSets(name string) (seen, instead string) {
	return "nothing sets {" + name + "}", defaultUser + ", or {rp.header.Remote-User} after forward_auth"
}

func hasHeader(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}

// result returns what the handlers of a login set. It looks at handlers that are provisioned.
func (l *Login) result() *loginResult {
	result := new(loginResult)
	if l == nil {
		return result
	}
	for handler := range routes.Handlers(l.Routes) {
		switch handler := handler.(type) {
		case *caddyauth.Authentication:
			result.sets = append(result.sets, authPlaceholders)
		case *reverseproxy.Handler:
			result.sets = append(result.sets, proxyPlaceholders)
			result.copies(handler)
		default:
			return &loginResult{copied: result.copied}
		}
	}
	return result
}

// copies notes the headers that a forward_auth copies from the answer to the request.
func (l *loginResult) copies(proxy *reverseproxy.Handler) {
	for _, response := range proxy.HandleResponse {
		for handler := range routes.Handlers(response.Routes) {
			copies, ok := handler.(*headers.Handler)
			if !ok || copies.Request == nil {
				continue
			}
			for _, to := range slices.Sorted(maps.Keys(copies.Request.Set)) {
				for _, name := range placeholders(strings.Join(copies.Request.Set[to], "")) {
					if from, ok := strings.CutPrefix(name, headerPlaceholders); ok {
						l.headers, l.copied = append(l.headers, from), append(l.copied, to)
					}
				}
			}
		}
	}
}

// userMistakes finds placeholders of a user, a claim or a session that cannot work.
func (h *Handler) userMistakes() (found []mistake) {
	login := h.Login.result()
	check := func(value string, setting ...string) {
		for _, name := range placeholders(value) {
			if seen, instead := login.wrong(name); seen != "" {
				found = append(found, mistake{path: setting, seen: seen, instead: instead})
			}
		}
	}
	check(h.User, "user")
	for _, name := range slices.Sorted(maps.Keys(h.Claims)) {
		check(h.Claims[name].Value, "claim "+name)
		if seen, instead := typeMistake(name, h.Claims[name]); seen != "" {
			found = append(found, mistake{path: []string{"claim " + name}, seen: seen, instead: instead})
		}
	}
	for name, value := range h.Session.placeholders() {
		check(value, "session", name)
	}
	return found
}

// headerMistakes finds headers of a guard from placeholders that nothing sets.
func (g *Guard) headerMistakes() (found []mistake) {
	for _, header := range slices.Sorted(maps.Keys(g.Headers)) {
		for _, name := range placeholders(g.Headers[header]) {
			if name == "http.auth.user" || name == "user" {
				found = append(found, emptyHeader(name, "oauth_guard", "header "+header))
			}
		}
	}
	return found
}

func emptyHeader(name string, path ...string) mistake {
	return mistake{path: path, seen: "nothing sets {" + name + "}, and the header is empty", instead: "{http.auth.user.id}, or {http.auth.user.<claim>}"}
}
