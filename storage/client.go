package storage

import (
	"slices"
	"time"
)

// Client is an application that may ask for tokens. Member names follow RFC 7591 §2 where it has
// one. A Client is read by many requests at once and is never changed after it was made.
type Client struct {
	ID   string `json:"client_id"`
	Name string `json:"client_name,omitempty"`

	// SecretHashes are the hashes of the secrets that authenticate the client, any one of which
	// will do. A client without one is public.
	SecretHashes []string `json:"secret_hashes,omitempty"`

	RedirectURIs []string `json:"redirect_uris,omitempty"`
	GrantTypes   []string `json:"grant_types,omitempty"`
	Scopes       []string `json:"scopes,omitempty"`

	// Audience holds the resources the client may ask for (RFC 8707), and what its tokens are for
	// if it asks for none.
	Audience []string `json:"audience,omitempty"`

	Consent ConsentMode `json:"consent,omitempty"`

	// AccessTokenLifetime is how long an access token lives.
	AccessTokenLifetime time.Duration `json:"access_token_lifetime"`
	// CodeLifetime is how long an authorization code lives, at most ten minutes (RFC 6749 §4.1.2).
	CodeLifetime time.Duration `json:"code_lifetime"`

	RefreshToken RefreshPolicy `json:"refresh_token"`
}

// RefreshPolicy says how refresh tokens of a client live.
type RefreshPolicy struct {
	// Lifetime is how long a family can be refreshed, counted from the approval. Zero is for ever.
	Lifetime time.Duration `json:"lifetime"`
	// Idle is how long a family lives without a refresh. Zero does not look at that.
	Idle time.Duration `json:"idle"`
	// Retry is how long the token before the current one still yields the current one, as long as that
	// was not used. Zero is strict single use.
	Retry time.Duration `json:"retry"`
	// Keep leaves the refresh token as it is instead of rotating it.
	Keep bool `json:"keep,omitempty"`
	// Length is how long refresh tokens are, without a prefix. Zero is as long as is right.
	Length int `json:"length,omitempty"`
}

// ConsentMode says when a person is asked.
type ConsentMode string

// The consent modes. The zero value is ConsentOnce for clients whose identity is assured and
// ConsentAlways for the others, see Client.AskAgain.
const (
	ConsentOnce   ConsentMode = "once"   // until scopes or audience grow
	ConsentAlways ConsentMode = "always" // each time
	ConsentNever  ConsentMode = "never"  // not at all: the owner's own clients
)

// Public reports whether the client has no secret (RFC 6749 §2.1).
func (c *Client) Public() bool { return len(c.SecretHashes) == 0 }

// MayUse reports whether the client may use a grant type.
func (c *Client) MayUse(grantType string) bool { return slices.Contains(c.GrantTypes, grantType) }

// Ends returns when a family that is approved now ends; zero is never.
func (p RefreshPolicy) Ends(now time.Time) time.Time {
	if p.Lifetime == 0 {
		return time.Time{}
	}
	return now.Add(p.Lifetime)
}
