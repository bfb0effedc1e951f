package caddyoauth

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// RevokesUsers says how a client names the user whose tokens it revokes (RFC 9493). It always may name the user ID itself (`opaque`), and
// the subject that this issuer gives (`iss_sub`).
type RevokesUsers struct {
	// Issuers whose subjects are the user IDs of your site, as `iss` of `iss_sub` has them, to the letter. Default: this issuer only.
	// **Danger:** with an issuer whose subjects are others, the tokens of another user, or of nobody, are revoked.
	Issuers []string `json:"iss,omitempty"`

	// Whether the user IDs of your site are e-mail addresses, so that `email` names a user. They are compared to the letter. Default: false.
	Email bool `json:"email,omitempty"`
}

func (c *Client) resolveRevokesUsers(repl *caddy.Replacer) error {
	if c.RevokesUsers == nil {
		return nil
	}
	return directive.At("revokes_users", directive.At("iss", replaceAll(repl, c.RevokesUsers.Issuers)))
}

func (c *Client) checkRevokesUsers() error {
	if c.RevokesUsers != nil && c.public() {
		return errors.New("expected with a secret, keys or a certificate only: a public client cannot authenticate")
	}
	for _, issuer := range c.RevokesUsers.issuers() {
		u, err := url.Parse(issuer)
		if !unresolved(issuer) && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
			return directive.At("iss", fmt.Errorf("expected the URLs of issuers, such as https://idp.example.com, not %s", issuer))
		}
	}
	return nil
}

func (r *RevokesUsers) issuers() []string {
	if r == nil {
		return nil
	}
	return r.Issuers
}

// identifiers returns the rules for the server, nil if the client may revoke nothing.
func (r *RevokesUsers) identifiers() *storage.UserIdentifiers {
	if r == nil {
		return nil
	}
	return &storage.UserIdentifiers{Issuers: r.Issuers, Email: r.Email}
}
