package directive

import (
	"errors"
	"strings"
	"unicode"
)

// Error says that a setting is wrong, and where it is.
type Error struct {
	// Path has the names that lead to the setting, as they stand in a Caddyfile: "issuer shop", "client app", "secret".
	Path []string

	// Err is the problem, such as "expected a duration, not soon".
	Err error
}

func (e *Error) Error() string {
	return strings.Join(e.Path, ": ") + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// At returns the error of a check with the name of the setting, or of the block of settings, that was checked. Each block
// adds its own name to the errors of what is in it. No error stays none.
func At(name string, err error) error {
	switch inner := err.(type) { //nolint:errorlint // a wrapped error is the problem, with its text
	case nil:
		return nil
	case *Error:
		return &Error{Path: append([]string{name}, inner.Path...), Err: inner.Err}
	}
	return &Error{Path: []string{name}, Err: err}
}

// CheckSecret finds a secret that nobody can mean: one with a line break, as an environment variable often has at its end,
// or another control character (RFC 6749 appendix A.2), or with space around it. The error does not contain the secret.
func CheckSecret(secret string) error {
	switch {
	case strings.ContainsAny(secret, "\r\n"):
		return errors.New("expected no line break, which variables often have at their end")
	case strings.ContainsFunc(secret, unicode.IsControl):
		return errors.New("expected no control characters")
	case strings.TrimSpace(secret) != secret:
		return errors.New("expected no spaces around it")
	}
	return nil
}
