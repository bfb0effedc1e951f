package check

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// checkStatic checks the configuration.
func checkStatic(r *Report, c *config) {
	checkAdmin(r, c)
	checkAround(r, c)
	for _, i := range c.Issuers {
		if i.unknown {
			continue
		}
		before := len(r.Findings)
		checkIssuer(r, c, i)
		for _, id := range slices.Sorted(maps.Keys(i.Clients)) {
			if client := i.Clients[id]; client != nil {
				checkClient(r, i, id, client)
			}
		}
		checkCertificates(r, c, i)
		if !slices.ContainsFunc(r.Findings[before:], func(f Finding) bool { return f.Verdict != OK }) {
			r.add(Finding{Verdict: OK, Check: "settings", Issuer: i.Name, Seen: "the settings of the issuer and of its clients"})
		}
	}
	for _, g := range c.Guards {
		checkGuard(r, g)
	}
}

func checkAdmin(r *Report, c *config) {
	host, _, err := net.SplitHostPort(strings.TrimPrefix(c.Admin, "tcp/"))
	if c.Admin == "" || err != nil { // the default, or a Unix socket
		return
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return
	}
	r.add(Finding{
		Verdict: Fail, Check: "admin", Seen: "Caddy's admin API listens on " + c.Admin + ", which others can reach",
		Why:   "Whoever reaches it can make tokens for every user, and change the whole server.",
		Paste: "{\n\tadmin localhost:2019\n}", Read: "docs/reference/admin-api.md",
	})
}

func checkIssuer(r *Report, c *config, i *issuer) {
	warn := func(bad bool, check, seen, why, paste, read string) {
		if bad {
			r.add(Finding{Verdict: Warning, Check: check, Issuer: i.Name, Seen: seen, Why: why, Paste: paste, Read: read})
		}
	}
	u, err := url.Parse(i.URL)
	if err != nil {
		r.add(Finding{Verdict: Fail, Check: "url", Issuer: i.Name, Seen: "the issuer's URL cannot be read: " + i.URL, Why: "Nobody can use it."})
		return
	}
	checkServed(r, c, i, u)
	warn(loopback(u), "url", "the issuer is at "+i.URL+", which is this machine", "Apps on other machines and phones cannot reach it.",
		"oauth https://example.com", "docs/reference/oauth.md#global-option-oauth")
	warn(i.Store["store"] == "memory", "store", "the records are in memory (store memory)",
		"A restart of Caddy logs everybody out, forgets revocations, and makes new keys.", "store caddy", "docs/operate/storage.md")
	warn(i.ReadOnly, "read_only", "the issuer is read-only", "Nobody can sign in to an app, and no client can refresh. It is for the time of a move.",
		"# remove read_only", "docs/operate/backup.md")
	warn(i.Throttle["off"] == true, "throttle", "there are no limits (throttle off)", "Anybody can guess secrets and passwords as fast as the server answers.",
		"# remove throttle off", "docs/reference/oauth.md#global-option-oauth")
	algorithm, _ := i.Signing["algorithm"].(string)
	warn(strings.HasPrefix(algorithm, "HS"), "signing", "tokens are signed with a shared secret ("+algorithm+")",
		"Every program that can check a token can make one. Other servers get no public key.", "signing ES256", "docs/guides/existing-endpoint.md")
	warn(i.AccessToken["claims"] == "minimal", "access_token", "access tokens have no audience and no issuer (claims minimal)",
		"A resource server cannot tell whether a token was meant for it.", "access_token {\n\tclaims rfc9068\n}", "docs/guides/existing-endpoint.md")
	warn(longer(i.AccessToken["lifetime"], longAccess), "access_token", "access tokens live longer than a day",
		"Other servers that check them by themselves accept a stolen or revoked one until its end.", "access_token {\n\tlifetime 10m\n}", "docs/reference/oauth.md#global-option-oauth")
	warn(i.RefreshToken["rotate"] == "never" && i.RefreshToken["lifetime"] == "never", "refresh_token", "refresh tokens never change and never end (rotate never, lifetime never)",
		"A stolen one is good for ever, and nobody notices (RFC 9700 section 4.14).", "refresh_token {\n\trotate always\n}", "docs/reference/oauth.md#global-option-oauth")
	addresses := fmt.Sprint(i.Store["addresses"])
	near := strings.Contains(addresses, "127.0.0.1") || strings.Contains(addresses, "localhost") || strings.Contains(addresses, "/")
	warn(i.Store["store"] == "redis" && i.Store["tls"] == nil && !near, "store", "the connection to Redis at "+addresses+" is not encrypted",
		"Whoever reads that network can read what apps people use, and change it.", "store redis … {\n\ttls\n}", "docs/operate/storage.md")
	_, password := i.Grants["password"]
	warn(password, "grant", "apps may send people's passwords (grant password)", "Whoever controls such an app has the passwords. OAuth 2.1 has no such grant.",
		"# remove grant password", "docs/guides/passwords.md")
	for _, s := range i.Scopes {
		warn(s.Description == "", "scope", "the scope "+s.Name+" has no words", "The consent page shows people its name, which they do not understand.",
			"scope "+s.Name+" \"what it lets an app do\"", "docs/reference/oauth.md#global-option-oauth")
	}
}

