package cli

import (
	"io"
	"net/http"
	"regexp"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/internal/adminapi"
)

const clientsBlockHelp = `
Refuses a client that describes itself, and revokes its tokens. What is blocked
is the client with an ID, or every client with a redirect URI on a host, such as
evil.example; an app's own scheme is written with its colon, such as evil:. Other
nodes know it after revocation_poll.`

func runClientsDescribed(c *invocation) error {
	var described adminapi.Described
	if err := c.ask(http.MethodGet, "/described", nil, &described); err != nil {
		return err
	}
	return c.print(described, func(w io.Writer) {
		row(w, "ID", "CALLS ITSELF", "REDIRECT URIS", "LAST USE", "STATUS")
		for _, client := range described.Clients {
			status := "enabled"
			if client.Blocked {
				status = "blocked"
			}
			row(w, client.ID, client.Name, strings.Join(client.RedirectURIs, " "), formatTime(client.Used), status)
		}
		for _, host := range described.RedirectHosts {
			row(w, "", "", host, "", "blocked")
		}
	})
}

func runClientsBlock(c *invocation) error {
	return c.ask(http.MethodPost, "/block", toBlock(c.arg), nil)
}

func runClientsUnblock(c *invocation) error {
	return c.ask(http.MethodPost, "/unblock", toBlock(c.arg), nil)
}

var registeredID = regexp.MustCompile(`^d\.[a-z2-7]{26}$`)

// toBlock tells a client ID, which is that of a registration or a URL, from a host.
func toBlock(arg string) adminapi.Blocked {
	if strings.Contains(arg, "://") || registeredID.MatchString(arg) {
		return adminapi.Blocked{ClientID: arg}
	}
	return adminapi.Blocked{RedirectHost: arg}
}
