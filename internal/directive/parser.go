// Package directive reads the settings of this module from a Caddyfile, and knows where each one stands. Settings that are
// repeated, unknown or impossible are errors that name the file and the line.
//
// A directive is read in two steps. A Parser reads its lines: Settings says which may stand in a block, and Once, Each and
// the methods built on them read the arguments of a line. Then the checks of the configuration run, the same ones as for
// JSON; their errors have a path of names (Error, At), and Parser.Locate adds the place where the setting stands.
//
// [ReadLines] and [Find] read a Caddyfile without knowing its settings, for warnings and for explanations.
//
// Start reading at [Parser].
package directive

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Parser reads a directive or a global option.
type Parser struct {
	*caddyfile.Dispenser

	path  []string                   // the names that lead to the setting that is being read
	first map[string]caddyfile.Token // where each setting stands first, by its path
}

// New returns a parser that has read the name of the directive, but not its arguments.
func New(d *caddyfile.Dispenser) *Parser {
	d.Next()
	return &Parser{Dispenser: d, first: make(map[string]caddyfile.Token)}
}

// Settings are what may stand in a block, by the word that begins the line.
type Settings map[string]Setting

// AnyName stands for every word that has no setting of its own in a block.
const AnyName = ""

// Setting reads the rest of a line, and the block that opens on it. The name is the word that begins the line.
type Setting func(name string) error

// Read takes the arguments of a line. It returns the settings of the block that may open on the line, or none.
type Read func(args []string) (Settings, error)

// Once returns a setting that may stand in its block once, and has from least to most arguments. A negative most is no limit.
// expected describes the arguments in the error about a wrong number of them.
func (p *Parser) Once(expected string, least, most int, read Read) Setting {
	return func(name string) error {
		args, err := p.Args(name, expected, least, most)
		if err != nil {
			return err
		}
		return p.Under(name, func() error { return p.read(name, args, read) })
	}
}

// Each returns a setting that may stand in its block once for each first argument.
func (p *Parser) Each(expected string, least, most int, read Read) Setting {
	return func(name string) error {
		args, err := p.Args(name, expected, least, most)
		if err != nil {
			return err
		}
		name += " " + args[0]
		return p.Under(name, func() error { return p.read(name, args, read) })
	}
}

func (p *Parser) read(name string, args []string, read Read) error {
	known, err := read(args)
	if err != nil {
		return p.Errf("%s: %w", name, err)
	}
	if known == nil {
		return nil
	}
	return p.Block(known)
}

// Word returns a setting that has one argument.
func (p *Parser) Word(expected string, value *string) Setting {
	return p.Once(expected, 1, 1, func(args []string) (Settings, error) {
		*value = args[0]
		return nil, nil
	})
}

// Words returns a setting that has one argument or more.
func (p *Parser) Words(expected string, values *[]string) Setting {
	return p.Once(expected, 1, -1, func(args []string) (Settings, error) {
		*values = args
		return nil, nil
	})
}

// Flag returns a setting that is on if it is there.
func (p *Parser) Flag(value *bool) Setting {
	return p.Once("nothing more", 0, 0, func([]string) (Settings, error) {
		*value = true
		return nil, nil
	})
}

// Number returns a setting that is a whole number, and not below least.
func (p *Parser) Number(least int, value *int) Setting {
	return p.Once("a number", 1, 1, func(args []string) (_ Settings, err error) {
		if *value, err = strconv.Atoi(args[0]); err != nil || *value < least {
			return nil, fmt.Errorf("expected a number from %d, not %s", least, args[0])
		}
		return nil, nil
	})
}

// Duration returns a setting that is a duration above zero.
func (p *Parser) Duration(value *caddy.Duration) Setting {
	return p.Once("a duration", 1, 1, func(args []string) (Settings, error) {
		d, err := caddy.ParseDuration(args[0])
		if err != nil || d <= 0 {
			return nil, fmt.Errorf("expected a duration such as 2s, not %s", args[0])
		}
		*value = caddy.Duration(d)
		return nil, nil
	})
}

