package redis

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// record is what stands at a key: a byte that tells our records from what others put there, a stamp, and the value.
// The stamp is drawn anew with each write, so that two records with the same stamp are the same write; nil is no
// record. A record is not changed once it was made.
type record string

const (
	recordMark  = '\x01'
	stampLength = 1 + 8
)

func newRecord(value []byte) record {
	data := make([]byte, stampLength, stampLength+len(value))
	data[0] = recordMark
	binary.LittleEndian.PutUint64(data[1:], rand.Uint64()) //nolint:gosec // G404: it need not be secret, only rare
	return record(append(data, value...))
}

// readRecord returns what stands at a key as a record.
func readRecord(stored string) (record, error) {
	if len(stored) < stampLength || stored[0] != recordMark {
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
	return []byte(r[stampLength:])
}
