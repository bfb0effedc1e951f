package registration

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

const confidential = `{"redirect_uris":["https://a.example/cb"]}`

// R8: of many clients at once, at two nodes, as many get in as the token has uses.
func TestInitialTokenIsUsedUp(t *testing.T) {
	s := newStore()
	token := &InitialToken{Hash: clients.HashSecret("token"), Uses: 5}
	nodes := []*Registrations{s.node(), s.node()}
	var registered, refused atomic.Int64
	var wait sync.WaitGroup
	for n := range 20 {
		wait.Go(func() {
			_, err := nodes[n%2].Register(t.Context(), metadata(t, confidential), token, admitted)
			if used, ok := errors.AsType[*UsedUpError](err); ok && used.Uses == 5 {
				refused.Add(1)
			} else if err != nil {
				t.Error(err)
			} else {
				registered.Add(1)
			}
		})
	}
	wait.Wait()
	if registered.Load() != 5 || refused.Load() != 15 || s.Count(t, storage.KindDynamic) != 5 {
		t.Errorf("%d registered, %d refused, %d records", registered.Load(), refused.Load(), s.Count(t, storage.KindDynamic))
	}
	// The owner allows one more, and another token is another matter.
	for _, token := range []*InitialToken{{Hash: token.Hash, Uses: 6}, {Hash: clients.HashSecret("other"), Uses: 1}, {Hash: token.Hash}, nil} {
		if _, err := s.node().Register(t.Context(), metadata(t, confidential), token, admitted); err != nil {
			t.Errorf("%+v: %v", token, err)
		}
	}
}

// A use is for one client: one that registers the same again needs no other, and one that is deleted gives none back.
func TestInitialTokenUses(t *testing.T) {
	s := newStore()
	r, token := s.node(), &InitialToken{Hash: clients.HashSecret("token"), Uses: 2}
	add := func(text string) (*Registered, error) {
		return r.Register(t.Context(), metadata(t, text), token, admitted)
	}
	for range 3 {
		if _, err := add(public("https://a.example/cb")); err != nil {
			t.Fatal(err)
		}
	}
	second, err := add(confidential)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Delete(t.Context(), second.ID); err != nil {
		t.Fatal(err)
	}
	var used *UsedUpError
	if _, err := add(confidential); !errors.As(err, &used) {
		t.Errorf("a third client: %v", err)
	}
	s.clock.Advance(2 * day) // the first was never used, so its registration is gone
	if _, err := add(public("https://a.example/cb")); err != nil {
		t.Errorf("the first client again: %v", err)
	}
}

// failing is a store that fails to write registrations.
type failing struct {
	storage.Store
	keeps bool         // it has written them all the same
	dead  *atomic.Bool // nil: only that write fails; otherwise all after it do too
}

var errFailing = errors.New("the store is away")

func (f failing) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	if f.dead != nil && f.dead.Load() {
		return nil, errFailing
	}
	return f.Store.Get(ctx, key)
}

func (f failing) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	if key.Kind != storage.KindDynamic {
		return f.Store.Update(ctx, key, change)
	}
	if f.dead != nil {
		f.dead.Store(true)
	}
	if f.keeps {
		if err := f.Store.Update(ctx, key, change); err != nil {
			return err
		}
	}
	return errFailing
}

// An outage of the store does not use a token up, unless the client is registered, or may be.
func TestInitialTokenAfterAnOutage(t *testing.T) {
	for name, keeps := range map[string]bool{"not registered": false, "registered all the same": true} {
		t.Run(name, func(t *testing.T) {
			s := newStore()
			token := &InitialToken{Hash: clients.HashSecret("token"), Uses: 1}
			fails := s.node(func(c *Config) { c.Store = failing{Store: s, keeps: keeps} })
			if _, err := fails.Register(t.Context(), metadata(t, confidential), token, admitted); !errors.Is(err, errFailing) {
				t.Fatal(err)
			}
			_, err := s.node().Register(t.Context(), metadata(t, confidential), token, admitted)
			if _, used := errors.AsType[*UsedUpError](err); used != keeps || err != nil && !used {
				t.Errorf("the next client: %v", err)
			}
			if s.Count(t, storage.KindDynamic) != 1 {
				t.Errorf("%d clients", s.Count(t, storage.KindDynamic))
			}
		})
	}
}

// A crash between the use and the registration lets nobody else in, and the same client can try again.
func TestInitialTokenAfterACrash(t *testing.T) {
	s := newStore()
	token := &InitialToken{Hash: clients.HashSecret("token"), Uses: 1}
	crashes := s.node(func(c *Config) { c.Store = failing{Store: s, dead: new(atomic.Bool)} })
	if _, err := crashes.Register(t.Context(), metadata(t, public("https://a.example/cb")), token, admitted); !errors.Is(err, errFailing) {
		t.Fatal(err)
	}
	var used *UsedUpError
	if _, err := s.node().Register(t.Context(), metadata(t, confidential), token, admitted); !errors.As(err, &used) {
		t.Errorf("another client: %v", err)
	}
	if _, err := s.node().Register(t.Context(), metadata(t, public("https://a.example/cb")), token, admitted); err != nil {
		t.Errorf("the same client: %v", err)
	}
}
