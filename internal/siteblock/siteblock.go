// Package siteblock looks around in the Caddyfile that is being adapted. Caddy's adapter gives a directive only its own tokens. This
// package finds the site block around them, and reads the whole file again.
//
// Start reading at Of.
package siteblock

import (
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
)

// Site is the site block that is being adapted.
type Site struct {
	block caddyfile.ServerBlock
	lines []directive.Line

	// Ordered says that the Caddyfile has the option order, so that the order of its directives is unknown here.
	Ordered bool

	// ownPorts says that http_port, https_port or auto_https is set, so that an address does not imply its scheme and port.
	ownPorts bool
}

// Of returns the site that a directive stands in. Helper has it in a field that is not exported.
func Of(h httpcaddyfile.Helper) *Site {
	field := reflect.ValueOf(&h).Elem().FieldByName("parentBlock")
	site := &Site{Ordered: h.Option("order") != nil}
	site.ownPorts = h.Option("auto_https") != nil || h.Option("http_port") != nil || h.Option("https_port") != nil
	if field.IsValid() && field.Type() == reflect.TypeFor[caddyfile.ServerBlock]() {
		site.block = *(*caddyfile.ServerBlock)(field.Addr().UnsafePointer())
	}
	for _, segment := range site.block.Segments {
		site.lines = append(site.lines, directive.Lines(segment)...)
	}
	return site
}

// Walk calls visit with every line of the site and the lines around it, the innermost last.
func (s *Site) Walk(visit func(line directive.Line, around []directive.Line)) { Walk(s.lines, visit) }

// Maps reports whether a directive map of the site sets a placeholder.
func (s *Site) Maps(name string) (found bool) {
	s.Walk(func(line directive.Line, _ []directive.Line) {
		found = found || line.Words[0] == "map" && slices.Contains(line.Words, "{"+name+"}")
	})
	return found
}

// Block returns the block of the directive that stands there.
func (s *Site) Block(directiveAt caddyfile.Token) (block []directive.Line) {
	s.Walk(func(line directive.Line, _ []directive.Line) {
		if line.IsAt(directiveAt) {
			block = line.Block
		}
	})
	return block
}

// File reads the Caddyfile of the site, see ReadFile.
func (s *Site) File() []directive.Line {
	if len(s.block.Keys) == 0 {
		return nil
	}
	return ReadFile(s.block.Keys[0].File)
}

// Walk calls visit with every line of a list and the lines around it, the innermost last.
func Walk(lines []directive.Line, visit func(line directive.Line, around []directive.Line)) {
	var walk func(lines, around []directive.Line)
	walk = func(lines, around []directive.Line) {
		for _, line := range lines {
			visit(line, around)
			walk(line.Block, append(slices.Clone(around), line))
		}
	}
	walk(lines, nil)
}

// ReadFile reads a Caddyfile again: the global options, if there are any, and the sites. It returns nil for what is not a file, such as
// standard input.
func ReadFile(name string) []directive.Line {
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

// HasMatcher reports whether a directive of a site has a matcher, or is not in the file that it says. Caddy has removed the matchers of
// the directives of a site that it has parsed, so the file is read again.
func HasMatcher(line directive.Line) bool {
	without := false
	Walk(ReadFile(line.File), func(l directive.Line, around []directive.Line) {
		if len(around) > 0 && l.IsAt(line.Token()) && l.Words[0] == line.Words[0] {
			without = len(l.Words) == 1 || !IsMatcher(l.Words[1])
		}
	})
	return !without
}

// IsMatcher reports whether the first argument of a directive is a matcher for some requests.
func IsMatcher(argument string) bool {
	return strings.HasPrefix(argument, "@") || strings.HasPrefix(argument, "/")
}

// HasWord reports whether a word is written on a line of the file itself, and does not come from a {$VARIABLE}.
func HasWord(line directive.Line, word string) bool {
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
