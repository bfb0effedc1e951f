package storage

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Consents is what one user has approved, by client ID. There is one record for each user, so that
// one read tells what to ask, and what to show to the user.
type Consents struct {
	Subject string             `json:"sub"`
	Clients map[string]Consent `json:"clients"`
}

// Consent is what a user has approved for one client.
type Consent struct {
	Scopes   []string  `json:"scopes"`
	Audience []string  `json:"audience"`
	Since    time.Time `json:"since"` // of the first approval
	Last     time.Time `json:"last"`  // of the latest one
}

// ConsentKey returns the key of a user's Consents.
func ConsentKey(subject string) Key {
	return Key{Kind: KindConsent, ID: HashID(subject)}
}

// DecodeConsents reads a record. No record, nil, is a user who has approved nothing.
func DecodeConsents(subject string, record []byte) (*Consents, error) {
	c := &Consents{Subject: subject}
	if record != nil {
		if err := json.Unmarshal(record, c); err != nil {
			return nil, fmt.Errorf("consents record: %w", err)
		}
	}
	if c.Clients == nil {
		c.Clients = map[string]Consent{}
	}
	return c, nil
}

// Encode returns the record.
func (c *Consents) Encode() ([]byte, error) { return json.Marshal(c) }

// Covers reports whether the user has approved all of the scopes and the audience for the client.
func (c *Consents) Covers(client string, scopes, audience []string) bool {
	consent, ok := c.Clients[client]
	return ok && subset(scopes, consent.Scopes) && subset(audience, consent.Audience)
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

func subset(part, whole []string) bool {
	return !slices.ContainsFunc(part, func(s string) bool { return !slices.Contains(whole, s) })
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}
