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

// A family through its life: a code, the refresh token that it is redeemed for, and the token that replaces that one. In a server, each
// step is an Update of the record.
func ExampleFamily() {
	noon := time.Date(2030, time.June, 1, 12, 0, 0, 0, time.UTC)
	family := &storage.Family{
		Client: "notes", Subject: "alice", Started: noon, Ends: noon.AddDate(0, 1, 0),
		Code: &storage.Code{Expires: noon.Add(time.Minute), Offline: true},
	}
	code, key := family.IssueCode()
	found, _ := storage.CodeKey(code)
	fmt.Println("the code leads to the record:", found == key)

	first := family.RedeemCode(code, noon)
	found, _ = storage.RefreshKey(first)
	fmt.Println("the refresh token leads to the same one:", found == key)

	second, err := family.Rotate(first, noon)
	fmt.Println("rotated:", second != first, err)

	// The client has lost the answer and repeats its request.
	const retry = 10 * time.Second
	if family.TokenStatus(first, noon.Add(5*time.Second), retry) == storage.TokenRetryable {
		again, err := family.Successor(first)
		fmt.Println("repeated: the same token:", again == second, err)
	}

	// A minute later, somebody presents the first token again: it was stolen, or the client is broken.
	if family.TokenStatus(first, noon.Add(time.Minute), retry) == storage.TokenReused {
		family.Revoke("reuse detected", noon.Add(time.Minute))
		fmt.Println("revoked:", family.Reason)
	}
	fmt.Println("the second token is worth nothing:", family.TokenStatus(second, noon.Add(time.Minute), retry) == storage.TokenUnknown)
	// Output:
	// the code leads to the record: true
	// the refresh token leads to the same one: true
	// rotated: true <nil>
	// repeated: the same token: true <nil>
	// revoked: reuse detected
	// the second token is worth nothing: true
}

func ExampleOnce() {
	ctx, store := context.Background(), memory.New()
	expires := time.Now().Add(time.Minute) // of the JWT
	for range 2 {
		first, err := storage.Once(ctx, store, expires, "client_assertion", "billing", "jti-1")
		fmt.Println(first, err)
	}
	// Output:
	// true <nil>
	// false <nil>
}

// The store below sees where a record is, and not what it says.
func ExampleEncrypted() {
	ctx, below := context.Background(), memory.New()
	keys, err := storage.NewEncryptionKeys([]string{"dGhpcyBpcyBhbiBleGFtcGxlLCBub3QgYSByZWFsIGtleSEhIQ=="}, false)
	if err != nil {
		fmt.Println(err)
		return
	}
	store := storage.Encrypted(below, "https://example.com", keys)
	key := storage.Key{Kind: "counter", ID: storage.EscapeID("visits")}
	if err := store.Put(ctx, key, []byte("1"), time.Time{}); err != nil {
		fmt.Println(err)
	}

	value, err := store.Get(ctx, key)
	fmt.Println(string(value), err)
	raw, err := below.Get(ctx, key)
	fmt.Println(string(raw) == "1", err)
	// Output:
	// 1 <nil>
	// false <nil>
}
