package caddyoauth

import (
	"maps"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/mcp"
	"github.com/caddy-oauth/caddy-oauth/internal/signin"
	"github.com/caddy-oauth/caddy-oauth/internal/siteblock"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/internal/warning"
)

// This file warns about Caddyfiles that load but cannot work because of the position of a directive or of the directives
// beside it.

// resolved are the settings whose placeholders are replaced when the configuration is loaded. It lacks name, which is replaced in page
// and not in client.
var resolved = []string{
	"audience", "backchannel_logout_uri", "encryption_key", "exchange", "introspects", "iss", "issuer", "jwks", "jwks_file", "jwks_uri",
	"language", "logo", "mtls_endpoint_aliases", "oauth", "pairwise_salt", "post_logout_redirect_uris", "privacy", "redirect_uris", "secret",
	"secret_hash", "sector_identifier_uri", "self_signed_tls_client_auth", "support", "template", "tls_client_auth", "token",
}

// missing finds placeholders that have no value when the configuration is loaded, and files that are not there.
func missing(lines []directive.Line) (found []warning.Mistake) {
	for _, line := range lines {
		if line.Words[0] == "login" {
			continue // nested directives check their own placeholders and files
		}
		for _, name := range directive.Placeholders(strings.Join(line.Words, " ")) {
			if seen, instead := unset(name, line.Words[0]); seen != "" {
				found = append(found, warning.Mistake{At: line.Token(), Seen: seen, Instead: instead})
			}
		}
		for _, file := range filesOf(line.Words) {
			if unresolved(file) {
				continue
			}
			if _, err := os.Stat(file); err != nil {
				found = append(found, warning.Mistake{At: line.Token(), Seen: "the file cannot be read: " + err.Error(), Instead: "a file that Caddy can read when it runs"})
			}
		}
		found = append(found, missing(line.Block)...)
	}
	return found
}

// unset returns what is wrong with a placeholder in a setting, "" if it has a value here, and what to write.
func unset(name, setting string) (seen, instead string) {
	kind, rest, _ := strings.Cut(name, ".")
	switch kind {
	case "env":
		if os.Getenv(rest) == "" {
			return "the environment variable " + rest + " is not set here, or empty", "a variable that Caddy has when it runs"
		}
	case "file":
		if _, err := os.Stat(rest); err != nil {
			return "the file cannot be read: " + err.Error(), "a file that Caddy can read when it runs"
		}
	case "system", "time":
	default:
		if slices.Contains(resolved, setting) {
			return "{" + name + "} has no value when Caddy loads the configuration", "{env.NAME} or {file./path/of/the/file}"
		}
	}
	return "", ""
}

// filesOf returns the files that a setting names.
func filesOf(words []string) []string {
	n := len(words)
	switch words[0] {
	case "jwks", "jwks_file", "logo":
		if n > 1 {
			return words[n-1:]
		}
	case "template", "language":
		if n == 3 {
			return words[n-1:]
		}
	case "self_signed_tls_client_auth":
		return words[1:]
	}
	return nil
}

// handlerMistakes finds what cannot work of a directive, and of where it stands.
func handlerMistakes(s *siteblock.Site, h *Handler, issuer *Issuer, own caddyfile.Token) (found []warning.Mistake) {
	var line directive.Line
	var around []directive.Line
	s.Walk(func(l directive.Line, outer []directive.Line) {
		if l.Words[0] == "oauth" && l.IsAt(own) {
			line, around = l, outer
		}
	})
	if line.Number == 0 {
		return nil
	}
	found = append(placeMistakes(s, line, around), userMistakes(s, h, line)...)
	inRoute := slices.ContainsFunc(around, func(l directive.Line) bool { return l.Words[0] == "route" })
	if issuer == nil {
		return found
	}
	if h.Login == nil && h.needsLogin() && !inRoute && !s.Ordered && issuer.signsIn() != "" {
		switch beside, whole := loginBeside(s); {
		case beside == "":
			found = append(found, warning.Mistake{
				At: own, Seen: nobodySignsIn + issuer.signsIn(), Instead: loginInOAuth,
			})
		case whole:
			found = append(found, warning.Mistake{
				At: own, Seen: beside + " stands beside oauth, so the whole site needs the login", Instead: "login { " + beside + " ... } in oauth, for the pages of oauth only",
			})
		}
	}
	if alias := issuer.MTLSEndpointAliases; alias != "" && (unresolved(alias) || len(addressMistakes(s, alias, own)) == 0) {
		return found
	}
	return append(found, addressMistakes(s, issuer.URL, own)...)
}