// longAccess is the lifetime above which an access token is too long in use for servers that cannot know of its revocation.
const longAccess = 24 * time.Hour

// longer reports whether a lifetime in JSON, which is a number of nanoseconds, is longer than another.
func longer(lifetime any, than time.Duration) bool {
	n, ok := lifetime.(float64)
	return ok && n > float64(than)
}

// checkServed finds an issuer that no site serves, or only one with another host.
func checkServed(r *Report, c *config, i *issuer, u *url.URL) {
	found := false
	for _, s := range c.Served {
		if !c.means(s.Issuer, i) {
			continue
		}
		found = true
		if len(s.paths) > 0 {
			r.add(Finding{
				Verdict: Warning, Check: "served", Issuer: i.Name, Seen: "oauth is for the paths " + strings.Join(s.paths, " ") + " only",
				Why: "Endpoints outside of them are not there.", Paste: "oauth " + i.Name, Read: "docs/reference/oauth.md#directive-oauth",
			})
		}
		if len(s.hosts) == 0 || slices.ContainsFunc(s.hosts, func(host string) bool { return host == u.Hostname() || strings.ContainsAny(host, "*{") }) {
			r.add(Finding{Verdict: OK, Check: "served", Issuer: i.Name, Seen: "a site serves " + i.URL})
			return
		}
	}
	seen := "no site serves " + i.URL
	if found {
		seen = "the site that serves the issuer has another host than " + i.URL
	}
	r.add(Finding{
		Verdict: Fail, Check: "served", Issuer: i.Name, Seen: seen, Why: "Clients look for the endpoints there, and find none.",
		Paste: u.Host + " {\n\toauth " + i.Name + "\n}", Read: "docs/reference/oauth.md#directive-oauth",
	})
}

