package caddyoauth

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// This file finds what loads, and cannot work or is not what its owner means. The Caddyfile adapter warns of it with the file and the
// line, by the logger of Caddy's own directives, so that `caddy adapt` and `caddy validate` show it. Provision warns of settings in any
// format, without a line. What an owner can mean gets no warning.

// mistake is what a warning is about.
type mistake struct {
	path    []string        // of the setting, as in directive.Error
	at      caddyfile.Token // where it stands; none: where the path leads
	seen    string
	instead string // what to write
}

const mistakeMessage = "the configuration loads, but this is probably a mistake"

// warn logs mistakes. The parser knows where the settings stand; it is nil outside the Caddyfile adapter.
func warn(log *zap.Logger, p *directive.Parser, mistakes []mistake) {
	for _, m := range mistakes {
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
	for _, s := range i.Scopes {
		switch {
		case s.Name == "openid":
			add("the scope openid is that of OpenID Connect, and this server issues no ID tokens", "a scope of your own, such as profile", "scope openid")
		case s.Description == "" && shown[s.Name]:
			add("the consent page shows the scope "+s.Name+", which has no words for people",
				fmt.Sprintf("scope %s %q", s.Name, "what it lets an app do"), "scope "+s.Name)
		}
	}
	return found
}

// signsIn reports whether people sign in to a client of the issuer.
func (i *Issuer) signsIn() bool {
	for _, c := range i.Clients {
		if c != nil && slices.Contains(c.grantTypes(), "authorization_code") {
			return true
		}
	}
	return false
}

var (
	placeholder     = regexp.MustCompile(`\{([^{}]+)\}`)
	outsideVariable = regexp.MustCompile(`\{(env|file)\.([^{}]+)\}`)
)

// placeholders returns the names of the placeholders in a value.
func placeholders(value string) (names []string) {
	for _, m := range placeholder.FindAllStringSubmatch(value, -1) {
		names = append(names, m[1])
	}
	return names
}

// adapted is a site whose directives are adapted.
type adapted struct {
	block caddyfile.ServerBlock
	lines []directive.Line
	// Whether the Caddyfile says in which order directives run. Then nothing is known of what runs before what.
	ordered bool
	// Whether the options about ports and auto_https are not set, so that an address says its scheme and its port.
	defaults bool
}

// siteOfDirective returns the site that a directive stands in. Helper has it in a field that is not exported.
func siteOfDirective(h httpcaddyfile.Helper) *adapted {
	field := reflect.ValueOf(&h).Elem().FieldByName("parentBlock")
	site := &adapted{ordered: h.Option("order") != nil}
	site.defaults = h.Option("auto_https") == nil && h.Option("http_port") == nil && h.Option("https_port") == nil
	if field.IsValid() && field.Type() == reflect.TypeFor[caddyfile.ServerBlock]() {
		site.block = *(*caddyfile.ServerBlock)(field.Addr().UnsafePointer())
	}
	for _, segment := range site.block.Segments {
		site.lines = append(site.lines, directive.Lines(segment)...)
	}
	return site
}

// each calls visit with every line of the site and the lines around it, the innermost last.
func (s *adapted) each(visit func(line directive.Line, around []directive.Line)) {
	var walk func(lines, around []directive.Line)
	walk = func(lines, around []directive.Line) {
		for _, line := range lines {
			visit(line, around)
			walk(line.Block, append(slices.Clone(around), line))
		}
	}
	walk(s.lines, nil)
}

// maps reports whether a `map` or `vars` directive of the site sets a placeholder.
func (s *adapted) maps(name string) (found bool) {
	s.each(func(line directive.Line, _ []directive.Line) {
		found = found || line.Words[0] == "map" && slices.Contains(line.Words, "{"+name+"}")
	})
	return found
}

// directiveAt returns the settings of the directive that stands there.
func (s *adapted) directiveAt(own caddyfile.Token) (block []directive.Line) {
	s.each(func(line directive.Line, _ []directive.Line) {
		if line.File == own.File && line.Number == own.Line {
			block = line.Block
		}
	})
	return block
}

func at(line directive.Line) caddyfile.Token {
	return caddyfile.Token{File: line.File, Line: line.Number}
}

// missing finds variables and files that are not there.
func missing(lines []directive.Line) (found []mistake) {
	for _, line := range lines {
		if line.Words[0] == "login" {
			continue // what its directives need, they know
		}
		text := strings.Join(line.Words, " ")
		for _, m := range outsideVariable.FindAllStringSubmatch(text, -1) {
			_, err := os.Stat(m[2])
			switch {
			case m[1] == "env" && os.Getenv(m[2]) == "":
				found = append(found, mistake{
					at: at(line), seen: "the environment variable " + m[2] + " is not set here, or empty", instead: "a variable that Caddy has when it runs",
				})
			case m[1] == "file" && err != nil:
				found = append(found, mistake{at: at(line), seen: "the file cannot be read: " + err.Error(), instead: "a file that Caddy can read when it runs"})
			}
		}
		words := len(line.Words)
		names := line.Words[0] == "jwks_file" || line.Words[0] == "logo" || line.Words[0] == "template" && words == 3 || line.Words[0] == "language" && words == 3
		if file := line.Words[words-1]; names && words > 1 && !unresolved(file) {
			if _, err := os.Stat(file); err != nil {
				found = append(found, mistake{at: at(line), seen: "the file cannot be read: " + err.Error(), instead: "a file that Caddy can read when it runs"})
			}
		}
		found = append(found, missing(line.Block)...)
	}
	return found
}

// logins are the directives of Caddy that find out who a person is, and the placeholders that they set.
var logins = map[string]string{
	"basic_auth": "http.auth.user.", "basicauth": "http.auth.user.",
	"forward_auth": "http.reverse_proxy.", "reverse_proxy": "http.reverse_proxy.",
}

// wrongUser returns what is wrong with the placeholder of a user or a claim, "" if it may work, and what to write.
func (s *adapted) wrongUser(name string, login []directive.Line) (seen, instead string) {
	switch {
	case name == "http.auth.user":
		return "nothing sets {http.auth.user}", defaultUser
	case !strings.Contains(name, ".") && !s.maps(name):
		return "nothing sets {" + name + "}", defaultUser + ", or {rp.header.Remote-User} after forward_auth"
	case strings.HasPrefix(name, "http.request.header."):
		header := strings.TrimPrefix(name, "http.request.header.")
		return "the header " + header + " comes from the request, and every browser can forge it", "{rp.header." + header + "} after forward_auth"
	}
	if len(login) == 0 || !strings.HasPrefix(name, "http.auth.user.") && !strings.HasPrefix(name, "http.reverse_proxy.") {
		return "", ""
	}
	for _, line := range login {
		sets, known := logins[line.Words[0]]
		if !known || strings.HasPrefix(name, sets) {
			return "", ""
		}
	}
	instead = defaultUser
	if strings.HasPrefix(name, "http.auth.user.") {
		instead = "user {rp.header.Remote-User}, or the header in which your site names the person"
	}
	return "the directives of login do not set {" + name + "}", instead
}

// handlerMistakes finds what cannot work of a directive, and of where it stands.
func (s *adapted) handlerMistakes(h *Handler, issuer *Issuer, own caddyfile.Token) (found []mistake) {
	var line directive.Line
	var around []directive.Line
	twice := 0
	s.each(func(l directive.Line, outer []directive.Line) {
		if l.Words[0] != "oauth" {
			return
		}
		if l.File == own.File && l.Number == own.Line {
			line, around = l, outer
		}
	})
	if line.Number == 0 {
		return nil
	}
	add := func(at caddyfile.Token, seen, instead string) {
		found = append(found, mistake{at: at, seen: seen, instead: instead})
	}
	args := line.Words[1:]
	if len(args) > 0 && strings.HasPrefix(args[0], "/") || len(args) > 0 && strings.HasPrefix(args[0], "@") {
		add(own, "oauth has the matcher "+args[0]+", and endpoints outside of it are not there", strings.TrimSpace("oauth "+strings.Join(args[1:], " "))+", which passes on all that is not its own")
	}
	s.each(func(l directive.Line, _ []directive.Line) {
		if l.Words[0] == "oauth" && slices.Equal(l.Words, line.Words) {
			twice++
			if twice == 2 && l.Number == own.Line && l.File == own.File {
				add(own, "the site has this oauth directive twice", "one oauth directive for each issuer")
			}
		}
	})
	for _, outer := range around {
		if name := outer.Words[0]; name == "handle" || name == "handle_path" {
			add(own, "oauth stands in "+strings.Join(outer.Words, " ")+", and requests that go elsewhere do not reach it", "oauth outside of "+name)
		}
		if outer.Words[0] != "route" {
			continue
		}
		for _, before := range outer.Block {
			if before.Number == own.Line && before.File == own.File {
				break
			}
			if before.Words[0] == "respond" && (len(before.Words) < 2 || !strings.HasPrefix(before.Words[1], "/") && !strings.HasPrefix(before.Words[1], "@")) {
				add(own, "respond stands before oauth, and answers all requests", "oauth first, and respond after it")
			}
		}
	}
	var login []directive.Line
	users := map[string]directive.Line{}
	for _, l := range line.Block {
		switch l.Words[0] {
		case "login":
			login = l.Block
		case "user", "claim":
			users[l.Words[len(l.Words)-1]] = l
		}
	}
	user := h.User
	if user == "" {
		user = defaultUser
		users[defaultUser] = line
	}
	for _, value := range slices.Sorted(maps.Keys(users)) {
		for _, name := range placeholders(value) {
			if seen, instead := s.wrongUser(name, login); seen != "" {
				add(at(users[value]), seen, instead)
			}
		}
	}
	inRoute := slices.ContainsFunc(around, func(l directive.Line) bool { return l.Words[0] == "route" })
	needs := slices.ContainsFunc(placeholders(user), func(name string) bool {
		return strings.HasPrefix(name, "http.auth.user.") || strings.HasPrefix(name, "http.reverse_proxy.")
	})
	if h.Login == nil && needs && !inRoute && !s.ordered && issuer != nil && issuer.signsIn() {
		switch beside, whole := s.loginBeside(); {
		case beside == "":
			add(own, "nobody can sign in: oauth has no login, and clients have authorization_code", "login { forward_auth ... } or login { basic_auth ... } in oauth")
		case whole:
			add(own, beside+" stands beside oauth, so the whole site needs the login", "login { "+beside+" ... } in oauth, for the pages of oauth only")
		}
	}
	if issuer != nil {
		found = append(found, s.addressMistakes(issuer.URL, own)...)
	}
	return found
}

// loginBeside returns the last login that stands beside oauth, and whether one of them is for the whole site. Such a login runs for the
// pages of oauth too.
func (s *adapted) loginBeside() (name string, whole bool) {
	s.each(func(l directive.Line, outer []directive.Line) {
		if _, is := logins[l.Words[0]]; is && l.Words[0] != "reverse_proxy" && len(outer) == 0 {
			name = l.Words[0]
			whole = whole || withoutMatcher(l)
		}
	})
	return name, whole
}

// withoutMatcher reports whether a directive has no matcher. Caddy has removed the matcher of a directive that it has parsed, so the
// line is read again from its file.
func withoutMatcher(line directive.Line) bool {
	text, err := os.ReadFile(line.File)
	if err != nil {
		return false
	}
	lines := strings.Split(string(text), "\n")
	if line.Number < 1 || line.Number > len(lines) {
		return false
	}
	words := strings.Fields(lines[line.Number-1])
	return len(words) > 0 && words[0] == line.Words[0] &&
		(len(words) == 1 || !strings.HasPrefix(words[1], "@") && !strings.HasPrefix(words[1], "/"))
}

// addressMistakes finds an issuer whose URL leads to no address of the site. A proxy before Caddy may have https where the site has
// http, and then another port.
func (s *adapted) addressMistakes(issuer string, own caddyfile.Token) []mistake {
	u, err := url.Parse(issuer)
	if err != nil || unresolved(issuer) || s.block.IsNamedRoute {
		return nil
	}
	var seen string
	var addresses []string
	for _, key := range s.block.Keys {
		a, err := httpcaddyfile.ParseAddress(key.Text)
		if err != nil || strings.ContainsAny(key.Text, "*{") || a.Host == "" {
			return nil
		}
		addresses = append(addresses, key.Text)
		scheme := a.Scheme
		if scheme == "" {
			scheme = "https"
			if a.Port == "80" {
				scheme = "http"
			}
		}
		switch {
		case !strings.EqualFold(a.Host, u.Hostname()):
			if seen == "" {
				seen = "host"
			}
		case !s.defaults || scheme == "http" && u.Scheme == "https":
			return nil
		case scheme != u.Scheme:
			seen = "scheme"
		case portOf(a.Port, scheme) != portOf(u.Port(), u.Scheme):
			seen = "port"
		default:
			return nil
		}
	}
	if seen == "" {
		return nil
	}
	return []mistake{{
		at: own, seen: fmt.Sprintf("the %s of the issuer %s is not that of the site %s", seen, issuer, strings.Join(addresses, ", ")),
		instead: "one URL for both, as clients go to that of the issuer",
	}}
}

func portOf(port, scheme string) string {
	switch {
	case port != "":
		return port
	case scheme == "http":
		return "80"
	}
	return "443"
}

// guardMistakes finds what cannot work of a guard, and of where it stands.
func (s *adapted) guardMistakes(g *Guard, own caddyfile.Token) (found []mistake) {
	var line directive.Line
	var around []directive.Line
	loginPage := ""
	others := make(map[string]bool) // matchers of other directives
	s.each(func(l directive.Line, outer []directive.Line) {
		switch {
		case l.Words[0] == "oauth_guard" && l.File == own.File && l.Number == own.Line:
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
		found = append(found, mistake{at: at, seen: seen, instead: instead})
	}
	matcher := ""
	if len(line.Words) > 1 && (strings.HasPrefix(line.Words[1], "/") || strings.HasPrefix(line.Words[1], "@")) {
		matcher = line.Words[1]
	}
	for _, outer := range around {
		if name := outer.Words[0]; name == "handle" || name == "handle_path" {
			add(own, "oauth_guard stands in "+strings.Join(outer.Words, " ")+": a rewrite can lead around it, and the metadata of the resource is not there",
				"oauth_guard with its own matcher, such as /api/*, outside of "+name)
		}
	}
	last := matcher[strings.LastIndex(matcher, "/")+1:]
	switch {
	case matcher == "" && len(around) == 0 && !g.Optional && strings.HasPrefix(loginPage, "/"):
		add(own, "oauth_guard has no matcher, and refuses the login page "+loginPage+" too", "oauth_guard /api/*, or the path of your API")
	case strings.HasPrefix(matcher, "/") && last != "" && !strings.ContainsAny(last, "*.{") && !others[matcher]:
		add(own, "oauth_guard is for "+matcher+" only, and not for what is below it", "oauth_guard "+matcher+"/*")
	}
	for _, l := range line.Block {
		if l.Words[0] != "header" || len(l.Words) != 3 {
			continue
		}
		for _, name := range placeholders(l.Words[2]) {
			if name == "http.auth.user" || !strings.Contains(name, ".") && !s.maps(name) {
				add(at(l), "nothing sets {"+name+"}, and the header is empty", "{http.auth.user.id}, or {http.auth.user.<claim>}")
			}
		}
	}
	return found
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

// unserved finds issuers of the global option that no site of the Caddyfile serves. Caddy does not pass the sites to it, so this reads
// the file again. It finds nothing if that is not the file, as with standard input, or if the sites are in other files.
func unserved(app *App, option []directive.Line) (found []mistake) {
	text, err := os.ReadFile(option[0].File)
	if err != nil {
		return nil
	}
	all, err := directive.ReadLines(option[0].File, text)
	if err != nil || len(all) < 2 || len(all[0].Words) > 0 || !slices.ContainsFunc(all[0].Block, func(l directive.Line) bool {
		return reflect.DeepEqual(l, option[0])
	}) {
		return nil
	}
	file, served := &adapted{lines: all[1:]}, make(map[string]bool)
	file.each(func(l directive.Line, around []directive.Line) {
		if len(around) == 0 || l.Words[0] != "oauth" {
			return
		}
		args := l.Words[1:]
		if len(args) > 0 && strings.ContainsAny(args[0][:1], "/@*") {
			args = args[1:]
		}
		if len(args) == 0 {
			name, _ := app.configuredIssuer()
			args = []string{name}
		}
		served[args[0]] = true
	})
	for _, name := range slices.Sorted(maps.Keys(app.Issuers)) {
		if !served[name] {
			found = append(found, mistake{path: []string{"issuer " + name}, seen: "no site serves the issuer " + name, instead: "oauth " + name + " in the site of " + app.Issuers[name].URL})
		}
	}
	return found
}

// inlineSecrets finds secrets that stand in the Caddyfile itself, and which everybody knows who may read it. Those of an issuer on a
// loopback host are for a trial.
func inlineSecrets(issuer string, lines []directive.Line) (found []mistake) {
	if u, err := url.Parse(issuer); err != nil || unresolved(issuer) || uris.IsLoopback(u.Hostname()) {
		return nil
	}
	for _, line := range lines {
		if line.Words[0] == "secret" {
			for _, secret := range line.Words[1:] {
				if len(secret) >= shortSecret && !unresolved(secret) && literal(line, secret) {
					found = append(found, mistake{at: at(line), seen: "a secret stands in the Caddyfile", instead: "{env.NAME} or {file./path/of/the/file}"})
				}
			}
		}
		found = append(found, inlineSecrets(issuer, line.Block)...)
	}
	return found
}

// literal reports whether a word stands in the file as it is, and not as the default of a variable.
func literal(line directive.Line, word string) bool {
	text, err := os.ReadFile(line.File)
	if err != nil {
		return false
	}
	lines := strings.Split(string(text), "\n")
	if line.Number > len(lines) {
		return false
	}
	sent := lines[line.Number-1]
	return strings.Contains(sent, word) && !strings.Contains(sent, "{$")
}

// emptyPlaceholders finds placeholders that nothing sets.
func emptyPlaceholders(setting, value string) (found []mistake) {
	for _, name := range placeholders(value) {
		if name == "http.auth.user" || name == "user" {
			found = append(found, mistake{path: strings.Split(setting, ": "), seen: "nothing sets {" + name + "}", instead: defaultUser})
		}
	}
	return found
}
