package directive

import "strings"

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
