package storage

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Kind is a kind of record.
type Kind string

// The kinds of records.
const (
	KindFamily  Kind = "family"  // a Family; ID is a bucket and the hash of a locator
	KindConsent Kind = "consent" // the Consents of one user; ID is the hash of the subject
	KindKeys    Kind = "keys"    // an issuer's keys; ID is a name
)

// Key names a record.
type Key struct {
	Kind Kind

	// ID is the hex of a hash or an escaped name (see HashID, EscapeID), never a raw token. It may
	// begin with a Bucket and a dot; a store that files records by expiry finds the bucket there.
	ID string
}

const maxIDLength = 128

// Check reports whether the key can safely name a file, a directory or a key of any backend: the
// kind and the ID hold only lower-case letters, digits, '-', '_', '=' and, neither first nor last,
// '.', and are neither empty nor longer than 128 bytes.
func (k Key) Check() error {
	if !safeName(k.ID) {
		return fmt.Errorf("storage: unsafe key %.140q of kind %.140q", k.ID, string(k.Kind))
	}
	return k.Kind.Check()
}

// Check is as [Key.Check] for the kind alone.
func (k Kind) Check() error {
	if !safeName(string(k)) {
		return fmt.Errorf("storage: unsafe kind %.140q", string(k))
	}
	return nil
}

// Bucket returns the bucket the ID begins with, or the empty Bucket if it has none.
func (k Key) Bucket() Bucket {
	if len(k.ID) <= bucketLength || k.ID[bucketLength] != '.' {
		return ""
	}
	if b := Bucket(k.ID[:bucketLength]); b.Valid() {
		return b
	}
	return ""
}

func safeName(s string) bool {
	// Windows drops a dot at the end of a file name, and two keys would name one file.
	if s == "" || len(s) > maxIDLength || s[0] == '.' || s[len(s)-1] == '.' {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '=', c == '.':
		default:
			return false
		}
	}
	return true
}

// HashID returns an ID for a value that is secret, long or in any alphabet: 128 bits of its
// SHA-256, in hex.
func HashID(value string) string {
	sum := hashOf(value)
	return hex.EncodeToString(sum[:16])
}

// bucketID is HashID in a bucket.
func bucketID(bucket, value string) string {
	var id [bucketLength + 1 + 2*16]byte
	sum := hashOf(value)
	return string(hex.AppendEncode(append(append(id[:0], bucket...), '.'), sum[:16]))
}

// EscapeID returns an ID for a name that people should recognise in the backend. Bytes that
// are not allowed become '=' and two hex digits; what gets too long for that becomes a hash.
// Different names have different IDs.
func EscapeID(name string) string {
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "=%02x", c)
		}
	}
	if b.Len() == 0 || b.Len() > 64 {
		return "=h" + HashID(name)
	}
	return b.String()
}
