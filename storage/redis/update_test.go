package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

var aFamily = storage.Key{Kind: storage.KindFamily, ID: "zzzz.0123456789abcdef0123456789abcdef"}

// to returns a change to a value that expires in an hour.
func to(value string) storage.Change {
	return func([]byte) ([]byte, time.Time, error) { return []byte(value), time.Now().Add(time.Hour), nil }
}

// openStore opens a store with its own connection and cache, as another process would.
func openStore(tb testing.TB, issuer string, addresses ...string) *store {
	tb.Helper()
	opened, err := open(&Redis{Addresses: addresses}, issuer)
	if err != nil {
		tb.Fatal(err)
	}
	s := opened.(*store)
	tb.Cleanup(func() { _ = s.Destruct() })
	return s
}

func noError(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func wantValue(tb testing.TB, s storage.Store, key storage.Key, want string) {
	tb.Helper()
	got, err := s.Get(tb.Context(), key)
	if err != nil || string(got) != want {
		tb.Errorf("got %q and error %v, want %q", got, err, want)
	}
}

// If another process has changed a cached record, a decision on the cached value does not count.
func TestUpdateDoesNotBelieveWhatItRemembers(t *testing.T) {
	server := startServer(t)
	ctx := t.Context()
	one, two := openStore(t, "i", server.address), openStore(t, "i", server.address)
	refusal := errors.New("refused")
	for name, c := range map[string]struct {
		refusal error // on the old value
		wantErr error
		want    string
	}{
		"keeps it":   {storage.ErrKeep, nil, "new, seen"},
		"refuses it": {refusal, nil, "new, seen"},
		"writes it":  {nil, nil, "new, seen"},
	} {
		t.Run(name, func(t *testing.T) {
			noError(t, one.Update(ctx, aFamily, to("old")))
			noError(t, two.Update(ctx, aFamily, to("new")))
			var seen []string
			err := one.Update(ctx, aFamily, func(old []byte) ([]byte, time.Time, error) {
				seen = append(seen, string(old))
				if string(old) == "old" {
					return []byte("on the old value"), time.Time{}, c.refusal
				}
				return append(old, ", seen"...), time.Time{}, nil
			})
			if err != c.wantErr { //nolint:errorlint // the same error, not one that wraps it
				t.Errorf("got error %v, want %v", err, c.wantErr)
			}
			if fmt.Sprint(seen) != "[old new]" {
				t.Errorf("the change saw %q, want the value it remembers and then the real one", seen)
			}
			wantValue(t, two, aFamily, c.want)
		})
	}

	t.Run("it was deleted", func(t *testing.T) {
		noError(t, one.Update(ctx, aFamily, to("old")))
		noError(t, two.Delete(ctx, aFamily))
		err := one.Update(ctx, aFamily, func(old []byte) ([]byte, time.Time, error) {
			if old == nil {
				return nil, time.Time{}, refusal
			}
			return append(old, " and so on"...), time.Time{}, nil
		})
		if !errors.Is(err, refusal) {
			t.Errorf("got error %v, want the refusal of a missing record", err)
		}
		if _, err := one.Get(ctx, aFamily); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("a deleted record is back: %v", err)
		}
	})

	t.Run("it was written with the same value", func(t *testing.T) {
		noError(t, one.Update(ctx, aFamily, to("same")))
		noError(t, two.Update(ctx, aFamily, to("other")))
		noError(t, two.Update(ctx, aFamily, to("same")))
		runs := 0
		noError(t, one.Update(ctx, aFamily, func(old []byte) ([]byte, time.Time, error) {
			runs++
			return append(old, "!"...), time.Time{}, nil
		}))
		if runs != 2 {
			t.Errorf("the change ran %d times, want 2, since the record is not the cached one", runs)
		}
		wantValue(t, two, aFamily, "same!")
	})

	t.Run("it has expired", func(t *testing.T) {
		noError(t, one.Update(ctx, aFamily, func([]byte) ([]byte, time.Time, error) {
			return []byte("short"), time.Now().Add(20 * time.Millisecond), nil
		}))
		// The record expires by the clock of Redis, while this process still caches it.
		one.cache.put(one.keys(aFamily)[0], newRecord([]byte("short"), never))
		eventually(t, "the record has expired", func() bool {
			_, err := two.Get(ctx, aFamily)
			return errors.Is(err, storage.ErrNotFound)
		})
		err := one.Update(ctx, aFamily, func(old []byte) ([]byte, time.Time, error) {
			if old == nil {
				return nil, time.Time{}, refusal
			}
			return nil, time.Time{}, storage.ErrKeep
		})
		if !errors.Is(err, refusal) {
			t.Errorf("got error %v, want the refusal of a missing record", err)
		}
	})
}

// Two processes that both cache a record update it in turn and at the same time. No update is lost.
func TestUpdateLosesNothing(t *testing.T) {
	server := startServer(t)
	ctx := t.Context()
	stores := []*store{openStore(t, "i", server.address), openStore(t, "i", server.address)}
	count := func(s *store) error {
		return s.Update(ctx, aFamily, func(old []byte) ([]byte, time.Time, error) {
			n := 0
			if old != nil {
				var err error
				if n, err = strconv.Atoi(string(old)); err != nil {
					return nil, time.Time{}, err
				}
			}
			return []byte(strconv.Itoa(n + 1)), time.Time{}, nil
		})
	}
	for i := range 100 {
		noError(t, count(stores[i%2]))
	}
	wantValue(t, stores[0], aFamily, "100")
	var counting sync.WaitGroup
	for i := range 8 {
		counting.Go(func() {
			for range 50 {
				if err := count(stores[i%2]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	counting.Wait()
	wantValue(t, stores[1], aFamily, "500")
}

// If the answer to a write is lost, the store finds out what was written, and returns an error if it cannot.
func TestUpdateWhoseAnswerIsLost(t *testing.T) {
	server := startServer(t)
	ctx := t.Context()
	p := startProxy(t, server.address)
	over, direct := openStore(t, "i", p.address), openStore(t, "i", server.address)
	few := storage.Key{Kind: "few", ID: "id"}
	for _, key := range []storage.Key{aFamily, few} {
		t.Run(string(key.Kind), func(t *testing.T) {
			update := func(after func(), change storage.Change) (runs int, err error) {
				noError(t, over.Update(ctx, key, to("before")))
				err = over.Update(ctx, key, func(old []byte) ([]byte, time.Time, error) {
					runs++
					p.lose.Store(&after) // loses the answer to the next write
					return change(old)
				})
				if p.lose.Load() != nil {
					t.Fatal("no answer was lost")
				}
				return runs, err
			}
			none := func() {}

			if runs, err := update(none, to("after")); err != nil || runs != 1 {
				t.Errorf("a write: %d runs and error %v, want one and none", runs, err)
			}
			wantValue(t, direct, key, "after")

			remove := func([]byte) ([]byte, time.Time, error) { return nil, time.Time{}, nil }
			if runs, err := update(none, remove); err != nil || runs != 1 {
				t.Errorf("a deletion: %d runs and error %v, want one and none", runs, err)
			}
			if _, err := direct.Get(ctx, key); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("after a deletion: %v", err)
			}

			other := func() {
				if err := direct.Update(context.WithoutCancel(ctx), key, to("of another")); err != nil {
					t.Error(err)
				}
			}
			if runs, err := update(other, to("after")); !errors.Is(err, errUncertain) || runs != 1 {
				t.Errorf("another wrote meanwhile: %d runs and error %v, want one and %v", runs, err, errUncertain)
			}
			wantValue(t, direct, key, "of another")
		})
	}
}
