package grants

import (
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// OpenID is the scope of a request that signs a person in (OpenID Connect Core §3.1.2.1).
const OpenID = "openid"

// OpenIDScopes are the scopes that OpenID Connect defines (Core §3.1.2.1, §5.4, §11). They are for requests that name openid.
var OpenIDScopes = []string{OpenID, "profile", "email", "address", "phone", "offline_access"}

// AllowedScopes returns the scopes of the client that a request with this scope parameter may have. A request that does not name openid
// gets none of the OpenIDScopes: it is not about OpenID Connect (Core §3.1.2.1).
func AllowedScopes(client *storage.Client, parameter string) []string {
	if client.OpenID == nil || slices.Contains(strings.Fields(parameter), OpenID) {
		return client.Scopes
	}
	return withoutOpenID(client)
}

// withoutOpenID returns the scopes of a client for a request that signs nobody in.
func withoutOpenID(client *storage.Client) []string {
	if client.OpenID == nil {
		return client.Scopes
	}
	return slices.DeleteFunc(slices.Clone(client.Scopes), func(s string) bool { return slices.Contains(OpenIDScopes, s) })
}
