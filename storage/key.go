package storage

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
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
	return k.Kind.check()
}

func (k Kind) check() error {
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
	if b := Bucket(k.ID[:bucketLength]); b.valid() {
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

// Bucket names an hour by the end of which every record filed under it has expired: four digits
// of base 36 counting hours since 1970. It stands in clear at the start of codes and refresh tokens, so that
// a store can file their records by expiry, and drop a whole bucket at once.
type Bucket string

// Never is the bucket of records that do not expire.
const Never Bucket = "zzzz"

const bucketLength = 4

// BucketFor returns the first bucket that holds records which expire at that time; a zero time is Never.
func BucketFor(expires time.Time) Bucket {
	if expires.IsZero() {
		return Never
	}
	// Round up from the last nanosecond: the record must not outlive its bucket.
	hours := (expires.Add(time.Second-1).Unix() + 3599) / 3600
	s := strconv.FormatInt(max(hours, 0), 36)
	if len(s) > bucketLength {
		return Never
	}
	return Bucket(strings.Repeat("0", bucketLength-len(s)) + s)
}

// End returns the time from which no record of this bucket is live, and false for Never and for what
// is no bucket.
func (b Bucket) End() (time.Time, bool) {
	if b == Never || !b.valid() {
		return time.Time{}, false
	}
	hours, err := strconv.ParseInt(string(b), 36, 64)
	return time.Unix(hours*3600, 0), err == nil
}

func (b Bucket) valid() bool {
	if len(b) != bucketLength {
		return false
	}
	for i := range len(b) {
		if c := b[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
