// Package storage defines what an authorization server must remember, and where: records, such as a [Family] of tokens, in a
// [Store].
//
// To write a store, read [Store] and its [Key], implement [Opener] in a Caddy module in the namespace oauth.stores, and run the
// suite in package storetest. Package memory is the shortest example. A store may do more than Store asks; the interfaces for
// that are [Sweeper], [Exporter], [Watcher] and [Slow], and [As] finds them.
//
// The records are:
//
//   - of tokens: [Family] (a code and the refresh tokens that come of it), [Access] (an opaque access token), [Device] and [UserCode] (an
//     authorization of another device), [Pushed] (a request that a client has pushed)
//   - of revocations: [Cutoff], a record for each, and [Journal], with the latest
//   - of clients: [AddedClient] (by the owner, at run time), [Document] (of its website), [InitialUses] (of a token to register with)
//   - of people: [Consents], [Sessions] (where a user has signed in), [Logout] (what a logout still has to do)
//   - of what must not be used twice: see [Once]
//
// Records and their keys have only hashes of codes, access tokens and refresh tokens (key.go). The exception is a refresh token that a
// client may ask for once more: it is encrypted with a key from the token or the device code before it, which no record has.
//
// The keys that sign (internal/keyring) and the clients that register themselves (internal/registration) are records of the packages
// that make them. [Encrypted] encrypts all of them at rest, with [EncryptionKeys].
package storage

import (
	"context"
	"errors"
	"iter"
	"time"
)

// Store keeps records until they expire. It is safe for concurrent use, also by several processes that share the backend. An
// expired record is absent, even if it still occupies space.
//
// Every method returns when ctx ends; a store that cannot promise that implements [Slow]. A key that fails [Key.Check] is an error
// and has no effect. A zero expires means never.
type Store interface {
	// Get returns the record at key, or ErrNotFound. The caller owns the bytes.
	Get(ctx context.Context, key Key) ([]byte, error)

	// Put writes a record without reading the old one. Use it only with a key that nobody else can know, such as a new
	// random one. When it returns nil, the record survives a crash as well as the backend can promise.
	Put(ctx context.Context, key Key, value []byte, expires time.Time) error

	// Update is the only way to make a decision that depends on the stored record. It is atomic across all processes that
	// share the backend. If change returns an error, Update writes nothing and returns that error unchanged. A written
	// record is as durable as with Put.
	//
	// To follow a request through the code, read change next: whatever store is below, that is where the decision is.
	Update(ctx context.Context, key Key, change Change) error

	// Delete removes the record at key. An absent record is no error.
	Delete(ctx context.Context, key Key) error

	// List yields the IDs of the live records of a kind, in no order. It may also yield some that have expired; Get tells.
	// A record that is written or deleted while the listing runs may or may not be in it. An error ends the listing.
	List(ctx context.Context, kind Kind) iter.Seq2[string, error]
}

// Change decides what becomes of a record. It gets the current value, nil if there is none, and returns the next value and when
// that expires. A nil value deletes the record. With [ErrKeep], the record stays as it is and Update returns nil.
//
// A Change may run again if another process was faster, so its results must be its only effect. It runs under a lock, so it
// must not call the store. It may keep and modify old.
type Change func(old []byte) (value []byte, expires time.Time, err error)

var (
	// ErrNotFound says that a record is absent or expired.
	ErrNotFound = errors.New("no such record")

	// ErrReadOnly says that nothing may be written to the store now. It is no failure of the store.
	ErrReadOnly = errors.New("the store is read-only")

	// ErrTimeout says that a caller waited for another one's answer from the store until its own time was over.
	ErrTimeout = errors.New("no answer from the store in time")

	// ErrDamaged says that a record exists but is unreadable, as after a power failure. It stays so until it is deleted or
	// overwritten.
	ErrDamaged = errors.New("damaged record")

	// ErrKeep is what a Change returns to leave the record as it is.
	ErrKeep = errors.New("keep the record as it is")
)

// Opener is implemented by a Caddy module in the namespace oauth.stores.
type Opener interface {
	// Open returns the store with the records of the named issuer, and no other's. Opening the same name again, in this
	// process or another, gives the same records. It must leave no trace in the backend until a record is written.
	Open(issuer string) (Store, error)
}

// Sweeper is implemented by a Store that does not remove expired records by itself.
type Sweeper interface {
	// Sweep removes expired records. Every node may call it at any time; nodes that share a backend take turns, so most
	// calls return at once. It never delays a request.
	Sweep(ctx context.Context) error
}

// Record is a record with its key and expiry.
type Record struct {
	Key     Key
	Value   []byte
	Expires time.Time // to the millisecond; zero: never
}

// Exporter is implemented by a Store that can list all its records, to move them to another store.
type Exporter interface {
	// Export yields the live records of every kind in no order, but not those the store writes for itself. A record that
	// changes meanwhile is yielded as it was at some moment, perhaps more than once. An error ends the iteration, unless it
	// wraps ErrDamaged: then it is about the record whose Key comes with it.
	Export(ctx context.Context) iter.Seq2[Record, error]

	// Look is Get with the expiry.
	Look(ctx context.Context, key Key) (Record, error)
}

// Watcher is implemented by a Store that can report at once what any process writes.
type Watcher interface {
	// Watch calls changed with the ID of a record of a kind soon after any process, this one included, has written or deleted
	// the record, until ctx ends. It calls changed with "" when it may have missed changes: at the beginning, and after each
	// failure. It may also miss changes without noticing, so the caller has to poll from time to time nevertheless. changed is
	// never called concurrently, and must return soon.
	//
	// Watch returns the error of ctx, or at once another error for a kind that it cannot watch.
	Watch(ctx context.Context, kind Kind, changed func(id string)) error
}

// Slow is implemented by a Store that may not return when a context ends, as a disk may not, or that needs more or less time
// than others. The caller runs its operations in goroutines, and abandons one that takes too long.
type Slow interface {
	// Timeout returns how long a request may wait for the store, all operations together. 0 is for a store that is only
	// memory of this process and never makes anybody wait.
	Timeout() time.Duration
}

// Expired reports whether a record that expires at that time is absent now. A zero expires means never.
func Expired(expires, now time.Time) bool {
	return !expires.IsZero() && !now.Before(expires)
}

// maxExpiryMillis is the largest number of 15 digits: a store may write an expiry in a field of that width.
const maxExpiryMillis = 999_999_999_999_999

// ExpiryMillis returns an expiry as stores write it: in milliseconds since 1970, at most 15 digits, 0 for never.
func ExpiryMillis(expires time.Time) int64 {
	if expires.IsZero() {
		return 0
	}
	// Rounded up, because a record must not vanish before its time, and never down to 0, which means never.
	return min(max(expires.Add(time.Millisecond-1).UnixMilli(), 1), maxExpiryMillis)
}

// ExpiryFromMillis returns the expiry that ExpiryMillis wrote.
func ExpiryFromMillis(millis int64) time.Time {
	if millis == 0 {
		return time.Time{}
	}
	return time.UnixMilli(millis)
}

// As returns what a store can do beyond [Store], such as being a [Sweeper], and false if it cannot. A store that wraps another
// one has a method Unwrap that returns it, and can do what that one can.
func As[T any](store Store) (extension T, ok bool) {
	for {
		if extension, ok = store.(T); ok {
			return extension, true
		}
		wrapper, ok := store.(interface{ Unwrap() Store })
		if !ok {
			return extension, false
		}
		store = wrapper.Unwrap()
	}
}
