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
	Until   time.Time `json:"until,omitzero"`    // when what it got without approval is over; zero: never
	Used    time.Time `json:"used,omitzero"`     // when it last got a token, up to UseInterval ago

	// ApprovalEnds are for those Scopes, and those resources in Audience, that the user has ever approved for a limited time. Anything
	// else is approved until the user takes it back.
	ApprovalEnds []ApprovalEnd `json:"limits,omitempty"`
}

// ApprovalEnd says when the approval of a scope or a resource ends.
type ApprovalEnd struct {
	Scope    string    `json:"scope,omitempty"`
	Resource string    `json:"aud,omitempty"`
	Until    time.Time `json:"until,omitzero"` // when the latest approval ends; zero: never

	// TokensUntil is when the last token ends that an approval allowed, this one or one before; zero: never. A shorter approval does not
	// shorten what an earlier one gave to another copy of the app.
	TokensUntil time.Time `json:"tokens,omitzero"`
}

// UseInterval is how long Consent.Used may lag behind, to save writes.
const UseInterval = time.Hour

// Approved reports whether the user has ever approved the client.
func (c Consent) Approved() bool { return !c.Last.IsZero() }

// All returns all scopes of the client, approved or not.
func (c Consent) All() []string { return union(c.Scopes, c.Unasked) }

// approvalEnd returns the end of a scope or of a resource, of which the other is "". Without one, nothing ends.
func (c Consent) approvalEnd(scope, resource string) ApprovalEnd {
	for _, e := range c.ApprovalEnds {
		if e.Scope == scope && e.Resource == resource {
			return e
		}
	}
	return ApprovalEnd{Scope: scope, Resource: resource}
}

// filter returns the consent without the scopes and the resources whose end has passed.
func (c Consent) filter(passed func(ApprovalEnd) bool) Consent {
	if !slices.ContainsFunc(c.ApprovalEnds, passed) {
		return c
	}
	c.Scopes = slices.DeleteFunc(slices.Clone(c.Scopes), func(scope string) bool { return passed(c.approvalEnd(scope, "")) })
	c.Audience = slices.DeleteFunc(slices.Clone(c.Audience), func(resource string) bool { return passed(c.approvalEnd("", resource)) })
	c.ApprovalEnds = slices.DeleteFunc(slices.Clone(c.ApprovalEnds), passed)
	if len(c.Scopes)+len(c.Audience) == 0 {
		c.Last, c.Redirects = time.Time{}, nil
	}
	return c
}

// Covers reports whether the user has approved all of the scopes and the audience, and until when, zero for ever. What is over counts too,
// unless [Consents.Approved] has left it out.
func (c Consent) Covers(scopes, audience []string) (until time.Time, covered bool) {
	if !c.Approved() || !subset(scopes, c.Scopes) || !subset(audience, c.Audience) {
		return time.Time{}, false
	}
	for _, e := range c.ApprovalEnds {
		if e.Scope != "" && slices.Contains(scopes, e.Scope) || e.Resource != "" && slices.Contains(audience, e.Resource) {
			if !e.Until.IsZero() {
				until = earlier(until, e.Until)
			}
		}
	}
	return until, true
}

// Expires returns when the access of all clients is over, and with it the record, zero for never.
func (c *Consents) Expires() time.Time {
	var ends []time.Time
	for _, consent := range c.Clients {
		if consent.Approved() {
			ends = append(ends, consent.lastEnd())
		}
		if consent.unasked() {
			ends = append(ends, consent.Until)
		}
	}
	if len(ends) == 0 || slices.ContainsFunc(ends, time.Time.IsZero) {
		return time.Time{}
	}
	return slices.MaxFunc(ends, time.Time.Compare)
}

// ValidAt returns the consent without what the client has no access to any more, since the time is over for which the user approved it.
func (c Consent) ValidAt(now time.Time) Consent {
	return c.filter(func(e ApprovalEnd) bool { return Expired(e.TokensUntil, now) })
}

// unasked reports whether the client got something without approval.
func (c Consent) unasked() bool { return !c.Approved() || len(c.Unasked) > 0 }

// Expired reports whether the client has no access any more, since the time is over for which the user approved it, and that of what it got
// without approval.
func (c Consent) Expired(now time.Time) bool {
	return !c.ValidAt(now).Approved() && (!c.unasked() || Expired(c.Until, now))
}

// Ends returns when the access of the client ends by itself, zero for never.
func (c Consent) Ends() time.Time {
	if c.unasked() {
		return time.Time{}
	}
	return c.lastEnd()
}

