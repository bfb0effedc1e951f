// Package dump is the file format in which the records of an issuer are moved from one store to another, and backed up.
//
// A dump is lines of JSON: a [Header], a line for each record, in no order, and one that says how many there are, so
// that what was cut off is not taken for a whole. A record may be there more than once; the last counts. A dump is plain: it
// has private keys and what is known of people in it.
package dump

import (
	"fmt"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

const (
	format  = "caddy-oauth dump"
	version = 1

	// maxLine is more than any record needs.
	maxLine = 8 << 20
)

// Header says what a dump is of.
type Header struct {
	Issuer string    // its short name
	Time   time.Time // when the dump was begun

	// ReadOnly says that the issuer was read-only during the export, so that the dump is final. Otherwise records may
	// have changed meanwhile, and each is as it was at some moment.
	ReadOnly bool
}

// line is a line of any kind, as it is written. Which kind it is tells the first member.
type line struct {
	Format string `json:"format,omitempty"`
	Kind   string `json:"kind,omitempty"`
	End    bool   `json:"end,omitempty"`
	Error  string `json:"error,omitempty"`

	// of the header
	Version  int       `json:"version,omitempty"`
	Issuer   string    `json:"issuer,omitempty"`
	Time     time.Time `json:"time,omitzero"`
	ReadOnly bool      `json:"read_only,omitempty"`

	// of a record
	ID      string `json:"id,omitempty"`
	Expires int64  `json:"expires,omitempty"` // milliseconds since 1970; 0: never
	Value   []byte `json:"value,omitempty"`   // base64

	// of the end
	Records int `json:"records,omitempty"`
	Damaged int `json:"damaged,omitempty"` // left out
}

// readable returns an error if the value of a record is encrypted, which happens if the store is opened without its keys.
func readable(record storage.Record) error {
	if err := storage.CheckReadable(record.Value); err != nil {
		return fmt.Errorf("%s/%s: %w", record.Key.Kind, record.Key.ID, err)
	}
	return nil
}

// Same reports whether two records of the same key are the same. A store may know only how long a record still lives, which
// makes its end a little uncertain.
func Same(a, b storage.Record) bool {
	apart := a.Expires.Sub(b.Expires).Abs()
	return string(a.Value) == string(b.Value) && a.Expires.IsZero() == b.Expires.IsZero() && apart < time.Second
}
