package directive

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/caddyserver/caddy/v2"
)

// Resolve replaces the placeholders in a setting. A placeholder that is unknown or empty is an error. If the value of an
// environment variable ends with a line break, Resolve leaves that one out, as Caddy does with {file.*}: programs that print a
// secret add one, and whatever puts it into the environment keeps it.
func Resolve(repl *caddy.Replacer, setting string) (string, error) {
	return repl.ReplaceFunc(setting, func(name string, value any) (any, error) {
		text := caddy.ToString(value)
		if strings.HasPrefix(name, "env.") {
			text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
		}
		switch {
		case value == nil && !strings.HasPrefix(name, "file."): // of a file that it cannot read, Caddy logs why
			return nil, fmt.Errorf("unknown placeholder {%s}", name)
		case text == "":
			return nil, fmt.Errorf("placeholder {%s} is empty", name)
		}
		return text, nil
	})
}

var placeholder = regexp.MustCompile(`\{([^{}]+)\}`)

// Placeholders returns the names of the placeholders in a value.
func Placeholders(value string) (names []string) {
	for _, m := range placeholder.FindAllStringSubmatch(value, -1) {
		names = append(names, m[1])
	}
	return names
}

// CheckSecret finds a secret that nobody can mean: one with a line break or another control character (RFC 6749 appendix A.2), or
// with space around it. The error does not contain the secret.
func CheckSecret(secret string) error {
	switch {
	case strings.ContainsAny(secret, "\r\n"):
		return errors.New("expected no line break")
	case strings.ContainsFunc(secret, unicode.IsControl):
		return errors.New("expected no control characters")
	case strings.TrimSpace(secret) != secret:
		return errors.New("expected no spaces around it")
	}
	return nil
}
