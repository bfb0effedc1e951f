// Package storage keeps what an authorization server must remember: families of tokens, consents
// and keys. A [Store] is where; the records are what.
//
// A backend is a Caddy module in the namespace oauth.stores that implements [Opener], and passes
// the suite in package storetest.
package storage

import (
	"context"
	"errors"
	"iter"
	"time"
)

// Store remembers records until they expire. Safe for concurrent use, across processes that share
// the backend. An expired record is absent, whether or not it still takes up space.
//
// Every method gives up when ctx ends. A key that does not pass [Key.Check] is an error and touches
// nothing. A zero expires means never.
type Store interface {
	// Get returns the record at key, or ErrNotFound. The caller owns the bytes.
	Get(ctx context.Context, key Key) ([]byte, error)

	// Put writes a record without looking at what is there. It is only for keys nobody else can
	// know, such as a freshly drawn random one. When it returns nil, the record survives a crash as
	// well as the backend can promise.
	Put(ctx context.Context, key Key, value []byte, expires time.Time) error

	// Update is the only way to decide on what is stored: atomic across every process on this
	// store. It returns the error of change as it is, with nothing written; what it writes is as
	// durable as with Put.
	Update(ctx context.Context, key Key, change Change) error

	// Delete removes the record at key. An absent record is no error.
	Delete(ctx context.Context, key Key) error

	// List yields the IDs of the live records of a kind, in no order, and may yield some whose record has expired: to know,
	// read it. A record that appears or goes while the listing runs may or may not be in it. An error ends the listing.
	List(ctx context.Context, kind Kind) iter.Seq2[string, error]
}

// Change decides what becomes of a record. It sees the current value, nil if absent, and returns
// the next value and when that expires; a nil value deletes the record. Returning [ErrKeep] leaves
// the record as it is, and Update then returns nil; any other error makes Update return it.
//
// It may run again when another process was faster, so it must not act on anything but its results;
// and it runs under a lock, so it must not call the store. It may keep and change old.
type Change func(old []byte) (value []byte, expires time.Time, err error)

var (
	// ErrNotFound says that a record is absent or expired.
	ErrNotFound = errors.New("no such record")

	// ErrReadOnly says that nothing may be written to the store now. It is no failure of the store.
	ErrReadOnly = errors.New("the store is read-only")

	// ErrTimeout says that a caller waited for another one's answer from the store until its own time was over.
	ErrTimeout = errors.New("no answer from the store in time")

	// ErrDamaged says that a record is there but unreadable, as after a power failure. It stays so until it is deleted or
	// overwritten.
	ErrDamaged = errors.New("damaged record")

	// ErrKeep is what a Change returns to leave the record as it is.
	ErrKeep = errors.New("keep the record as it is")
)

// Opener is what a module in the namespace oauth.stores implements.
type Opener interface {
	// Open returns the store that holds the records of the named issuer and no other's. Opening
	// the same name again, in this process or another, gives the same records. It must leave no trace
	// in the backend: a record may be the first thing written there.
	Open(issuer string) (Store, error)
}

// Sweeper is implemented by a Store that does not drop expired records by itself.
type Sweeper interface {
	// Sweep removes what has expired. It may be called at any time and on every node; nodes that
	// share a backend take turns, so most calls return at once. It never holds up a request.
	Sweep(ctx context.Context) error
}

// Record is a record with all that a store knows of it.
type Record struct {
	Key     Key
	Value   []byte
	Expires time.Time // to the millisecond; zero: never
}

// Exporter is implemented by a Store that can tell all it holds, so that it can be moved to another one.
type Exporter interface {
	// Export yields the live records of every kind in no order, but not what the store writes for itself, such as whose
	// turn it is to sweep. A record that changes while that runs is yielded as it was at some moment, and it may be
	// yielded again. An error ends it, but for one that wraps ErrDamaged: it is about the one record whose Key comes
	// with it.
	Export(ctx context.Context) iter.Seq2[Record, error]

	// Look is Get that tells when the record expires, too.
	Look(ctx context.Context, key Key) (Record, error)
}

// Watcher is implemented by a Store that can tell at once what any process writes.
type Watcher interface {
	// Watch calls changed with the ID of a record of a kind soon after any process has written or deleted it, this one
	// included, until ctx ends; with "" where it may have missed some, at first and after each failure it has got
	// over. Some are missed without a word, so that who watches has to look from time to time nevertheless. changed
	// is not called twice at the same time, and must return soon.
	//
	// It returns the error of ctx, or at once another one for a kind that it cannot watch.
	Watch(ctx context.Context, kind Kind, changed func(id string)) error
}

// Slow is implemented by a Store that may not return when a context ends, as a disk may not, or that needs more or less time
// than others. The caller runs its operations in goroutines, and abandons one that takes too long.
type Slow interface {
	// Timeout returns how long a request may wait for the store, all operations together. 0 is for a store that is only
	// memory of this process and never makes anybody wait.
	Timeout() time.Duration
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
