package storage

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// Cutoff says that tokens are void: one access token, all of a family, or all that a user, a client, or a user at a client
// got up to a moment.
type Cutoff struct {
	Token   string    `json:"jti,omitempty"`
	Family  string    `json:"family,omitempty"` // the ID of its record
	Subject string    `json:"sub,omitempty"`
	Client  string    `json:"client_id,omitempty"` // with Subject: of this user only
	Before  time.Time `json:"before"`              // families, and tokens without one, that began up to this millisecond are revoked
	Expires time.Time `json:"exp,omitzero"`        // when the last token that it voids has expired; zero: never
	Reason  string    `json:"reason,omitempty"`
}

// Key returns the key of the cutoff's record. The same revocation within the same second has the same key, so that many at once leave
// one record, that of the last one.
func (c *Cutoff) Key() Key {
	what := []string{c.Token, c.Family, c.Subject, c.Client}
	if c.Dated() {
		what = append(what, strconv.FormatInt(c.Before.Unix(), 10))
	}
	end := c.Expires
	if !end.IsZero() {
		end = end.Truncate(time.Second).Add(time.Second) // the same bucket for the whole second
	}
	return Key{Kind: KindCutoff, ID: bucketID(string(BucketFor(end)), strings.Join(what, "\x00"))}
}

// Dated reports whether the cutoff voids what began up to a moment, and not a certain token or family.
func (c *Cutoff) Dated() bool { return c.Token == "" && c.Family == "" }

// Expired reports whether every token that the cutoff voids has expired.
func (c *Cutoff) Expired(now time.Time) bool { return Expired(c.Expires, now) }

// Encode returns the record.
func (c *Cutoff) Encode() ([]byte, error) { return json.Marshal(c) }

// DecodeCutoff reads a record.
func DecodeCutoff(record []byte) (*Cutoff, error) {
	c := new(Cutoff)
	if err := decodeJSON("cutoff", record, c); err != nil {
		return nil, err
	}
	return c, nil
}
