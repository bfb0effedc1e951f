package caddyoauth

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/internal/warning"
)

// Caddy's adapter passes a directive its own lines. This file finds what stands around them: the site, and the whole file.

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

// same reports whether two lines are at one place.
func same(a, b directive.Line) bool { return a.File == b.File && a.Number == b.Number }

func at(line directive.Line) caddyfile.Token {
	return caddyfile.Token{File: line.File, Line: line.Number}
}

// readCaddyfile reads a Caddyfile again: the global options, if there are any, and the sites. It returns nil for what is not a file, such
// as standard input.
func readCaddyfile(name string) []directive.Line {
	text, err := os.ReadFile(name) //nolint:gosec // G304: the Caddyfile that is being adapted
	if err != nil {
		return nil
	}
	lines, err := directive.ReadLines(name, text)
	if err != nil {
		return nil
	}
	return lines
}

// oauthLines calls visit with the arguments of all directives oauth of a Caddyfile, without their matchers.
func oauthLines(file []directive.Line, visit func(args []string)) {
	(&adapted{lines: file}).each(func(l directive.Line, around []directive.Line) {
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

// definedBelow reports whether a directive anywhere in the Caddyfile defines the issuer of that name or URL.
func (s *adapted) definedBelow(issuer string) (found bool) {
	if len(s.block.Keys) == 0 {
		return false
	}
	oauthLines(readCaddyfile(s.block.Keys[0].File), func(args []string) {
		if n := len(args); n > 0 && isURL(args[n-1]) {
			found = found || args[0] == issuer || args[n-1] == issuer || n == 1 && uris.IssuerName(args[0]) == issuer
		}
	})
	return found
}

// unserved finds issuers of the global option that no site of the Caddyfile serves. It finds nothing if the option is not in the file
// that it says, as with standard input, or if the sites are in other files.
func unserved(app *App, option []directive.Line) (found []warning.Mistake) {
	file := readCaddyfile(option[0].File)
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

// withoutMatcher reports whether a directive has no matcher. Caddy has removed the matchers of the directives of a site that it has
// parsed, so the file is read again.
func withoutMatcher(line directive.Line) (found bool) {
	(&adapted{lines: readCaddyfile(line.File)}).each(func(l directive.Line, around []directive.Line) {
		if len(around) > 0 && l.File == line.File && l.Number == line.Number && l.Words[0] == line.Words[0] {
			found = len(l.Words) == 1 || !strings.HasPrefix(l.Words[1], "@") && !strings.HasPrefix(l.Words[1], "/")
		}
	})
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

// setMCP finds out which server a guard with mcp in a Caddyfile is for: by the argument of mcp, or else by the path of the matcher. A
// guard of the path of a server is also one of what is below that path.
func (g *Guard) setMCP(matcher caddy.ModuleMap, site *adapted, issuer *Issuer) error {
	if g.MCP == nil {
		return nil
	}
	var paths []string
	if raw, ok := matcher["path"]; ok {
		if err := json.Unmarshal(raw, &paths); err != nil {
			return err
		}
	}
	base, one := onePath(paths)
	if g.MCP.Path == "" && len(matcher) > 0 {
		if !one {
			return directive.At("mcp", errors.New("expected the path of the server, such as /mcp, as the matcher does not say which it is"))
		}
		g.MCP.Path = base
	}
	if g.Resource == "" {
		origin := site.origin(issuer)
		if origin == "" {
			return directive.At("mcp", errors.New("expected resource too, the URL by which clients know the server, as the site has no single address"))
		}
		g.Resource = origin + strings.TrimSuffix(g.MCP.Path, "/")
	}
	if len(paths) == 1 && one && base != "" && paths[0] != base+"*" {
		both, err := json.Marshal([]string{base, base + "/*"})
		matcher["path"] = both
		return err
	}
	return nil
}

// onePath returns the path that patterns are for, such as /mcp and /mcp/*.
func onePath(patterns []string) (base string, one bool) {
	for i, pattern := range patterns {
		path := strings.TrimSuffix(strings.TrimSuffix(pattern, "*"), "/")
		if i > 0 && path != base || strings.ContainsAny(path, "*{") {
			return "", false
		}
		base = path
	}
	return base, len(patterns) > 0
}

// origin returns the origin of the site, as its clients know it: that of the issuer if both have the same host, or else the only address.
func (s *adapted) origin(issuer *Issuer) string {
	var issued *url.URL
	if issuer != nil && !unresolved(issuer.URL) {
		issued, _ = url.Parse(issuer.URL)
	}
	if s.block.IsNamedRoute {
		return ""
	}
	found := ""
	for _, key := range s.block.Keys {
		a, err := httpcaddyfile.ParseAddress(key.Text)
		if err != nil {
			return ""
		}
		if issued != nil && (a.Host == "" || strings.EqualFold(a.Host, issued.Hostname())) {
			return issued.Scheme + "://" + issued.Host
		}
		if found != "" || a.Host == "" || strings.ContainsAny(key.Text, "*{") {
			return ""
		}
		found = originOf(a)
	}
	return found
}

// originOf returns the origin of the address of a site.
func originOf(a httpcaddyfile.Address) string {
	scheme := cmp.Or(a.Scheme, "https")
	if a.Scheme == "" && a.Port == "80" {
		scheme = "http"
	}
	if a.Port == "" || a.Port == portOf("", scheme) {
		return scheme + "://" + a.Host
	}
	return scheme + "://" + net.JoinHostPort(a.Host, a.Port)
}
