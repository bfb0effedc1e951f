package storage

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// The record of a user's consents is read with every authorization, so it is a record of fields, as a
// family is.

// The fields of a user's consents.
const (
	consentsSubject protowire.Number = iota + 1
	consentsClient                   // one for each
)

// The fields of the consent for a client.
const (
	consentClient   protowire.Number = iota + 1
	consentScope                     // one for each
	consentAudience                  // one for each
	consentSince
	consentLast
	consentUnasked // one for each
	consentUsed
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