// placeMistakes finds what is wrong with the place of a directive oauth.
func placeMistakes(s *siteblock.Site, line directive.Line, around []directive.Line) (found []warning.Mistake) {
	add := func(seen, instead string) {
		found = append(found, warning.Mistake{At: line.Token(), Seen: seen, Instead: instead})
	}
	if args := line.Words[1:]; len(args) > 0 && siteblock.IsMatcher(args[0]) {
		add("oauth has the matcher "+args[0]+", so endpoints outside of it are not served", strings.TrimSpace("oauth "+strings.Join(args[1:], " "))+", which passes on all that is not its own")
	}
	twice := 0
	s.Walk(func(l directive.Line, _ []directive.Line) {
		if l.Words[0] == "oauth" && slices.Equal(l.Words, line.Words) {
			if twice++; twice == 2 && l.IsAt(line.Token()) {
				add("the site has this oauth directive twice", "one oauth directive for each issuer")
			}
		}
	})
	for _, outer := range around {
		if name := outer.Words[0]; name == "handle" || name == "handle_path" {
			add("oauth stands in "+strings.Join(outer.Words, " ")+", so requests that another block handles never reach it", "oauth outside of "+name)
		}
		if outer.Words[0] != "route" {
			continue
		}
		for _, before := range outer.Block {
			if before.IsAt(line.Token()) {
				break
			}
			if before.Words[0] == "respond" && (len(before.Words) < 2 || !siteblock.IsMatcher(before.Words[1])) {
				add(respondFirst, oauthFirst)
			}
		}
	}
	return found
}

// userMistakes finds placeholders of `user`, `claim` and `session` that nothing sets.
func userMistakes(s *siteblock.Site, h *Handler, line directive.Line) (found []warning.Mistake) {
	result := new(signin.Result)
	users := map[string]directive.Line{}
	for _, l := range line.Block {
		switch l.Words[0] {
		case "login":
			result = signin.OfDirectives(l.Block)
		case "user":
			users[l.Words[1]] = l
		case "claim":
			users[l.Words[2]] = l
			if seen, instead := typeMistake(l.Words[1], h.Claims[l.Words[1]]); seen != "" {
				found = append(found, warning.Mistake{At: l.Token(), Seen: seen, Instead: instead})
			}
		case "session":
			for _, setting := range l.Block {
				if len(setting.Words) > 1 && slices.Contains([]string{"auth_time", "acr", "amr", "sid"}, setting.Words[0]) {
					users[setting.Words[1]] = setting
				}
			}
		}
	}
	if h.User == "" {
		users[signin.DefaultUser] = line
	}
	for _, value := range slices.Sorted(maps.Keys(users)) {
		place := users[value]
		for _, name := range directive.Placeholders(value) {
			seen, instead := result.Wrong(name)
			if seen == "" && !strings.Contains(name, ".") && !s.Maps(name) {
				seen, instead = signin.NothingSets(name)
			}
			if seen != "" {
				found = append(found, warning.Mistake{At: place.Token(), Seen: seen, Instead: instead})
			}
		}
	}
	return found
}

// loginBeside returns the last login that stands beside oauth, and whether one of them is for the whole site. Such a login runs for the
// pages of oauth too.
func loginBeside(s *siteblock.Site) (name string, whole bool) {
	s.Walk(func(l directive.Line, outer []directive.Line) {
		if signin.IsDirective(l.Words[0]) && len(outer) == 0 {
			name = l.Words[0]
			whole = whole || !siteblock.HasMatcher(l)
		}
	})
	return name, whole
}

// addressMistakes finds an issuer whose URL leads to no address of the site.
func addressMistakes(s *siteblock.Site, issuer string, own caddyfile.Token) []warning.Mistake {
	part, addresses := s.Differs(issuer)
	if part == "" {
		return nil
	}
	m := wrongAddress(part, issuer, addresses)
	m.At = own
	return []warning.Mistake{m}
}

