package caddyoauth

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/routes"
	"github.com/caddy-oauth/caddy-oauth/internal/signin"
	"github.com/caddy-oauth/caddy-oauth/internal/warning"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// This file finds settings that load but cannot work, or are probably not what their owner means, for warnings of the Caddyfile adapter
// and of Provision. A setting that can be intentional gets no warning.
//
// caddyfile_mistakes.go finds what can only be seen in a Caddyfile: where directives stand, and what stands beside them.

// mistakes finds settings of an issuer that cannot work. Call it before placeholders are replaced. The path leads to the issuer.
func (i *Issuer) mistakes(path ...string) (found []warning.Mistake) {
	add := func(seen, instead string, setting ...string) {
		found = append(found, warning.Mistake{Path: append(slices.Clone(path), setting...), Seen: seen, Instead: instead})
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
		for _, m := range c.ClientCertificates.mistakes(id) {
			add(m.Seen, m.Instead, m.Path...)
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
	for _, name := range i.sharedIssuers() {
		add("several clients may bring assertions of "+name+", also those that name no client", "clients <id...>", "grant jwt_bearer", "issuer "+name)
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

// shortSecret is the length below which a secret can be guessed.
const shortSecret = 16

// signInMistake returns what is wrong with a client that has scopes of OpenID Connect, "" if it may work, and what to write.
func (i *Issuer) signInMistake(id string, c *Client) (seen, instead string) {
	if i.OpenID == nil || len(c.Scopes) == 0 {
		return "", ""
	}
	others := slices.ContainsFunc(c.Scopes, func(scope string) bool { return !slices.Contains(grants.OpenIDScopes, scope) })
	switch openID, types := slices.Contains(c.Scopes, grants.OpenID), c.grantTypes(); {
	case !openID && !others:
		return "the client " + id + " gets no ID tokens, as it lacks the scope openid", "scopes openid " + strings.Join(c.Scopes, " ")
	case openID && (len(types) == 0 || slices.Equal(types, []string{"client_credentials"})):
		return "nobody can sign in to the client " + id + ", as it has no redirect URI", "redirect_uris, with the address that the application names"
	}
	return "", ""
}

// mistakes finds a subject that is written in the order of the certificate, as openssl prints it, and not in that of RFC 4514.
func (c *ClientCertificates) mistakes(id string) (found []warning.Mistake) {
	dn := c.TLSClientAuthSubjectDN
	parts := strings.Split(strings.ToUpper(strings.ReplaceAll(dn, " ", "")), ",")
	if last := parts[len(parts)-1]; strings.HasPrefix(parts[0], "C=") && strings.HasPrefix(last, "CN=") {
		found = append(found, warning.Mistake{
			Path: []string{"client " + id, "tls_client_auth"}, Seen: "the subject of the client " + id + " begins with the country, and RFC 4514 begins with the name of the client itself",
			Instead: "what openssl x509 -noout -subject -nameopt RFC2253 prints",
		})
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

// userMistakes finds placeholders of a user, a claim or a session that cannot work.
func (h *Handler) userMistakes() (found []warning.Mistake) {
	login := new(signin.Result)
	if h.Login != nil {
		login = signin.OfHandlers(h.Login.Routes)
	}
	check := func(value string, setting ...string) {
		for _, name := range directive.Placeholders(value) {
			if seen, instead := login.Wrong(name); seen != "" {
				found = append(found, warning.Mistake{Path: setting, Seen: seen, Instead: instead})
			}
		}
	}
	check(h.User, "user")
	for _, name := range slices.Sorted(maps.Keys(h.Claims)) {
		check(h.Claims[name].Value, "claim "+name)
		if seen, instead := typeMistake(name, h.Claims[name]); seen != "" {
			found = append(found, warning.Mistake{Path: []string{"claim " + name}, Seen: seen, Instead: instead})
		}
	}
	for name, value := range h.Session.placeholders() {
		check(value, "session", name)
	}
	return found
}

// needsLogin reports whether the user comes from a login of Caddy's.
func (h *Handler) needsLogin() bool {
	return slices.ContainsFunc(directive.Placeholders(cmp.Or(h.User, signin.DefaultUser)), signin.IsFromLogin)
}

// claimTypes are the types of claims that are not text (OpenID Connect Core §5.1).
var claimTypes = map[string]string{
	"address": "json", "email_verified": "boolean", "phone_number_verified": "boolean", "updated_at": "number",
}

// typeMistake returns what is wrong with a claim whose type is not that of OpenID Connect, "" if it may work, and what to write.
func typeMistake(name string, c Claim) (seen, instead string) {
	want := claimTypes[name]
	if want == "" || c.Type == want || c.Type == "json" {
		return "", ""
	}
	return "the claim " + name + " is " + cmp.Or(c.Type, "text") + ", and applications expect " + want, "claim " + name + " " + c.Value + " " + want
}

// scopeClaims are the claims for which applications ask for a scope. That of profile depends on the application.
var scopeClaims = map[string][]string{"email": {"email"}, "phone": {"phone_number"}, "address": {"address"}}

// claimMistakes finds scopes of clients that give nothing, as no claim of theirs has a value. Other sites can have no more claims for an
// issuer that this directive defines.
func (h *Handler) claimMistakes() (found []warning.Mistake) {
	if h.Settings == nil || h.Settings.OpenID == nil {
		return nil
	}
	claims := maps.Clone(scopeClaims)
	for _, s := range h.Settings.Scopes {
		if len(s.Claims) > 0 {
			claims[s.Name] = s.Claims
		}
	}
	known := slices.Collect(maps.Keys(h.Claims))
	if check := h.Settings.RefreshCheck; check != nil {
		known = append(known, check.Claims...)
	}
	said := make(map[string]bool)
	for _, id := range slices.Sorted(maps.Keys(h.Settings.Clients)) {
		client := h.Settings.Clients[id]
		if client == nil {
			continue
		}
		for _, scope := range client.Scopes {
			names := claims[scope]
			if len(names) == 0 || said[scope] || slices.ContainsFunc(names, func(name string) bool { return slices.Contains(known, name) }) {
				continue
			}
			said[scope] = true
			found = append(found, warning.Mistake{
				Path: []string{"oauth", "client " + id, "scopes"}, Seen: "the scope " + scope + " tells applications nothing, as there is no claim " + names[0],
				Instead: "claim " + names[0] + " {rp.header.…}, as the login names it",
			})
		}
	}
	return found
}

// authTimeMistakes finds clients to which nobody can sign in at a site of their issuer, as the site does not tell when people have
// signed in.
func (h *Handler) authTimeMistakes(issuer *Issuer) (found []warning.Mistake) {
	if h.Session != nil && h.Session.AuthTime != "" {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(issuer.Clients)) {
		c := issuer.Clients[id]
		if c == nil || c.DefaultMaxAge == nil && !c.RequireAuthTime {
			continue
		}
		setting := "default_max_age"
		if c.RequireAuthTime {
			setting = "require_auth_time"
		}
		path := []string{"oauth"}
		if h.Settings != nil {
			path = append(path, "client "+id, setting)
		}
		found = append(found, warning.Mistake{
			Path: path, Seen: "nobody can sign in to the client " + id + " with " + setting + ", as this site does not tell when people sign in",
			Instead: "session { auth_time {rp.header.…} } in oauth, as the login names it",
		})
	}
	return found
}

// unusedScopes finds scopes of a guard that no client of the issuer may have. Clients that were added at run time may.
func (i *Issuer) unusedScopes(g *Guard) (found []warning.Mistake) {
	if len(i.Clients) == 0 {
		return nil
	}
	for _, scope := range g.Scopes {
		given := false
		for _, c := range i.Clients {
			given = given || c != nil && slices.Contains(c.Scopes, scope)
		}
		if !given {
			found = append(found, warning.Mistake{
				Path: []string{"oauth_guard", "scopes"}, Seen: "no client of the configuration may have the scope " + scope,
				Instead: "scopes " + scope + " in a client, or another scope here",
			})
		}
	}
	return found
}

// stepUpMistakes finds what a guard needs of a login, and no site of its issuer tells.
func (a *App) stepUpMistakes(g *Guard) (found []warning.Mistake) {
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
		found = append(found, warning.Mistake{
			Path: []string{"oauth_guard", "max_age"}, Seen: "no site of the issuer tells when people sign in, so that no token passes",
			Instead: "session { auth_time ... } in the oauth directive",
		})
	}
	if len(g.ACR) > 0 && sites > 0 && !tellsACR {
		found = append(found, warning.Mistake{
			Path: []string{"oauth_guard", "acr"}, Seen: "no site of the issuer tells how people sign in, so that no token passes",
			Instead: "session { acr ... } in the oauth directive",
		})
	}
	return found
}

// headerMistakes finds headers of a guard from placeholders that nothing sets.
func (g *Guard) headerMistakes() (found []warning.Mistake) {
	for _, header := range slices.Sorted(maps.Keys(g.Headers)) {
		for _, name := range directive.Placeholders(g.Headers[header]) {
			if name == "http.auth.user" || name == "user" {
				found = append(found, emptyHeader(name, "oauth_guard", "header "+header))
			}
		}
	}
	return found
}

func emptyHeader(name string, path ...string) warning.Mistake {
	return warning.Mistake{Path: path, Seen: "nothing sets {" + name + "}, and the header is empty", Instead: "{http.auth.user.id}, or {http.auth.user.<claim>}"}
}

// warnOfPlaces warns about handlers in routes where they cannot work, and about issuers whose host is not a host of a site that serves
// them. It compares host names only: a proxy before Caddy may use another port and scheme.
func (a *App) warnOfPlaces() error {
	if len(a.handlers) == 0 {
		return nil
	}
	app, err := a.ctx.App("http")
	if err != nil {
		return err
	}
	hosts, found, aliased := make(map[string][]string), make(map[string]bool), make(map[string]bool)
	serving := make(map[string][]routes.Site)
	for _, h := range a.handlers {
		u, err := url.Parse(a.Issuers[h.Issuer].URL)
		if err != nil {
			return err
		}
		for _, server := range app.(*caddyhttp.App).Servers {
			site := routes.OfSite(server, h)
			if len(site) > 0 {
				a.warnings.Warn(a.log, h.placeMistakes(server, site, a.Issuers[h.Issuer]))
			}
			for _, route := range site {
				s := routes.Site{Server: server, Hosts: routes.Hosts(route)}
				serving[h.Issuer] = append(serving[h.Issuer], s)
				hosts[h.Issuer] = append(hosts[h.Issuer], s.Hosts...)
				found[h.Issuer] = found[h.Issuer] || s.HasHost(u.Hostname())
				aliased[h.Issuer] = aliased[h.Issuer] || s.HasHost(a.Issuers[h.Issuer].aliasHost())
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		issuer := a.Issuers[name]
		if !found[name] {
			a.warnings.Warn(a.log, []warning.Mistake{wrongAddress("host", issuer.URL, hosts[name], "issuer "+name)})
		}
		if issuer.MTLSEndpointAliases != "" && !aliased[name] {
			a.warnings.Warn(a.log, []warning.Mistake{wrongAlias(issuer, hosts[name], "issuer "+name, "mtls_endpoint_aliases")})
		}
		a.warnings.Warn(a.log, issuer.certificateMistakes(name, serving[name]))
	}
	return nil
}

// What is wrong with the place of an oauth directive or handler.
const (
	nobodySignsIn = "nobody can sign in: oauth has no login, and clients have "
	loginInOAuth  = "login { forward_auth ... } or login { basic_auth ... } in oauth"
	respondFirst  = "respond stands before oauth, and answers all requests"
	oauthFirst    = "oauth first, and respond after it"
)

// placeMistakes finds what cannot work of the place of a handler among the routes of its site.
func (h *Handler) placeMistakes(server *caddyhttp.Server, site caddyhttp.RouteList, issuer *Issuer) (found []warning.Mistake) {
	login, answered := false, false
	for list := range routes.Lists(server, site) {
		for handler := range routes.Handlers(list) {
			login = login || routes.MayBeLogin(handler)
		}
		answered = answered || routes.Has(list, h) && routes.AnsweredBefore(list, h)
	}
	if h.Login == nil && h.needsLogin() && issuer.signsIn() != "" && !login {
		found = append(found, warning.Mistake{Seen: nobodySignsIn + issuer.signsIn(), Instead: loginInOAuth})
	}
	if answered {
		found = append(found, warning.Mistake{Seen: respondFirst, Instead: oauthFirst})
	}
	return found
}

// certificateMistakes finds clients of an issuer that need certificates which no site of it asks for. sites are those that serve it.
func (i *Issuer) certificateMistakes(name string, sites []routes.Site) (found []warning.Mistake) {
	asks, verifies, takesAny := i.certificateModes(sites)
	for _, id := range slices.Sorted(maps.Keys(i.Clients)) {
		c := i.Clients[id]
		self := c.SelfSignedTLSClientAuth != nil
		add := func(setting, seen, instead string) {
			found = append(found, warning.Mistake{Path: []string{"issuer " + name, "client " + id, setting}, Seen: seen, Instead: instead})
		}
		switch setting := "tls_client_certificate_bound_access_tokens"; {
		case !c.hasCertificate() && !c.TLSClientCertificateBoundAccessTokens:
		case c.hasCertificate() && !self && !verifies:
			add("tls_client_auth", "no site of the issuer checks TLS certificates, by which the client "+id+" authenticates",
				"tls { client_auth { mode verify_if_given; trust_pool file <CA> } } in a site of the issuer")
		case self && !takesAny:
			add("self_signed_tls_client_auth", "no site of the issuer takes TLS certificates that are of no CA, by which the client "+id+" authenticates",
				"tls { client_auth { mode request } } in a site of the issuer")
		case !asks:
			add(setting, "no site of the issuer asks for TLS certificates, which the client "+id+" must have", "tls { client_auth { mode request } } in a site of the issuer")
		}
	}
	return found
}

// certificateModes says what the sites do about certificates: whether one asks for them, whether one checks them, and whether one takes
// any.
func (i *Issuer) certificateModes(sites []routes.Site) (asks, verifies, takesAny bool) {
	if i.ClientCertHeader != "" {
		asks, takesAny = true, true
		verifies = i.ClientCertHeader == "verified"
	}
	for _, site := range sites {
		for _, mode := range site.ClientAuth() {
			checks := mode == tls.VerifyClientCertIfGiven || mode == tls.RequireAndVerifyClientCert
			asks = asks || mode != tls.NoClientCert
			verifies = verifies || checks
			takesAny = takesAny || mode != tls.NoClientCert && !checks
		}
	}
	return asks, verifies, takesAny
}

// aliasHost returns the host of the second site of the issuer, "" if there is none.
func (s *MutualTLSSettings) aliasHost() string {
	u, err := url.Parse(s.MTLSEndpointAliases)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// wrongAlias is the warning that no site of the issuer has the host of mtls_endpoint_aliases.
func wrongAlias(issuer *Issuer, sites []string, path ...string) warning.Mistake {
	return warning.Mistake{
		Path: path, Seen: "no site of the issuer " + issuer.URL + " has the host of " + issuer.MTLSEndpointAliases + ", but " + strings.Join(sites, ", "),
		Instead: "a site " + strings.TrimPrefix(issuer.MTLSEndpointAliases, "https://") + " with tls { client_auth { ... } } and oauth",
	}
}

// wrongAddress is the mistake of an issuer whose URL is not that of its site in one part: the host, the scheme or the port.
func wrongAddress(part, issuer string, sites []string, path ...string) warning.Mistake {
	return warning.Mistake{
		Path: path, Key: part + " of " + issuer, Seen: fmt.Sprintf("the %s of the issuer %s is not that of the site %s", part, issuer, strings.Join(sites, ", ")),
		Instead: "one URL for both, as clients go to that of the issuer",
	}
}