// Pair returns a setting that adds a name and its value to a map.
func (p *Parser) Pair(expected string, values *map[string]string) Setting {
	return p.Each(expected, 2, 2, func(args []string) (Settings, error) {
		if *values == nil {
			*values = make(map[string]string)
		}
		(*values)[args[0]] = args[1]
		return nil, nil
	})
}

// Nested returns a setting that is a block of settings. They are made when the block is read, as they point into a struct that
// exists only if the block does.
func (p *Parser) Nested(known func() Settings) Setting {
	return p.Once("a block in braces", 0, 0, func([]string) (Settings, error) { return known(), nil })
}

// Block reads the block that opens on this line, if one does.
func (p *Parser) Block(known Settings) error {
	for nesting := p.Nesting(); p.NextBlock(nesting); {
		name := p.Val()
		if name == "{" {
			return p.Err("unexpected {, expected a setting; the one above takes no block")
		}
		read, ok := known[name]
		if !ok {
			read, ok = known[AnyName]
		}
		if !ok {
			names := slices.Sorted(maps.Keys(known))
			return p.Errf("unknown setting %q%s, expected %s", name, DidYouMean(name, names), OneOf(names))
		}
		if err := read(name); err != nil {
			return err
		}
	}
	return nil
}

// Args returns the rest of the line: from least to most arguments, none of them empty. A negative most is no limit.
func (p *Parser) Args(name, expected string, least, most int) ([]string, error) {
	args := p.RemainingArgs()
	if len(args) < least || most >= 0 && len(args) > most {
		return nil, p.Errf("%s: expected %s, got %s", name, expected, count(len(args)))
	}
	if slices.Contains(args, "") {
		return nil, p.Errf("%s: expected %s, got an empty argument", name, expected)
	}
	return args, nil
}

func count(args int) string {
	switch args {
	case 0:
		return "nothing"
	case 1:
		return "an argument"
	}
	return fmt.Sprintf("%d arguments", args)
}

// Under reads a setting with parse, and remembers where it stands. A setting of the same name in the same block is an error.
func (p *Parser) Under(name string, parse func() error) error {
	return p.UnderAt(name, p.Token(), parse)
}

// UnderAt is Under for a setting that stands at a token which was read before.
func (p *Parser) UnderAt(name string, own caddyfile.Token, parse func() error) error {
	p.path = append(p.path, name)
	defer func() { p.path = p.path[:len(p.path)-1] }()

	key := pathKey(p.path)
	if first, repeated := p.first[key]; repeated {
		return p.Errf("%s: duplicate setting, first at %s:%d", name, first.File, first.Line)
	}
	p.first[key] = own
	return parse()
}

func pathKey(path []string) string { return strings.Join(path, "\x00") }

// Find returns where the setting stands to which the names lead, or else the block around it. Without either, it returns no token.
func (p *Parser) Find(path []string) caddyfile.Token {
	for ; len(path) > 0; path = path[:len(path)-1] {
		if token, ok := p.first[pathKey(path)]; ok {
			return token
		}
	}
	return caddyfile.Token{}
}

// Locate adds the file and the line to the error of a check, if the parser has read the setting that it is about, or a block
// around it.
func (p *Parser) Locate(err error) error {
	var wrong *Error
	if !errors.As(err, &wrong) {
		return err
	}
	token := p.Find(wrong.Path)
	if token.File == "" {
		return err
	}
	d := caddyfile.NewDispenser([]caddyfile.Token{token})
	d.Next()
	return d.WrapErr(err)
}

// OneOf lists names for an error about a name that is not among them.
func OneOf(names []string) string {
	switch len(names) {
	case 0:
		return "none here"
	case 1:
		return names[0]
	}
	return "one of: " + strings.Join(names, ", ")
}
