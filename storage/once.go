package storage

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

var usedOnce = []byte("used")

// Once reports whether nobody has used a value before, and notes that it is used. Of many callers at once, on any nodes, exactly
// one is the first. values name what is used: its purpose, then who uses it, then what, such as the jti of a JWT.
//
// The note is kept until expires, and the caller must refuse the value after that. So that a stranger cannot fill the store, check
// whatever else there is to check before, such as a signature.
func Once(ctx context.Context, store Store, expires time.Time, values ...string) (first bool, err error) {
	end := expires.Truncate(time.Second).Add(time.Second) // a store may round; the note must not end before the value does
	key := Key{Kind: KindOnce, ID: bucketID(string(BucketFor(end)), strings.Join(values, "\x00"))}
	err = store.Update(ctx, key, func(old []byte) ([]byte, time.Time, error) {
		first = old == nil
		if !first {
			return nil, time.Time{}, ErrKeep
		}
		return usedOnce, end, nil
	})
	return first && err == nil, err
}

// InitialUses are the uses of an initial access token (RFC 7591 §3) that only so many clients can register with.
type InitialUses struct {
	// Clients are the IDs of the clients that have registered with it, whether they still exist or not.
	Clients []string `json:"clients"`
}

// InitialUsesKey returns the key of the uses of the token with this hash.
func InitialUsesKey(hash string) Key { return Key{Kind: KindInitial, ID: HashID(hash)} }

// Add adds a client unless there are already most clients. It reports whether the client is in the list now, and so may register.
func (u *InitialUses) Add(client string, most int) bool {
	if slices.Contains(u.Clients, client) {
		return true
	}
	if len(u.Clients) >= most {
		return false
	}
	u.Clients = append(u.Clients, client)
	return true
}

// Remove takes the use of a client back that has not registered after all.
func (u *InitialUses) Remove(client string) {
	u.Clients = slices.DeleteFunc(u.Clients, func(id string) bool { return id == client })
}

// Encode returns the record.
func (u *InitialUses) Encode() ([]byte, error) { return json.Marshal(u) }

// DecodeInitialUses reads a record.
func DecodeInitialUses(record []byte) (*InitialUses, error) {
	u := new(InitialUses)
	if err := decodeJSON("uses of an initial access token", record, u); err != nil {
		return nil, err
	}
	return u, nil
}
