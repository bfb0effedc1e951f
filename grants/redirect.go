package grants

import "github.com/caddy-oauth/caddy-oauth/storage"

// checkRedirect compares the redirect_uri of the exchange of a code with where the code went to. Unless the rule
// is another, it must be there if it was in the authorization request (RFC 6749 §4.1.3).
func checkRedirect(code *storage.Code, uri string, rule storage.RedirectRule) error {
	needed := code.RedirectSent
	switch rule {
	case storage.RedirectRequired:
		needed = true
	case storage.RedirectOptional:
		needed = false
	}
	return compareRedirect(code, uri, needed)
}

// checkRefreshRedirect does the same for a refresh, where it is not looked at unless the rule says so. A family that
// began without a redirect has none to name.
func checkRefreshRedirect(code *storage.Code, uri string, rule storage.RedirectRule) error {
	switch {
	case code == nil || rule == "" || rule == storage.RedirectIgnored:
		return nil
	case rule == storage.RedirectRequired:
		return compareRedirect(code, uri, true)
	case rule == storage.RedirectOptional:
		return compareRedirect(code, uri, false)
	}
	return compareRedirect(code, uri, code.RedirectAgain)
}

func compareRedirect(code *storage.Code, uri string, needed bool) error {
	switch {
	case uri == "" && needed:
		return Refuse(InvalidRequest, "redirect_uri is missing")
	case uri != "" && uri != code.RedirectURI:
		return Refuse(InvalidGrant, "redirect_uri is not the one of the authorization request")
	}
	return nil
}
