package storage

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"strings"
)

// Kind is a kind of record.
type Kind string

// The kinds of records.
const (
	KindFamily   Kind = "family"   // a Family; the ID is a bucket and the hash of a selector
	KindConsent  Kind = "consent"  // the Consents of one user; the ID is the hash of the subject
	KindAccess   Kind = "access"   // an Access; the ID is a bucket and the hash of the token
	KindCutoff   Kind = "cutoff"   // a Cutoff; the ID is a bucket and a hash of what it voids
	KindJournal  Kind = "journal"  // the Journal of revocations; the ID is a name
	KindClient   Kind = "client"   // an AddedClient, or the block of a described client; the ID is the escaped client ID
	KindDocument Kind = "document" // a Document of a client; the ID is the hash of its URL
	KindDynamic  Kind = "dynamic"  // a client that has registered itself; the ID is the escaped client ID
	KindKeys     Kind = "keys"     // the signing keys, or the key behind the IDs of registrations; the ID is a name
	KindOnce     Kind = "once"     // what must not be used twice, see Once; the ID is a bucket and a hash
	KindDevice   Kind = "device"   // a Device; the ID is a bucket and the hash of the device code
	KindUserCode Kind = "usercode" // a UserCode; the ID is a bucket and the hash of the user code
	KindSession  Kind = "session"  // the Sessions of one user, or whose a session is; the ID is a hash
	KindLogout   Kind = "logout"   // a Logout that is not done yet; the ID is a bucket and random
	KindPushed   Kind = "pushed"   // a Pushed; the ID is a bucket and the hash of its reference
	KindInitial  Kind = "initial"  // the InitialUses of a token; the ID is a hash
	KindChange   Kind = "change"   // a marker, overwritten whenever a node has changed clients or keys
)

// Key names a record.
type Key struct {
	Kind Kind

	// ID is the hex of a hash, or an escaped name (see HashID and EscapeID), never a token. It may begin with a Bucket and a
	// dot, so that a store can file records by expiry.
	ID string
}

const maxIDLength = 128

// Check returns an error unless the key can safely name a file, a directory or a key of any backend: the kind and the ID consist of
// lower-case letters, digits, '-', '_', '=' and, neither first nor last, '.', and are 1 to 128 bytes long.
func (k Key) Check() error {
	if !safeName(k.ID) {
		return fmt.Errorf("storage: unsafe key %.140q of kind %.140q", k.ID, string(k.Kind))
	}
	return k.Kind.Check()
}

// Check is [Key.Check] for the kind alone.
func (k Kind) Check() error {
	if !safeName(string(k)) {
		return fmt.Errorf("storage: unsafe kind %.140q", string(k))
	}
	return nil
}

func safeName(s string) bool {
	// Windows drops a dot at the end of a file name, so two keys would name one file.
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

// HashID returns an ID for a value that is secret, long or of any characters: 128 bits of its SHA-256 in hex.
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

// EscapeID returns an ID for a name that people should recognize in the backend. Bytes that are not allowed become '=' and two hex
// digits. If the result is too long, it is a hash instead. Different names have different IDs.
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

// hash returns the SHA-256 of a code or token, for a record.
func hash(token string) []byte {
	sum := hashOf(token)
	return sum[:]
}

// hashOf returns the SHA-256 of the concatenated texts. It copies them to the stack, because converting them would allocate.
func hashOf(texts ...string) [sha256.Size]byte {
	var buffer [256]byte // two tokens of the greatest length
	whole := buffer[:0]
	for _, text := range texts {
		whole = append(whole, text...)
	}
	return sha256.Sum256(whole)
}

// matches reports whether token has that hash. An empty hash matches no token.
func matches(token string, hashed []byte) bool {
	sum := hashOf(token)
	return subtle.ConstantTimeCompare(sum[:], hashed) == 1
}
