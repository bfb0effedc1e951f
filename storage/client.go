package storage

import (
	"slices"
	"time"
)

// Client is an application that may ask for tokens. Field names follow RFC 7591 §2 where it has
// one. A Client is read by many requests at once and is never changed after it was made.
type Client struct {
	ID   string
	Name string

	// SecretHashes are the hashes of the secrets that authenticate the client, any one of which
	// will do. A client without one is public.
	SecretHashes []string

	RedirectURIs []string
	GrantTypes   []string
	Scopes       []string

	// Audience holds the resources the client may ask for (RFC 8707), and what its tokens are for
	// if it asks for none.
	Audience []string

	// Introspects are the resources whose access tokens the client may look at, as their resource server;
	// "*" is all. Its own it may look at in any case.
	Introspects []string

	Consent ConsentMode

	// RequirePKCE makes a client with a secret send a code_challenge too; a public client must anyway.
	RequirePKCE bool

	RedirectRules RedirectRules

	// AccessTokenLifetime is how long an access token lives.
	AccessTokenLifetime time.Duration
	// CodeLifetime is how long an authorization code lives, at most ten minutes (RFC 6749 §4.1.2).
	CodeLifetime time.Duration
	// CodePrefix stands before authorization codes.
	CodePrefix string

	RefreshToken RefreshPolicy

	// Created is when the client was added at run time, zero for one of the configuration. What people had approved
	// before was for another client of the same ID.
	Created time.Time
}

// RefreshPolicy says how refresh tokens of a client live.
type RefreshPolicy struct {
	// Lifetime is how long a family can be refreshed, counted from the approval. Zero is for ever.
	Lifetime time.Duration
	// Idle is how long a family lives without a refresh. Zero does not look at that.
	Idle time.Duration
	// Retry is how long after a rotation the token before the current one yields the current one again, as long as
	// that was not used: for a client that lost the answer. Zero is strict single use, RetryUntilUsed has no end.
	Retry time.Duration
	// Keep leaves the refresh token as it is instead of rotating it.
	Keep bool
	// Length is how long refresh tokens are, without the prefix. Zero is as long as is right.
	Length int
	// Prefix stands before refresh tokens.
	Prefix string
}

// RetryUntilUsed is the Retry of clients that authenticate: a thief of the token alone cannot present it.
const RetryUntilUsed time.Duration = -1

// RedirectRules say where a request must name its redirect_uri. The zero value is RFC 6749's.
type RedirectRules struct {
	// Authorize: the authorization request must have one, even if only one is registered.
	Authorize bool
	// Code is for the exchange of a code.
	Code RedirectRule
	// Refresh is for a refresh.
	Refresh RedirectRule
}

// RedirectRule says when a token request must name the redirect_uri the code was sent to. One that it names must be
// that one in any case, but where it is ignored.
type RedirectRule string

// The rules for redirect_uri in token requests.
const (
	// RedirectAsSent: if the request before had one, which is the authorization request for a code, and
	// the exchange of the code for a refresh. The rule for codes (RFC 6749 §4.1.3).
	RedirectAsSent RedirectRule = "as_sent"
	// RedirectRequired: always.
	RedirectRequired RedirectRule = "required"
	// RedirectOptional: never.
	RedirectOptional RedirectRule = "optional"
	// RedirectIgnored: it is not looked at. The rule for refreshes (RFC 6749 §6).
	RedirectIgnored RedirectRule = "ignored"
)

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

// EndsCode returns when a code that is made now and leads to refresh tokens ends, which is at expires or before: the
// record of a code must be there as long as the code is good, for its second use to be seen, and goes with the tokens.
func (p RefreshPolicy) EndsCode(expires, now time.Time) time.Time {
	for _, life := range []time.Duration{p.Lifetime, p.Idle} {
		if life > 0 {
			expires = earlier(expires, now.Add(life))
		}
	}
	return expires
}

// Ends returns when a family that is approved now ends; zero is never.
func (p RefreshPolicy) Ends(now time.Time) time.Time {
	if p.Lifetime == 0 {
		return time.Time{}
	}
	return now.Add(p.Lifetime)
}