// guardMistakes finds what cannot work of a guard, and of where it stands.
func guardMistakes(s *siteblock.Site, g *Guard, own caddyfile.Token, matchers caddy.ModuleMap) (found []warning.Mistake) {
	var line directive.Line
	var around []directive.Line
	loginPage := ""
	others := make(map[string]bool) // matchers of other directives
	s.Walk(func(l directive.Line, outer []directive.Line) {
		switch {
		case l.Words[0] == "oauth_guard" && l.IsAt(own):
			line, around = l, outer
		case l.Words[0] == "login" && len(outer) > 0 && outer[len(outer)-1].Words[0] == "oauth" && len(l.Words) > 1:
			loginPage = l.Words[1]
		case l.Words[0] != "oauth_guard" && len(l.Words) > 1:
			others[l.Words[1]] = true
		}
	})
	if line.Number == 0 {
		return nil
	}
	add := func(at caddyfile.Token, seen, instead string) {
		found = append(found, warning.Mistake{At: at, Seen: seen, Instead: instead})
	}
	matcher := ""
	if len(line.Words) > 1 && siteblock.IsMatcher(line.Words[1]) {
		matcher = line.Words[1]
	}
	for _, outer := range around {
		if name := outer.Words[0]; name == "handle" || name == "handle_path" {
			add(own, "oauth_guard stands in "+strings.Join(outer.Words, " ")+": a rewrite can bypass it, and the metadata of the resource is not served",
				"oauth_guard with its own matcher, such as /api/*, outside of "+name)
		}
	}
	last := matcher[strings.LastIndex(matcher, "/")+1:]
	switch {
	case matcher == "" && len(around) == 0 && !g.Optional && strings.HasPrefix(loginPage, "/"):
		add(own, "oauth_guard has no matcher, and refuses the login page "+loginPage+" too", "oauth_guard /api/*, or the path of your API")
	case g.MCP == nil && strings.HasPrefix(matcher, "/") && last != "" && !strings.ContainsAny(last, "*.{") && !others[matcher]:
		add(own, "oauth_guard is for "+matcher+" only, not for the paths below it", "oauth_guard "+matcher+"/*")
	}
	for _, settings := range matchers {
		switch {
		case g.MCP == nil && mcp.NamesHeader(string(settings)):
			add(own, "the matcher looks at messages of MCP, and the guard has no mcp setting with the path of the server",
				"mcp and the path of the server, such as mcp /mcp")
		case strings.Contains(strings.ToLower(string(settings)), "mcp-param-"):
			add(own, "guards do not check that headers Mcp-Param-... say what the message says", "a matcher of Mcp-Method and Mcp-Name alone")
		}
	}
	for _, l := range line.Block {
		if l.Words[0] != "header" || len(l.Words) != 3 {
			continue
		}
		for _, name := range directive.Placeholders(l.Words[2]) {
			if name == "http.auth.user" || !strings.Contains(name, ".") && !s.Maps(name) {
				m := emptyHeader(name)
				m.At = l.Token()
				found = append(found, m)
			}
		}
	}
	return found
}

// inlineSecrets finds secrets that are written in the Caddyfile itself, where everybody who can read the file sees them. It skips
// issuers on loopback hosts, which are for development.
func inlineSecrets(issuer string, lines []directive.Line) (found []warning.Mistake) {
	if u, err := url.Parse(issuer); err != nil || unresolved(issuer) || uris.IsLoopback(u.Hostname()) {
		return nil
	}
	for _, line := range lines {
		if line.Words[0] == "secret" {
			for _, secret := range line.Words[1:] {
				if len(secret) >= shortSecret && !unresolved(secret) && siteblock.HasWord(line, secret) {
					found = append(found, warning.Mistake{At: line.Token(), Seen: "a secret stands in the Caddyfile", Instead: "{env.NAME} or {file./path/of/the/file}"})
				}
			}
		}
		found = append(found, inlineSecrets(issuer, line.Block)...)
	}
	return found
}

// unserved finds issuers of the global option that no site of the Caddyfile serves. It finds nothing if the option is not in the file
// that it says, as with standard input, or if the sites are in other files.
func unserved(app *App, option []directive.Line) (found []warning.Mistake) {
	file := siteblock.ReadFile(option[0].File)
	if len(file) < 2 || len(file[0].Words) > 0 || !slices.ContainsFunc(file[0].Block, func(l directive.Line) bool {
		return reflect.DeepEqual(l, option[0])
	}) {
		return nil
	}
	served := make(map[string]bool)
	oauthLines(file, func(args []string) {
		if len(args) == 0 {
			name, _ := app.configuredIssuer()
			args = []string{name}
		}
		served[args[0]] = true
	})
	for _, name := range slices.Sorted(maps.Keys(app.Issuers)) {
		if !served[name] {
			found = append(found, warning.Mistake{Path: []string{"issuer " + name}, Seen: "no site serves the issuer " + name, Instead: "oauth " + name + " in the site of " + app.Issuers[name].URL})
		}
	}
	return found
}

// oauthLines calls visit with the arguments of all directives oauth of a Caddyfile, without their matchers.
func oauthLines(file []directive.Line, visit func(args []string)) {
	siteblock.Walk(file, func(l directive.Line, around []directive.Line) {
		if len(around) == 0 || len(around[0].Words) == 0 || l.Words[0] != "oauth" {
			return // the global option, or another directive
		}
		args := l.Words[1:]
		if len(args) > 0 && strings.ContainsAny(args[0][:1], "/@*") {
			args = args[1:]
		}
		visit(args)
	})
}