// lastEnd returns when all that the user has approved ends, zero for never.
func (c Consent) lastEnd() (end time.Time) {
	if len(c.ApprovalEnds) == 0 || len(c.ApprovalEnds) < len(c.Scopes)+len(c.Audience) {
		return time.Time{}
	}
	end = c.ApprovalEnds[0].TokensUntil
	for _, e := range c.ApprovalEnds[1:] {
		end = Later(end, e.TokensUntil)
	}
	return end
}

// ConsentKey returns the key of a user's Consents.
func ConsentKey(subject string) Key {
	return Key{Kind: KindConsent, ID: HashID(subject)}
}

// Approved returns what the user has approved for the client and what is not over.
func (c *Consents) Approved(client string, now time.Time) Consent {
	return c.Clients[client].filter(func(e ApprovalEnd) bool { return Expired(e.Until, now) })
}

// Prune forgets the clients whose access is over.
func (c *Consents) Prune(now time.Time) {
	maps.DeleteFunc(c.Clients, func(_ string, consent Consent) bool { return consent.Expired(now) })
}

// Approve adds to what the user has approved for the client before. until is when this ends, zero for never: for what was approved before
// too, the latest approval holds.
func (c *Consents) Approve(client string, scopes, audience []string, until, now time.Time) {
	consent, ok := c.Clients[client]
	if !ok {
		consent.Since = now
	}
	consent = consent.ValidAt(now)
	var ends []ApprovalEnd
	add := func(e ApprovalEnd, known bool) {
		e.Until = until
		if e.TokensUntil = Later(e.TokensUntil, until); !known {
			e.TokensUntil = until
		}
		if !e.Until.IsZero() || !e.TokensUntil.IsZero() {
			ends = append(ends, e)
		}
	}
	for _, scope := range union(scopes, nil) {
		// Tokens that the client got without asking the user have no approved end.
		add(consent.approvalEnd(scope, ""), slices.Contains(consent.Scopes, scope) || slices.Contains(consent.Unasked, scope))
	}
	for _, resource := range union(audience, nil) {
		add(consent.approvalEnd("", resource), slices.Contains(consent.Audience, resource))
	}
	for _, e := range consent.ApprovalEnds {
		if !slices.Contains(scopes, e.Scope) && !slices.Contains(audience, e.Resource) {
			ends = append(ends, e)
		}
	}
	consent.Last, consent.ApprovalEnds = now, ends
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

// Use notes that the client got a token with those scopes, and reports whether that changes the record. What the user has not approved is
// kept until a time, zero for ever.
func (c *Consents) Use(client string, scopes []string, at, until time.Time) bool {
	consent, ok := c.Clients[client]
	if !ok {
		consent.Since = at
	}
	unasked := ok && consent.unasked()
	consent = consent.ValidAt(at)
	if ok && subset(scopes, consent.All()) && at.Sub(consent.Used) < UseInterval {
		return false
	}
	consent.Unasked = slices.DeleteFunc(union(consent.Unasked, scopes), func(scope string) bool {
		return slices.Contains(consent.Scopes, scope)
	})
	if at.After(consent.Used) {
		consent.Used = at
	}
	if unasked {
		until = Later(consent.Until, until)
	}
	if consent.unasked() {
		consent.Until = until
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
	consentRedirect    // repeated
	consentApprovalEnd // repeated
	consentUntil
)

// The fields of an ApprovalEnd.
const (
	endScope protowire.Number = iota + 1
	endResource
	endUntil
	endTokens
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
			for _, e := range consent.ApprovalEnds {
				w.message(consentApprovalEnd, e.encode)
			}
			w.time(consentUntil, consent.Until)
		})
	}
	return w.record, nil
}

func (e ApprovalEnd) encode(w *fieldWriter) {
	w.text(endScope, e.Scope)
	w.text(endResource, e.Resource)
	w.time(endUntil, e.Until)
	w.time(endTokens, e.TokensUntil)
}

func (e *ApprovalEnd) decode(f field) (err error) {
	switch f.number {
	case endScope:
		e.Scope = f.text
	case endResource:
		e.Resource = f.text
	case endUntil:
		e.Until, err = f.time()
	case endTokens:
		e.TokensUntil, err = f.time()
	}
	return err
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
			case consentApprovalEnd:
				var e ApprovalEnd
				err = readFields(f.bytes, f.text, e.decode)
				consent.ApprovalEnds = append(consent.ApprovalEnds, e)
			case consentUntil:
				consent.Until, err = f.time()
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
