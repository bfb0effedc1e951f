package redis

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// record is what stands at a key:
//
//	mark (1 byte)   tells our records from what others put there
//	stamp (8)       is drawn anew with each write: two records with the same stamp are the same write
//	expiry (8)      in milliseconds since 1970, 0 for never: Redis decides when it is late, this tells what was meant
//	value
//
// No record is "". A record is not changed once it was made.
type record string

const (
	recordMark  = '\x01'
	stampLength = 1 + 8
	headLength  = stampLength + 8
)

func newRecord(value []byte, expires time.Time) record {
	var head [headLength]byte
	head[0] = recordMark
	binary.LittleEndian.PutUint64(head[1:], rand.Uint64())                                   //nolint:gosec // G404: it need not be secret, only rare
	binary.LittleEndian.PutUint64(head[stampLength:], uint64(storage.ExpiryMillis(expires))) //nolint:gosec // G115: it is not negative
	var b strings.Builder
	b.Grow(headLength + len(value))
	b.Write(head[:])
	b.Write(value)
	return record(b.String())
}

// readRecord returns what stands at a key as a record.
func readRecord(stored string) (record, error) {
	if len(stored) < headLength || stored[0] != recordMark {
		return "", storage.ErrDamaged
	}
	return record(stored), nil
}

// stamp returns the stamp with the mark before it, "" if there is no record.
func (r record) stamp() string {
	if r == "" {
		return ""
	}
	return string(r[:stampLength])
}

// value returns a copy of the value, nil if there is no record.
func (r record) value() []byte {
	if r == "" {
		return nil
	}
	return []byte(r[headLength:])
}

// expires returns when the record expires, zero for never.
func (r record) expires() time.Time {
	millis := binary.LittleEndian.Uint64([]byte(r[stampLength:headLength]))
	return storage.ExpiryFromMillis(int64(millis)) //nolint:gosec // G115: there and back
}
