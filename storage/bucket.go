package storage

import (
	"strconv"
	"strings"
	"time"
)

// Bucket names an hour by the end of which every record filed under it has expired: four digits of base 36 that count the hours
// since 1970. Codes, refresh tokens and opaque access tokens begin with their bucket in clear, so that a store can file records
// by expiry and drop a whole bucket at once.
type Bucket string

// Never is the bucket of records that do not expire.
const Never Bucket = "zzzz"

const bucketLength = 4

// BucketFor returns the first bucket for records that expire at that time. A zero time gives Never.
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

// End returns the time from which no record of the bucket is live, and false for Never and for an invalid bucket.
func (b Bucket) End() (time.Time, bool) {
	if b == Never || !b.Valid() {
		return time.Time{}, false
	}
	hours, err := strconv.ParseInt(string(b), 36, 64)
	return time.Unix(hours*3600, 0), err == nil
}

// Ended reports whether all records of the bucket have expired. Never and an invalid bucket do not end.
func (b Bucket) Ended(now time.Time) bool {
	end, ends := b.End()
	return ends && !now.Before(end)
}

// Valid reports whether b is four digits of base 36, Never included.
func (b Bucket) Valid() bool {
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
