package directive

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Line is a line of a Caddyfile, with the block that opens on it.
type Line struct {
	File   string
	Number int
	Words  []string
	Block  []Line
}

// Token returns where the line stands, for an error or a warning.
func (l *Line) Token() caddyfile.Token { return caddyfile.Token{File: l.File, Line: l.Number} }

// IsAt reports whether the line is that of a token.
func (l *Line) IsAt(token caddyfile.Token) bool {
	return l.File == token.File && l.Number == token.Line
}

// ReadLines reads the sites and the global options of a Caddyfile, with what they import.
func ReadLines(filename string, text []byte) ([]Line, error) {
	sites, err := caddyfile.Parse(filename, text)
	if err != nil {
		return nil, err
	}
	lines := make([]Line, 0, len(sites))
	for _, site := range sites {
		line := Line{Words: site.GetKeysText()}
		if len(site.Keys) > 0 {
			line.File, line.Number = site.Keys[0].File, site.Keys[0].Line
		}
		for _, segment := range site.Segments {
			block, _ := readBlock(segment)
			line.Block = append(line.Block, block...)
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// Lines returns the lines of a directive or a global option, of which there is one at the top.
func Lines(tokens []caddyfile.Token) []Line {
	lines, _ := readBlock(tokens)
	return lines
}

// readBlock reads the lines up to the end of a block, and returns the tokens after it.
func readBlock(tokens []caddyfile.Token) (lines []Line, rest []caddyfile.Token) {
	for len(tokens) > 0 {
		token := tokens[0]
		tokens = tokens[1:]
		var last *Line
		if len(lines) > 0 {
			last = &lines[len(lines)-1]
		}
		switch {
		case token.Text == "}" && !token.Quoted():
			return lines, tokens
		case token.Text == "{" && !token.Quoted() && last != nil:
			last.Block, tokens = readBlock(tokens)
		case last != nil && last.Block == nil && last.File == token.File && last.Number == token.Line:
			last.Words = append(last.Words, token.Text)
		default:
			lines = append(lines, Line{File: token.File, Number: token.Line, Words: []string{token.Text}})
		}
	}
	return lines, nil
}

// Find returns the line of a setting, by the names that lead to it: "client app", "redirect_uris". A name may be the first word of a
// line, or the first two. If there is no such line, as the setting has its default, whole is false and the line is that of the
// innermost block around it. ok is false if nothing on the way is there.
func Find(lines []Line, path ...string) (line Line, whole, ok bool) {
	best := -1
	for found, depth := range search(lines, path) {
		if depth > best {
			line, best = found, depth
		}
	}
	return line, best == len(path), best > 0
}

// search yields lines on the path, with how much of the path leads to them.
func search(lines []Line, path []string) func(yield func(Line, int) bool) {
	return func(yield func(Line, int) bool) {
		var visit func(lines []Line, depth int) bool
		visit = func(lines []Line, depth int) bool {
			for _, line := range lines {
				reached := depth
				if depth < len(path) && line.is(path[depth]) {
					reached++
					if !yield(line, reached) {
						return false
					}
				}
				if !visit(line.Block, reached) {
					return false
				}
			}
			return true
		}
		visit(lines, 0)
	}
}

func (l *Line) is(name string) bool {
	words := strings.Fields(name)
	return len(words) > 0 && len(words) <= len(l.Words) && slices.Equal(words, l.Words[:len(words)])
}
