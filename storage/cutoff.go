package storage

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"time"
)

// KindCutoff is a Cutoff; ID is a bucket and random.
const KindCutoff Kind = "cutoff"

// Cutoff says that tokens are void: one access token, all of a family, or all that a user or client, or a
// user at a client, got up to a moment. It is written once and never changed.
type Cutoff struct {
	Token   string    `json:"jti,omitempty"`
	Family  string    `json:"family,omitempty"` // the ID of its record
	Subject string    `json:"sub,omitempty"`
	Client  string    `json:"client_id,omitempty"` // with Subject: of this user only
	Before  time.Time `json:"before"`              // what was made up to this second
	Expires time.Time `json:"exp,omitzero"`        // when it is of no use any more, as its record; zero: never
	Reason  string    `json:"reason,omitempty"`
}

// NewCutoffKey returns a key for a cutoff that is of no use after expires; zero is never.
func NewCutoffKey(expires time.Time) Key {
	var id [16]byte
	rand.Read(id[:])
	return Key{Kind: KindCutoff, ID: string(BucketFor(expires)) + "." + hex.EncodeToString(id[:])}
}

// Late reports whether it is of no use any more.
func (c *Cutoff) Late(now time.Time) bool { return late(c.Expires, now) }

// Encode returns the record.
func (c *Cutoff) Encode() ([]byte, error) { return json.Marshal(c) }

// DecodeCutoff reads a record.
func DecodeCutoff(record []byte) (*Cutoff, error) {
	c := new(Cutoff)
	if err := decodeRecord("cutoff", record, c); err != nil {
		return nil, err
	}
	return c, nil
}
