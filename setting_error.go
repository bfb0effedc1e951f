package caddyoauth

import "strings"

// settingError says what is wrong with a setting, and where it is: the path of names that lead to it,
// as they stand in a Caddyfile.
type settingError struct {
	path    []string
	problem string
}

func settingErr(problem string, path ...string) *settingError {
	return &settingError{path, problem}
}

func (e *settingError) Error() string {
	return strings.Join(e.path, ": ") + ": " + e.problem
}
