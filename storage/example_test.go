package storage_test

import (
	"context"
	"fmt"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

func ExampleStore() {
	ctx, store := context.Background(), memory.New()
	key := storage.Key{Kind: "counter", ID: storage.EscapeID("visits")}

	// Put is for a key that nobody else knows yet.
	if err := store.Put(ctx, key, []byte("1"), time.Now().Add(time.Hour)); err != nil {
		fmt.Println(err)
	}

	// Update decides on the stored value. Here it is a compare-and-set: if another process has changed the record, it keeps that.
	swap := func(from, to string) error {
		return store.Update(ctx, key, func(old []byte) ([]byte, time.Time, error) {
			if string(old) != from {
				return nil, time.Time{}, storage.ErrKeep
			}
			return []byte(to), time.Now().Add(time.Hour), nil
		})
	}
	if err := swap("1", "2"); err != nil {
		fmt.Println(err)
	}
	if err := swap("1", "3"); err != nil { // the value is no longer 1
		fmt.Println(err)
	}

	value, err := store.Get(ctx, key)
	fmt.Println(string(value), err)
	_, err = store.Get(ctx, storage.Key{Kind: "counter", ID: "unknown"})
	fmt.Println(err)
	// Output:
	// 2 <nil>
	// no such record
}
