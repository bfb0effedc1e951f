package grants

import (
	"net/url"
	"slices"
	"strings"
)

// ParseScope reads a scope parameter (RFC 6749 §3.3). No scope gives an empty list; naming one twice
// is naming it once.
func ParseScope(s string) ([]string, error) {
	var scopes []string
	for name := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == ' ' }) {
		if !ValidScope(name) {
			return nil, Refuse(InvalidScope, "scope is malformed").Explain(name, "printable ASCII without quotes and backslashes", "scopes")
		}
		if !slices.Contains(scopes, name) {
			scopes = append(scopes, name)
		}
	}
	return scopes, nil
}

// ValidScope reports whether s is a scope-token of RFC 6749 §3.3.
func ValidScope(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r < 0x21 || r > 0x7e || r == '"' || r == '\\'
	})
}

// ChooseScopes returns the scopes a scope parameter asks for, all of which must be allowed, or all that
// are allowed if it asks for none (RFC 6749 §3.3, §6).
func ChooseScopes(parameter string, allowed []string) ([]string, error) {
	wanted, err := ParseScope(parameter)
	if err != nil {
		return nil, err
	}
	if len(wanted) == 0 {
		return allowed, nil
	}
	for _, name := range wanted {
		if !slices.Contains(allowed, name) {
			return nil, Refuse(InvalidScope, "scope asks for more than is allowed").Explain(name, strings.Join(allowed, " "), "scopes")
		}
	}
	return wanted, nil
}

// both returns the elements that are in both lists, in the order of the first.
func both(a, b []string) []string {
	if contains(b, a) { // the usual case, without a copy
		return a
	}
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return !slices.Contains(b, s) })
}

// contains reports whether every one of part is in whole.
func contains(whole, part []string) bool {
	return !slices.ContainsFunc(part, func(s string) bool { return !slices.Contains(whole, s) })
}

const maxResources = 16

// ChooseAudience returns the resources that the resource parameters of a request name, all of which
// must be allowed, or all that are allowed if there are none (RFC 8707 §2, §2.2).
func ChooseAudience(parameters, allowed []string) ([]string, error) {
	var wanted []string
	for _, r := range parameters {
		if r == "" || slices.Contains(wanted, r) {
			continue
		}
		if !ValidResource(r) {
			return nil, Refuse(InvalidTarget, "resource must be an absolute URI without a fragment").
				Explain(r, strings.Join(allowed, " "), "audience")
		}
		if !slices.Contains(allowed, r) || len(wanted) == maxResources {
			return nil, Refuse(InvalidTarget, "resource is not one this client may ask for").
				Explain(r, strings.Join(allowed, " "), "audience")
		}
		wanted = append(wanted, r)
	}
	if len(wanted) == 0 {
		return allowed, nil
	}
	return wanted, nil
}

// ValidResource reports whether s can name a resource: an absolute URI without a fragment (RFC 8707 §2).
func ValidResource(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.IsAbs() && !strings.Contains(s, "#")
}
