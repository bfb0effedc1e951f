package caddyoauth

import (
	"cmp"
	"crypto/tls"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/routes"
	"github.com/caddy-oauth/caddy-oauth/internal/signin"
	"github.com/caddy-oauth/caddy-oauth/internal/warning"
)

// This file finds settings of OpenID Connect that load, and that applications cannot use.

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

// wrongAlias is the mistake of a second site of an issuer that is not there.
func wrongAlias(issuer *Issuer, sites []string, path ...string) warning.Mistake {
	return warning.Mistake{
		Path: path, Seen: "no site of the issuer " + issuer.URL + " has the host of " + issuer.MTLSEndpointAliases + ", but " + strings.Join(sites, ", "),
		Instead: "a site " + strings.TrimPrefix(issuer.MTLSEndpointAliases, "https://") + " with tls { client_auth { ... } } and oauth",
	}
}
