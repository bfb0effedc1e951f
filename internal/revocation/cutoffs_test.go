package revocation

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

var start = time.Now().Truncate(time.Hour)

// testStore counts what is read, and lists IDs of records that have expired.
type testStore struct {
	storage.Store

	expired []string
	reads   atomic.Int64
}

func (s *testStore) List(ctx context.Context, kind storage.Kind) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, id := range s.expired {
			if !yield(id, nil) {
				return
			}
		}
		s.Store.List(ctx, kind)(yield)
	}
}

func (s *testStore) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	s.reads.Add(1)
	return s.Store.Get(ctx, key)
}

// newNode returns the cutoffs of a node, whose clock the returned function moves.
func newNode(store storage.Store, broadcast *Broadcast) (*Cutoffs, func(time.Duration)) {
	now := start
	c := New(Config{
		Issuer: "default", Store: store, Broadcast: broadcast, Logger: zap.NewNop(), Now: func() time.Time { return now },
	})
	return c, func(d time.Duration) { now = now.Add(d) }
}

func add(tb testing.TB, c *Cutoffs, cutoff *storage.Cutoff) {
	tb.Helper()
	if err := c.Add(tb.Context(), cutoff); err != nil {
		tb.Fatal(err)
	}
}

func poll(tb testing.TB, c *Cutoffs) {
	tb.Helper()
	if err := c.Poll(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

// However many revocations are in force, a poll reads the new ones only, and one that has expired once.
func TestPollReadsOnce(t *testing.T) {
	store := &testStore{Store: memory.New()}
	store.expired = []string{(&storage.Cutoff{Family: "expired", Expires: start.Add(-time.Minute)}).Key().ID}
	writer, _ := newNode(store.Store, NewBroadcast())
	for n := range 50 {
		add(t, writer, &storage.Cutoff{Token: fmt.Sprint(n), Before: start, Expires: start.Add(2 * time.Hour)})
	}
	reader, advance := newNode(store, NewBroadcast())
	for range 3 {
		poll(t, reader)
	}
	if reads, inForce := store.reads.Load(), reader.Count(); reads != 51 || inForce != 50 {
		t.Errorf("3 polls have read %d records and found %d, want 51 and 50", reads, inForce)
	}
	advance(100 * 365 * 24 * time.Hour) // the store goes on listing them
	poll(t, reader)
	if reads, inForce := store.reads.Load(), reader.Count(); reads != 51 || inForce != 0 {
		t.Errorf("after their end %d are in force, after %d reads", inForce, reads)
	}
	if reader.VoidsToken(Token{ID: "7"}) {
		t.Error("a cutoff that has expired is in force")
	}
}

// A user who disconnects an app again and again within a second leaves one record.
func TestSameRevocationIsSameRecord(t *testing.T) {
	store := memory.New()
	broadcast := NewBroadcast()
	var adding sync.WaitGroup
	for range 4 { // nodes
		c, _ := newNode(store, broadcast)
		for n := range 20 {
			adding.Go(func() {
				at := start.Add(time.Duration(n) * time.Millisecond)
				add(t, c, &storage.Cutoff{Subject: "alice", Client: "app", Before: at, Expires: at.Add(30 * 24 * time.Hour)})
			})
		}
	}
	adding.Wait()
	c, _ := newNode(store, broadcast)
	poll(t, c)
	if n := c.Count(); n != 1 {
		t.Errorf("80 equal revocations left %d records", n)
	}
	if !c.Voids("alice", "app", start) || c.Voids("alice", "other", start) || c.Voids("bob", "app", start) {
		t.Error("the cutoff voids something else than it says")
	}
}

// What is added or received during a load stays, and what the store lists no more goes.
func TestMerge(t *testing.T) {
	store := memory.New()
	broadcast := NewBroadcast()
	a, _ := newNode(store, broadcast)
	b, _ := newNode(store, broadcast)
	defer broadcast.Join(a)()
	defer broadcast.Join(b)()
	gone := &storage.Cutoff{Family: "gone"}
	add(t, a, gone)
	if !b.VoidsToken(Token{Family: "gone"}) {
		t.Fatal("the other server does not know of it")
	}
	before := b.ids()
	add(t, a, &storage.Cutoff{Family: "during the load"})
	b.merge(before, map[string]bool{}, nil)
	if b.Knows(gone.Key().ID) || !b.VoidsToken(Token{Family: "during the load"}) || b.Count() != 1 {
		t.Errorf("%d are in force after the load", b.Count())
	}
}

// A token costs the same with no revocation in force and with 100,000, and so does one revocation more.
func BenchmarkCutoffs(b *testing.B) {
	for _, inForce := range []int{0, 100_000} {
		c, _ := newNode(memory.New(), NewBroadcast())
		for n := range inForce {
			add(b, c, &storage.Cutoff{Subject: fmt.Sprint("user", n), Before: start})
		}
		poll(b, c)
		b.Run(fmt.Sprintf("check/%d", inForce), func(b *testing.B) {
			token := Token{ID: "jti", Family: "family", Subject: "alice", Client: "app", Issued: start}
			for b.Loop() {
				if c.VoidsToken(token) {
					b.Fatal("void")
				}
			}
		})
		b.Run(fmt.Sprintf("add/%d", inForce), func(b *testing.B) {
			n := 0
			for b.Loop() {
				n++
				add(b, c, &storage.Cutoff{Token: fmt.Sprint("token", n), Before: start})
			}
		})
	}
}
