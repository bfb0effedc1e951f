package storage

import (
	"encoding/json"
	"fmt"
	"time"
)

// Document is a Client ID Metadata Document: the JSON that a client in use has at the URL that is its ID.
type Document struct {
	ID   string          `json:"client_id"`
	Body json.RawMessage `json:"document"`

	// ETag and LastModified came with the document, to ask whether it has changed (RFC 9110 §13.1).
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified,omitempty"`

	Fetched time.Time `json:"fetched"` // when the client's server last said that this is the document
	Fresh   time.Time `json:"fresh"`   // when to ask it again

	// Created is since when the document describes the same client, see [Client.Created].
	Created time.Time `json:"created"`

	Used    time.Time `json:"used"`              // when the client last got a code or a token, up to a day ago
	Live    time.Time `json:"live"`              // when its last family ends, or later by up to a day
	Endless bool      `json:"endless,omitempty"` // a family of it has no end
}

// DocumentKey returns the key of a document's record.
func DocumentKey(id string) Key { return Key{Kind: KindDocument, ID: HashID(id)} }

// Encode returns the record.
func (d *Document) Encode() ([]byte, error) { return json.Marshal(d) }

// DecodeDocument reads a record.
func DecodeDocument(record []byte) (*Document, error) {
	d := new(Document)
	if err := decodeJSON("document", record, d); err != nil {
		return nil, err
	}
	if d.ID == "" || len(d.Body) == 0 {
		return nil, fmt.Errorf("%w: document record: no document", ErrDamaged)
	}
	return d, nil
}
