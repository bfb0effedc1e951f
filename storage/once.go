package storage

import (
	"context"
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