func checkClient(r *Report, i *issuer, id string, c *client) {
	warn := func(bad bool, check, seen, why, paste string) {
		if bad {
			r.add(Finding{
				Verdict: Warning, Check: check, Issuer: i.Name, Client: id, Seen: seen, Why: why,
				Paste: "client " + id + " {\n\t" + paste + "\n}", Read: "docs/guides/existing-endpoint.md",
			})
		}
	}
	warn(c.Insecure, "redirect_uris", "its redirect URIs may be insecure (allow_insecure_redirects)",
		"Any program on the device can take such a scheme, and anybody in the network can read http. Either gets the code.", "redirect_uris https://…")
	warn(c.PKCE == "optional", "pkce", "it may go without PKCE (pkce optional)", "Nothing ties its code to the browser that asked for it (RFC 9700 section 2.1.1).",
		"pkce required")
	warn(cmp.Or(c.Consent, i.Consent) == "never" && c.public() && len(c.RedirectURIs) > 0, "consent", "nobody is asked, and it is public (consent never)",
		"Another program can pose as this app, and gets tokens without the person's knowledge (RFC 8252 section 8.6).", "consent once")
	here, err := url.Parse(i.URL)
	trial := err == nil && loopback(here) // the app is of this machine too
	warn(!trial && slices.ContainsFunc(c.RedirectURIs, func(uri string) bool { return strings.HasPrefix(uri, "http://localhost") }), "redirect_uris",
		"a redirect URI has the name localhost", "Another program may answer for that name (RFC 8252 section 8.3).", "redirect_uris http://127.0.0.1/callback")
	warn(c.Iss == "off", "iss", "its answers do not name the issuer (iss off)", "An app that works with several issuers cannot tell which one a code is from.",
		"iss on")
	rotate := c.RefreshToken["rotate"]
	if rotate == nil {
		rotate = i.RefreshToken["rotate"]
	}
	warn(rotate == "never" && c.public() && slices.Contains(c.grantTypes(), "refresh_token"), "refresh_token",
		"it is public, and its refresh token never changes (rotate never)", "Nobody notices when a thief uses it (RFC 9700 section 4.14).",
		"refresh_token {\n\t\trotate always\n\t}")
	warn(slices.Contains(c.Introspects, "*"), "introspects", "it may introspect the tokens of every API (introspects *)",
		"Whoever has its secret learns about the tokens of all clients.", "introspects https://api.example.com")
	warn(len(c.grantTypes()) == 0 && !c.asks(), "grant_types", "it can do nothing: it has no grant type and no redirect URI",
		"Every request of it is refused.", "redirect_uris https://app.example.com/callback")
	dead := len(c.RedirectURIs) > 0 && !slices.Contains(c.grantTypes(), "refresh_token")
	warn(dead, "grant_types", "it gets no refresh token", "People have to sign in again each time that the access token ends, after ten minutes by default.",
		"grant_types authorization_code refresh_token")
}

func checkGuard(r *Report, g *guard) {
	warn := func(bad bool, check, seen, why, paste string) {
		if bad {
			r.add(Finding{
				Verdict: Warning, Check: "guard " + check, Seen: "the guard of " + g.name() + ": " + seen, Why: why, Paste: paste, Read: "docs/reference/oauth_guard.md",
			})
		}
	}
	warn(g.Authorization == "pass", "authorization", "the site gets the token (authorization pass)", "Whatever the site logs or passes on can have tokens in it.",
		"authorization strip")
	warn(g.Machines == "as_user", "machines", "a client is a user of its name (machines as_user)", "A site that has a user of that name takes the client for the user.",
		"machines as_nobody")
	warn(slices.Contains(g.Types, "JWT"), "types", "JWTs of every kind pass (types JWT)", "ID tokens pass, which every app gets about its users.", "# remove types JWT")
	warn(g.TokenHeader != "", "token_header", "the token is in the header "+g.TokenHeader, "Logs and proxies hide Authorization, but not this header.",
		"log {\n\tformat filter {\n\t\trequest>headers>"+g.TokenHeader+" delete\n\t}\n}")
	only := slices.ContainsFunc(g.allPaths(), func(path string) bool {
		return !strings.ContainsAny(path, "*.") && path != "/" && !slices.ContainsFunc(g.allPaths(), func(other string) bool {
			return strings.HasPrefix(other, path+"/")
		})
	})
	warn(only, "matcher", "it guards one path only, and nothing below it", "What stands below the path is open to everybody.",
		"oauth_guard "+strings.TrimSuffix(g.name(), "/")+"/* …")
}

// allPaths returns the paths that the guard is for; none is all of them.
func (g *guard) allPaths() []string { return matched(g.Match, "path", g.paths) }

func (g *guard) name() string {
	if paths := g.allPaths(); len(paths) > 0 {
		return strings.Join(paths, " ")
	}
	return "the whole site"
}
