package grants

import (
	"net/url"
	"slices"
	"strings"
)

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
			return nil, Refuse(InvalidTarget, "resource must be an absolute URI without a fragment")
		}
		if !slices.Contains(allowed, r) || len(wanted) == maxResources {
			return nil, Refuse(InvalidTarget, "resource is not one this client may ask for")
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
