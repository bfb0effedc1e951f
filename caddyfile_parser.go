package caddyoauth

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
)

// parser reads settings and remembers where each one stands, so that a repeated one, or one that turns
// out to be impossible, is reported with its file and line.
type parser struct {
	*caddyfile.Dispenser
	path []string                   // the names that lead to the current setting
	at   map[string]caddyfile.Token // where settings stand, by path
}

func newParser(d *caddyfile.Dispenser) *parser {
	return &parser{Dispenser: d, at: make(map[string]caddyfile.Token)}
}

// settings are what may stand in a block: parsers by the word that begins the line.
type settings map[string]func() error

// block reads the block that opens on this line, if one does.
func (p *parser) block(known settings) error {
	for nesting := p.Nesting(); p.NextBlock(nesting); {
		if p.Val() == "{" {
			return p.Err("unexpected {, expected a setting; the one above takes no block")
		}
		parse, ok := known[p.Val()]
		if !ok {
			return p.Errf("unknown setting %q, expected %s", p.Val(), oneOf(slices.Sorted(maps.Keys(known))))
		}
		if err := parse(); err != nil {
			return err
		}
	}
	return nil
}

// oneOf returns the names for an error.
func oneOf(names []string) string {
	switch len(names) {
	case 0:
		return "none here"
	case 1:
		return names[0]
	}
	return "one of: " + strings.Join(names, ", ")
}

// under runs parse for a setting of a name, which may stand there only once.
func (p *parser) under(name string, parse func() error) error {
	p.path = append(p.path, name)
	defer func() { p.path = p.path[:len(p.path)-1] }()

	key := pathKey(p.path)
	if first, repeated := p.at[key]; repeated {
		return p.Errf("%s: duplicate setting, first at %s:%d", name, first.File, first.Line)
	}
	p.at[key] = p.Token()
	return parse()
}

func pathKey(path []string) string { return strings.Join(path, "\x00") }

// nested returns a parser of a setting that is a block of settings.
func (p *parser) nested(name string, known settings) func() error {
	return func() error {
		return p.under(name, func() error {
			if _, err := p.args(name, "a block in braces", 0, 0); err != nil {
				return err
			}
			return p.block(known)
		})
	}
}

// flag returns a parser of a setting that is on if it is there.
func (p *parser) flag(name string, value *bool) func() error {
	return func() error {
		return p.under(name, func() error {
			_, err := p.args(name, "nothing more", 0, 0)
			*value = true
			return err
		})
	}
}

// word returns a parser of a setting with one value.
func (p *parser) word(name, expected string, value *string) func() error {
	return func() error {
		return p.under(name, func() error {
			args, err := p.args(name, expected, 1, 1)
			if err == nil {
				*value = args[0]
			}
			return err
		})
	}
}

// words returns a parser of a setting with one value or more.
func (p *parser) words(name, expected string, values *[]string) func() error {
	return func() error {
		return p.under(name, func() error {
			args, err := p.args(name, expected, 1, -1)
			*values = args
			return err
		})
	}
}

// number returns a parser of a setting that is a number.
func (p *parser) number(name string, value *int) func() error {
	return func() error {
		return p.under(name, func() error {
			args, err := p.args(name, "a number", 1, 1)
			if err != nil {
				return err
			}
			if *value, err = strconv.Atoi(args[0]); err != nil || *value <= 0 {
				return p.Errf("%s: expected a number, not %s", name, args[0])
			}
			return nil
		})
	}
}

// pair returns a parser of a setting with a name and a value, which may stand there once for each name.
func (p *parser) pair(name, expected string, values *map[string]string) func() error {
	return func() error {
		args, err := p.args(name, expected, 2, 2)
		if err != nil {
			return err
		}
		if *values == nil {
			*values = make(map[string]string)
		}
		(*values)[args[0]] = args[1]
		return p.under(name+" "+args[0], func() error { return nil })
	}
}

// lifetime returns a parser of a setting that is a lifetime.
func (p *parser) lifetime(name string, value *Lifetime) func() error {
	return func() error {
		return p.under(name, func() error {
			args, err := p.args(name, "a duration", 1, 1)
			if err != nil {
				return err
			}
			if *value, err = parseLifetime(args[0]); err != nil {
				return p.Errf("%s: %v, not %s", name, err, args[0])
			}
			return nil
		})
	}
}

// args returns the rest of the line: from least to most arguments, none of them empty. A negative most is
// any number.
func (p *parser) args(name, expected string, least, most int) ([]string, error) {
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

// locate adds file and line to the error of a setting that was read here.
func (p *parser) locate(err error) error {
	var setting *directive.Error
	if !errors.As(err, &setting) {
		return err
	}
	for path := setting.Path; len(path) > 0; path = path[:len(path)-1] {
		if token, ok := p.at[pathKey(path)]; ok {
			d := caddyfile.NewDispenser([]caddyfile.Token{token})
			d.Next()
			return d.WrapErr(err)
		}
	}
	return err
}
