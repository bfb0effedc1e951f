package registration

import (
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/internal/uris"
)

// knownRedirects are the redirect URIs of widely used clients, as their vendors document them: Claude, ChatGPT, VS Code, Cursor.
var knownRedirects = []string{
	"https://claude.ai/api/mcp/auth_callback",
	"https://claude.com/api/mcp/auth_callback",
	"https://chatgpt.com/connector_platform_oauth_redirect",
	"https://vscode.dev/redirect",
	"https://insiders.vscode.dev/redirect",
	"https://www.cursor.com/agents/mcp/oauth/callback",
	"cursor://anysphere.cursor-mcp/oauth/callback",
}

// chatGPT begins the redirect URIs of ChatGPT, which have one more segment for each connector.
const chatGPT = "https://chatgpt.com/connector/oauth/"

// IsKnownClient reports whether a redirect URI is one of a widely used client, letter by letter, as its vendor documents it.
func IsKnownClient(uri string) bool {
	if slices.Contains(knownRedirects, uri) {
		return true
	}
	id, ok := strings.CutPrefix(uri, chatGPT)
	return ok && id != "" && strings.Trim(id, "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz") == ""
}

// isKnownRedirect reports whether a redirect URI that checkRedirect accepts is that of a known client, or of any on the person's own
// device.
func isKnownRedirect(uri string) bool {
	if IsKnownClient(uri) {
		return true
	}
	u, err := url.Parse(uri)
	return err == nil && u.Scheme == "http" && uris.IsLoopback(u.Hostname())
}
