package storage

import (
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Consents are the clients with access to one user's account, by client ID. One record per user answers both what to ask the user
// and what to show to the user.
type Consents struct {
	Subject string
	Clients map[string]Consent
}

// Consent is what a user has approved for one client, and what that client got without approval: because the owner's setting
// skips the question, or for the user's password.
type Consent struct {
	Scopes   []string  `json:"scopes"`
	Audience []string  `json:"audience"`
	Since    time.Time `json:"since"`         // when it first got access
	Last     time.Time `json:"last,omitzero"` // the latest approval; zero: none

	// Redirects are the hosts that the answers went to, if the client brought its own metadata, which can change.
	Redirects []string `json:"redirects,omitempty"`

	Unasked []string  `json:"unasked,omitempty"` // scopes it got without approval
	Used    time.Time `json:"used,omitzero"`     // when it last got a token, up to UseInterval ago
}

// UseInterval is how long Consent.Used may lag behind, to save writes.
const UseInterval = time.Hour

// Approved reports whether the user has ever approved the client.
func (c Consent) Approved() bool { return !c.Last.IsZero() }

// All returns all scopes of the client, approved or not.
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

// Approve adds to what the user has approved for the client before.
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

// ApproveRedirect adds a host that an answer to an approved client may go to.
func (c *Consents) ApproveRedirect(client, host string) {
	consent := c.Clients[client]
	consent.Redirects = union(consent.Redirects, []string{host})
	c.Clients[client] = consent
}

// Use notes that the client got a token with those scopes, and reports whether that changes the record.
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

// Every authorization reads the record of a user's consents, so it is a record of fields, as a family is.

// The fields of a user's consents.
const (
	consentsSubject protowire.Number = iota + 1
	consentsClient                   // repeated
)

// The fields of the consent for a client.
const (
	consentClient   protowire.Number = iota + 1
	consentScope                     // repeated
	consentAudience                  // repeated
	consentSince
	consentLast
	consentUnasked // repeated
	consentUsed
	consentRedirect // repeated
)

// Encode returns the record.
func (c *Consents) Encode() ([]byte, error) {
	w := fieldWriter{append(make([]byte, 0, 256), fieldsFormat)}
	w.text(consentsSubject, c.Subject)
	for _, id := range slices.Sorted(maps.Keys(c.Clients)) {
		consent := c.Clients[id]
		w.message(consentsClient, func(w *fieldWriter) {
			w.text(consentClient, id)
			w.texts(consentScope, consent.Scopes)
			w.texts(consentAudience, consent.Audience)
			w.time(consentSince, consent.Since)
			w.time(consentLast, consent.Last)
			w.texts(consentUnasked, consent.Unasked)
			w.time(consentUsed, consent.Used)
			w.texts(consentRedirect, consent.Redirects)
		})
	}
	return w.record, nil
}

// DecodeConsents reads a record. A nil record is that of a user who has approved nothing.
func DecodeConsents(subject string, record []byte) (*Consents, error) {
	c := &Consents{Subject: subject}
	if record != nil {
		if err := decodeFields("consents", record, c.decode); err != nil {
			return nil, err
		}
	}
	if c.Clients == nil {
		c.Clients = map[string]Consent{}
	}
	return c, nil
}

func (c *Consents) decode(f field) error {
	switch f.number {
	case consentsSubject:
		c.Subject = f.text
	case consentsClient:
		var id string
		var consent Consent
		err := readFields(f.bytes, f.text, func(f field) (err error) {
			switch f.number {
			case consentClient:
				id = f.text
			case consentScope:
				consent.Scopes = append(consent.Scopes, f.text)
			case consentAudience:
				consent.Audience = append(consent.Audience, f.text)
			case consentSince:
				consent.Since, err = f.time()
			case consentLast:
				consent.Last, err = f.time()
			case consentUnasked:
				consent.Unasked = append(consent.Unasked, f.text)
			case consentUsed:
				consent.Used, err = f.time()
			case consentRedirect:
				consent.Redirects = append(consent.Redirects, f.text)
			}
			return err
		})
		if err != nil {
			return err
		}
		if c.Clients == nil {
			c.Clients = make(map[string]Consent)
		}
		c.Clients[id] = consent
	}
	return nil
}
