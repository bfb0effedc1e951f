package storage

import (
	"slices"
	"time"
)

// Consents is which clients have access to one user's account, by client ID. There is one record for each user, so that
// one read tells what to ask, and what to show to the user.
type Consents struct {
	Subject string
	Clients map[string]Consent
}

// Consent is what a user has approved for one client, and what that client got without being approved: as one that
// people are not asked about, or for the user's password.
type Consent struct {
	Scopes   []string  `json:"scopes"`
	Audience []string  `json:"audience"`
	Since    time.Time `json:"since"`         // when it first had access
	Last     time.Time `json:"last,omitzero"` // of the latest approval; zero: there was none

	Unasked []string  `json:"unasked,omitempty"` // scopes it got beyond those approved
	Used    time.Time `json:"used,omitzero"`     // when it last got a token, give or take UseInterval
}

// UseInterval is how exactly it is known when a client was last used.
const UseInterval = time.Hour

// Approved reports whether the user has ever approved the client.
func (c Consent) Approved() bool { return !c.Last.IsZero() }

// All returns the scopes the client has, approved or not.
func (c Consent) All() []string { return union(c.Scopes, c.Unasked) }

// ConsentKey returns the key of a user's Consents.
func ConsentKey(subject string) Key {
	return Key{Kind: KindConsent, ID: HashID(subject)}
}

// Covers reports whether the user has approved all of the scopes and the audience for the client.
func (c *Consents) Covers(client string, scopes, audience []string) bool {
	consent, ok := c.Clients[client]
	return ok && consent.Approved() && subset(scopes, consent.Scopes) && subset(audience, consent.Audience)
}

// Approve adds an approval to what the user has approved for the client before.
func (c *Consents) Approve(client string, scopes, audience []string, now time.Time) {
	consent, ok := c.Clients[client]
	if !ok {
		consent.Since = now
	}
	consent.Last = now
	consent.Scopes = union(consent.Scopes, scopes)
	consent.Audience = union(consent.Audience, audience)
	c.Clients[client] = consent
}

// Use notes that the client got a token with those scopes. It reports whether that says anything new.
func (c *Consents) Use(client string, scopes []string, at time.Time) bool {
	consent, ok := c.Clients[client]
	if !ok {
		consent.Since = at
	}
	if ok && subset(scopes, consent.All()) && at.Sub(consent.Used) < UseInterval {
		return false
	}
	consent.Unasked = slices.DeleteFunc(union(consent.Unasked, scopes), func(scope string) bool {
		return slices.Contains(consent.Scopes, scope)
	})
	if at.After(consent.Used) {
		consent.Used = at
	}
	c.Clients[client] = consent
	return true
}

func subset(part, whole []string) bool {
	return !slices.ContainsFunc(part, func(s string) bool { return !slices.Contains(whole, s) })
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}
