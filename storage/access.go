package storage

import (
	"encoding/json"
	"time"
)

// KindAccess is an opaque access token: an Access; ID is a bucket and the hash of the token.
const KindAccess Kind = "access"

// Access is what an opaque access token stands for.
type Access struct {
	Client   string         `json:"client_id"`
	Subject  string         `json:"sub"`
	Scopes   []string       `json:"scopes,omitempty"`
	Audience []string       `json:"aud,omitempty"`
	Claims   map[string]any `json:"claims,omitempty"`
	AuthTime time.Time      `json:"auth_time,omitzero"`
	IssuedAt time.Time      `json:"iat"`
	Expires  time.Time      `json:"exp"`
	Family   string         `json:"family,omitempty"` // the ID of its family's record
	Started  time.Time      `json:"started,omitzero"` // when the family did
}

// IssueToken draws the token, of that length (0 is as long as is right), and returns it with the key of the
// record. The caller writes the record with a.Expires.
func (a *Access) IssueToken(length int) (token string, key Key) {
	if length == 0 {
		length = accessLength
	}
	token = string(BucketFor(a.Expires)) + random(length-bucketLength)
	return token, accessKey(token)
}

// AccessKey returns the key of the record of an opaque access token, and false for a text that can be
// none.
func AccessKey(token string) (Key, bool) {
	if len(token) < MinTokenLength || len(token) > MaxTokenLength || !Bucket(token[:bucketLength]).Valid() {
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
