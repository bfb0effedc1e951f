package storage

import (
	"encoding/json"
	"time"
)

// Access is the record of an opaque access token: what a JWT would say itself.
type Access struct {
	Client   string         `json:"client_id"`
	Subject  string         `json:"sub"`
	Pairwise string         `json:"pairwise_sub,omitempty"` // what the client and others know the Subject by, if it is something else
	Scopes   []string       `json:"scopes,omitempty"`
	Audience []string       `json:"aud,omitempty"`
	Claims   map[string]any `json:"claims,omitempty"`
	AuthTime time.Time      `json:"auth_time,omitzero"`
	ACR      string         `json:"acr,omitempty"`
	IssuedAt time.Time      `json:"iat"`
	Expires  time.Time      `json:"exp"`
	Family   string         `json:"family,omitempty"` // the ID of its family's record
	Started  time.Time      `json:"started,omitzero"` // when the family started
	Bound    Confirmation   `json:"cnf,omitzero"`

	Actor   *Actor   `json:"act,omitempty"`
	Sources []Source `json:"exchanged_from,omitempty"`
}

// Actor is who acts for the subject of a token (RFC 8693 §4.1).
type Actor struct {
	Subject string `json:"sub"`           // a client ID, or a user
	Actor   *Actor `json:"act,omitempty"` // who acted before, and gave the token to this one
}

// Source is an access token that was exchanged for another one. A revocation of the Source revokes the other token too.
type Source struct {
	Client string `json:"client_id"`
	Token  string `json:"jti"` // or the ID of its record

	// Began is the start of its family, or when it was issued if it has none. A Cutoff up to then revokes it.
	Began time.Time `json:"began,omitzero"`

	// Subject and Family are empty if they are those of the other token.
	Subject string `json:"sub,omitempty"`
	Family  string `json:"family,omitempty"`
}

// IssueToken returns a new token of that length, 0 for the default, and the key of its record. The caller writes the record, which
// expires at a.Expires.
func (a *Access) IssueToken(length int) (token string, key Key) {
	if length == 0 {
		length = accessLength
	}
	n := accessChecksum(length)
	token = newToken(isAccess, string(BucketFor(a.Expires)), length-bucketLength-n, n)
	return token, accessKey(token)
}

// accessChecksum returns the length of the checksum in an opaque access token of that length.
func accessChecksum(length int) int {
	if length >= accessLength {
		return longChecksum
	}
	return shortChecksum
}

// AccessKey returns the key of the record of an opaque access token, and false for a text that was never issued as one.
func AccessKey(token string) (Key, bool) {
	if len(token) < MinTokenLength || len(token) > MaxTokenLength || !intact(isAccess, token, accessChecksum(len(token))) {
		return Key{}, false
	}
	return accessKey(token), true
}

func accessKey(token string) Key {
	return Key{Kind: KindAccess, ID: bucketID(token[:bucketLength], token)}
}

// Encode returns the record.
func (a *Access) Encode() ([]byte, error) { return json.Marshal(a) }

// DecodeAccess reads a record.
func DecodeAccess(record []byte) (*Access, error) {
	a := new(Access)
	if err := decodeJSON("access token", record, a); err != nil {
		return nil, err
	}
	return a, nil
}
