package revocation

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

var start = time.Now().Truncate(time.Second)

// testStore counts what is asked of it, lists IDs of records that have expired, and can fail.
type testStore struct {
	storage.Store

	expired     []string
	reads       atomic.Int64 // of cutoffs
	asked       atomic.Int64 // operations of any kind
	failWrite   error        // of records of cutoffs
	failJournal error        // of changes of the journal
}

func (s *testStore) List(ctx context.Context, kind storage.Kind) iter.Seq2[string, error] {
	s.asked.Add(1)
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
	s.asked.Add(1)
	if key.Kind == storage.KindCutoff {
		s.reads.Add(1)
	}
	return s.Store.Get(ctx, key)
}

func (s *testStore) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	if s.failWrite != nil {
		return s.failWrite
	}
	return s.Store.Put(ctx, key, value, expires)
}

func (s *testStore) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	switch {
	case key == storage.JournalKey && s.failJournal != nil:
		return s.failJournal
	case key.Kind == storage.KindCutoff && s.failWrite != nil:
		return s.failWrite
	}
	return s.Store.Update(ctx, key, change)
}

var month = storage.Lifetimes{AccessToken: time.Hour, Family: 30 * 24 * time.Hour}

// node is a node with a clock of its own.
type node struct {
	*Cutoffs
	now *atomic.Pointer[time.Time]
}

func newNode(tb testing.TB, store storage.Store, lifetimes ...storage.Lifetimes) *node {
	tb.Helper()
	n := &node{now: new(atomic.Pointer[time.Time])}
	n.now.Store(&start)
	own := month
	if len(lifetimes) > 0 {
		own = lifetimes[0]
	}
	n.Cutoffs = New(Config{
		Issuer: "default", Store: store, Timeout: time.Minute, LocalServers: NewLocalServers(), Logger: zap.NewNop(),
		Now:       func() time.Time { return *n.now.Load() },
		Lifetimes: func(context.Context) (storage.Lifetimes, error) { return own, nil },
	})
	return n
}

func (n *node) advance(d time.Duration) {
	now := n.now.Load().Add(d)
	n.now.Store(&now)
}

func (n *node) add(tb testing.TB, cutoff storage.Cutoff) *storage.Cutoff {
	tb.Helper()
	must(tb, n.Add(tb.Context(), &cutoff))
	return &cutoff
}

func (n *node) poll(tb testing.TB) {
	tb.Helper()
	must(tb, n.Poll(tb.Context()))
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

var alice = storage.Cutoff{Subject: "alice", Client: "app"}

// However many revocations are in force, a poll without new ones reads one record, and one with new ones reads no old one.
func TestPollReadsTheJournal(t *testing.T) {
	store := &testStore{Store: memory.New()}
	writer, reader := newNode(t, store.Store), newNode(t, store)
	writer.poll(t)
	reader.poll(t)
	for n := range 500 {
		writer.add(t, storage.Cutoff{Token: fmt.Sprint(n), Expires: start.Add(2 * time.Hour)})
	}
	reader.poll(t)
	if n := reader.Count(); n != 500 {
		t.Fatalf("%d are in force, want 500", n)
	}
	for range 3 {
		asked := store.asked.Load()
		reader.poll(t)
		if n := store.asked.Load() - asked; n != 1 {
			t.Errorf("a poll without news asks the store %d times", n)
		}
	}
	asked := store.asked.Load()
	writer.add(t, storage.Cutoff{Family: "one more"})
	reader.poll(t)
	if n := store.asked.Load() - asked; n != 1 || !reader.HasFamilyCutoff("one more") {
		t.Errorf("a poll with one new revocation asks the store %d times; it is known: %v", n, reader.HasFamilyCutoff("one more"))
	}
}

// A record is read once, even if the store goes on listing it after its end.
func TestListReadsOnce(t *testing.T) {
	store := &testStore{Store: memory.New()}
	store.expired = []string{(&storage.Cutoff{Family: "expired", Expires: start.Add(-time.Minute)}).Key().ID}
	writer := newNode(t, store.Store)
	for n := range 50 {
		writer.add(t, storage.Cutoff{Token: fmt.Sprint(n), Expires: start.Add(2 * time.Hour)})
	}
	reader := newNode(t, store)
	for range 3 {
		reader.poll(t)
		reader.advance(listInterval)
	}
	// The first list reads all of them, and each list looks again at some, here at all that are in force.
	if reads, inForce := store.reads.Load(), reader.Count(); reads != 51+2*50 || inForce != 50 {
		t.Errorf("3 polls have read %d records and found %d, want 151 and 50", reads, inForce)
	}
	reader.advance(100 * 365 * 24 * time.Hour) // the store goes on listing them
	reader.poll(t)
	if reads, inForce := store.reads.Load(), reader.Count(); reads != 51+2*50 || inForce != 0 {
		t.Errorf("after their end %d are in force, after %d reads", inForce, reads)
	}
	if reader.VoidsToken(Token{ID: "7"}) {
		t.Error("a cutoff that has expired is in force")
	}
}

// A node that dies after it has announced a revocation, and before it has written the record, has revoked nevertheless.
func TestRevocationOfANodeThatDied(t *testing.T) {
	store := memory.New()
	dying, other := &testStore{Store: store}, newNode(t, store)
	other.poll(t)
	dying.failWrite = errors.New("killed")
	if err := newNode(t, dying).Add(t.Context(), &storage.Cutoff{Family: "family"}); err == nil {
		t.Fatal("the failure is not told")
	}
	other.poll(t)
	if !other.HasFamilyCutoff("family") {
		t.Error("another node does not know of it after its poll")
	}
	late := newNode(t, store)
	late.poll(t)
	if !late.HasFamilyCutoff("family") {
		t.Error("a node that starts later does not know of it")
	}
	other.advance(listInterval)
	other.poll(t)
	if n := records(t, store); n != 1 {
		t.Errorf("the store has %d records of it, want 1, which others write", n)
	}
}

// A revocation is announced before its record is written. Its record has not vanished if a node lists the records in between.
func TestAnnouncedRevocationHasNotVanished(t *testing.T) {
	store := memory.New()
	dying, other := &testStore{Store: store}, newNode(t, store)
	core, logged := observer.New(zap.ErrorLevel)
	other.Logger = zap.New(core)
	other.poll(t)
	dying.failWrite = errors.New("killed")
	if err := newNode(t, dying).Add(t.Context(), &storage.Cutoff{Family: "family"}); err == nil {
		t.Fatal("the failure is not told")
	}
	other.poll(t)
	anotherJournal := func() {
		_, err := other.updateJournal(t.Context(), func(j *storage.Journal) error {
			j.ID = "another"
			return nil
		})
		must(t, err)
	}
	anotherJournal() // so that all nodes list the records
	other.poll(t)
	if logged.Len() > 0 || records(t, store) != 1 {
		t.Errorf("%d records, want 1, which others write, and %v in the log", records(t, store), logged.All())
	}
	deleteAll(t, store, storage.KindCutoff)
	other.advance(listInterval)
	other.poll(t)
	if logged.Len() != 1 || records(t, store) != 1 {
		t.Errorf("a record that has vanished: %d records, and %v in the log", records(t, store), logged.All())
	}
}

func records(t *testing.T, store storage.Store) (n int) {
	t.Helper()
	for _, err := range store.List(t.Context(), storage.KindCutoff) {
		must(t, err)
		n++
	}
	return n
}

// A revocation that the store refuses is in force at the node that was asked, and at all others once the store takes it.
func TestRevocationDuringAnOutage(t *testing.T) {
	shared := memory.New()
	for name, fail := range map[string]func(*testStore, error){
		"the journal": func(s *testStore, err error) { s.failJournal = err },
		"the record":  func(s *testStore, err error) { s.failWrite = err },
	} {
		t.Run(name, func(t *testing.T) {
			store := &testStore{Store: shared}
			n, other := newNode(t, store), newNode(t, shared)
			n.poll(t)
			other.poll(t)
			fail(store, errors.New("no space left"))
			if err := n.Add(t.Context(), &storage.Cutoff{Subject: name}); err == nil {
				t.Fatal("the failure is not told")
			}
			if !n.Voids(name, "app", start) {
				t.Error("it is not in force at the node itself")
			}
			if err := n.Poll(t.Context()); err == nil {
				t.Error("the poll does not try again")
			}
			fail(store, nil)
			n.poll(t)
			other.poll(t)
			if !other.Voids(name, "app", start) {
				t.Error("it is not in force at the other node")
			}
		})
	}
}

// A node that is read-only revokes nothing.
func TestReadOnlyRevokesNothing(t *testing.T) {
	store := &testStore{Store: memory.New(), failJournal: storage.ErrReadOnly}
	n := newNode(t, store)
	cutoff := alice
	if err := n.Add(t.Context(), &cutoff); !errors.Is(err, storage.ErrReadOnly) || n.Count() != 0 {
		t.Errorf("got %v, and %d are in force", err, n.Count())
	}
	n.poll(t)
}

// A user who disconnects an app again and again within a second leaves one record.
func TestSameRevocationIsSameRecord(t *testing.T) {
	store := memory.New()
	var adding sync.WaitGroup
	for range 4 {
		n := newNode(t, store)
		for range 20 {
			adding.Go(func() {
				cutoff := alice
				must(t, n.Add(t.Context(), &cutoff))
			})
		}
	}
	adding.Wait()
	n := newNode(t, store)
	n.poll(t)
	if n.Count() != 1 || records(t, store) != 1 {
		t.Errorf("80 equal revocations left %d records, and %d are in force", records(t, store), n.Count())
	}
	if !n.Voids("alice", "app", start) || n.Voids("alice", "other", start) || n.Voids("bob", "app", start) {
		t.Error("the cutoff voids other tokens than its record says")
	}
}

// Of several revocations within a second, the record is that of the last one, also at a node that has read an earlier one.
func TestLastRevocationOfASecondCounts(t *testing.T) {
	store := memory.New()
	a, b := newNode(t, store), newNode(t, store)
	a.add(t, alice)
	b.poll(t)
	a.advance(500 * time.Millisecond)
	began := a.Begin("alice", "app", *a.now.Load())
	if a.Voids("alice", "app", began) {
		t.Fatal("what begins after a revocation is void")
	}
	a.advance(time.Millisecond)
	a.add(t, alice)
	for n := range 50 { // more than the journal has
		a.add(t, storage.Cutoff{Family: fmt.Sprint(n)})
	}
	b.poll(t)
	for name, n := range map[string]*node{"the node that revokes": a, "another node": b, "a node that starts later": newNode(t, store)} {
		n.poll(t)
		if !n.Voids("alice", "app", began) {
			t.Errorf("%s: what began between two revocations is not void", name)
		}
		if again := n.Begin("alice", "app", *a.now.Load()); n.Voids("alice", "app", again) {
			t.Errorf("%s: what begins after both is void", name)
		}
	}
}

// The clocks of nodes differ by some seconds. What began before a revocation is void, whatever its node's clock shows, and what
// begins afterwards is not.
func TestRevocationWithClocksThatDiffer(t *testing.T) {
	for _, ahead := range []time.Duration{-20 * time.Second, -5 * time.Second, 0, 5 * time.Second, 20 * time.Second} {
		t.Run(ahead.String(), func(t *testing.T) {
			store := memory.New()
			revoker, other := newNode(t, store), newNode(t, store)
			revoker.poll(t)
			other.poll(t)
			other.advance(ahead)
			for round := range 5 {
				var began []time.Time
				for _, n := range []*node{revoker, other} {
					must(t, n.Sync(t.Context()))
					began = append(began, n.Begin("alice", "app", *n.now.Load()))
				}
				for _, n := range []*node{revoker, other} {
					n.advance(10 * time.Millisecond)
					for i, at := range began {
						if n.Voids("alice", "app", at) {
							t.Fatalf("round %d: session %d is void before it was revoked", round, i)
						}
					}
				}
				[]*node{revoker, other}[round%2].add(t, alice)
				for _, n := range []*node{revoker, other} {
					n.poll(t)
					for i, at := range began {
						if !n.Voids("alice", "app", at) {
							t.Errorf("round %d: session %d is not void", round, i)
						}
					}
				}
			}
		})
	}
}

// Whatever becomes of the store, a revocation that a node knows stays in force, and comes back to the store and the other nodes.
func TestRevocationsThatVanishFromTheStore(t *testing.T) {
	for name, vanish := range map[string]func(t *testing.T, store storage.Store){
		"all is gone": func(t *testing.T, store storage.Store) {
			t.Helper()
			deleteAll(t, store, storage.KindCutoff)
			deleteAll(t, store, storage.KindJournal)
		},
		"the cutoffs are gone": func(t *testing.T, store storage.Store) { t.Helper(); deleteAll(t, store, storage.KindCutoff) },
	} {
		t.Run(name, func(t *testing.T) {
			store := memory.New()
			n := newNode(t, store)
			n.poll(t)
			n.add(t, storage.Cutoff{Family: "family"})
			n.add(t, alice)
			for i := range 50 { // more than the journal has
				n.add(t, storage.Cutoff{Token: fmt.Sprint(i), Expires: start.Add(time.Hour)})
			}
			n.poll(t)
			vanish(t, store)
			fresh := newNode(t, store) // it knows of nothing
			fresh.poll(t)
			n.advance(listInterval)
			n.poll(t)
			if !n.HasFamilyCutoff("family") || !n.Voids("alice", "app", start) || n.Count() != 52 {
				t.Errorf("the node has forgotten what it knew: %d are in force", n.Count())
			}
			fresh.poll(t)
			if !fresh.HasFamilyCutoff("family") || !fresh.Voids("alice", "app", start) || fresh.Count() != 52 {
				t.Errorf("they are not back: %d are in force at another node", fresh.Count())
			}
		})
	}
}

func deleteAll(t *testing.T, store storage.Store, kind storage.Kind) {
	t.Helper()
	var ids []string
	for id, err := range store.List(t.Context(), kind) {
		must(t, err)
		ids = append(ids, id)
	}
	for _, id := range ids {
		must(t, store.Delete(t.Context(), storage.Key{Kind: kind, ID: id}))
	}
}

// A revocation is kept for the longest lifetime that any node has ever issued tokens with, and a loss of the journal does not
// change that.
func TestRevocationIsKeptForTheLongestLifetime(t *testing.T) {
	short := storage.Lifetimes{AccessToken: time.Minute, Family: 5 * time.Minute}
	forever := storage.Lifetimes{AccessToken: time.Minute, Family: storage.Forever}
	for _, tt := range []struct {
		name   string
		before []storage.Lifetimes // of nodes before, and of another one
		until  time.Duration       // 0: for ever
	}{
		{"a configuration before", []storage.Lifetimes{month}, ClockSkew + month.Family + month.AccessToken},
		{"one without an end", []storage.Lifetimes{month, forever}, 0},
		{"no other", nil, ClockSkew + short.Family + short.AccessToken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store := memory.New()
			for _, l := range tt.before {
				newNode(t, store, l).poll(t)
			}
			n := newNode(t, store, short)
			n.poll(t)
			deleteAll(t, store, storage.KindJournal)
			n.poll(t)
			for _, n := range []*node{n, newNode(t, store, short)} { // the second has not polled
				cutoff := n.add(t, alice)
				if got := cutoff.Expires.Sub(start).Truncate(time.Second); tt.until > 0 && got != tt.until || cutoff.Expires.IsZero() != (tt.until == 0) {
					t.Errorf("it is kept until %v, %s", cutoff.Expires, got)
				}
			}
		})
	}
}

// A node that issues tokens for longer from now on knows of all revocations that are kept for a shorter time.
func TestCoverHearsOfRevocations(t *testing.T) {
	store := memory.New()
	a, b := newNode(t, store), newNode(t, store)
	a.poll(t)
	b.poll(t)
	a.add(t, alice)
	must(t, b.Cover(t.Context(), month))
	if b.Knows("x") || b.Voids("alice", "app", start) {
		t.Fatal("a node that issues for as long as before has asked the store")
	}
	must(t, b.Cover(t.Context(), storage.Lifetimes{AccessToken: 2 * time.Hour}))
	if !b.Voids("alice", "app", start) {
		t.Error("it does not know of the revocation")
	}
	want := storage.Lifetimes{AccessToken: 2 * time.Hour, Family: month.Family}
	if a.poll(t); a.lifetimes() != want || b.lifetimes() != want {
		t.Errorf("%v and %v, want %v", a.lifetimes(), b.lifetimes(), want)
	}
}

// A journal that cannot be read is begun anew, and no revocation is lost.
func TestDamagedJournal(t *testing.T) {
	store := memory.New()
	n, other := newNode(t, store), newNode(t, store)
	n.add(t, alice)
	n.poll(t)
	other.poll(t)
	core, logs := observer.New(zap.ErrorLevel)
	n.Logger = zap.New(core)
	must(t, store.Put(t.Context(), storage.JournalKey, []byte("{"), time.Time{}))
	n.add(t, storage.Cutoff{Family: "family"})
	n.add(t, storage.Cutoff{Family: "another"})
	if lines := logs.FilterMessageSnippet("a new one was begun").Len(); lines != 1 {
		t.Errorf("the log has it %d times", lines)
	}
	for _, reader := range []*node{other, newNode(t, store)} {
		reader.poll(t)
		if !reader.HasFamilyCutoff("family") || !reader.Voids("alice", "app", start) {
			t.Error("a revocation is not known")
		}
	}
}

// A revocation whose record is damaged stays in force where it is known, and is written again. Each damaged record is logged once,
// by its name.
func TestDamagedRevocations(t *testing.T) {
	store := memory.New()
	n := newNode(t, store)
	core, logs := observer.New(zap.ErrorLevel)
	n.Logger = zap.New(core)
	family, user := n.add(t, storage.Cutoff{Family: "family"}), n.add(t, alice)
	n.poll(t)
	for _, key := range []storage.Key{family.Key(), user.Key(), {Kind: storage.KindCutoff, ID: "of-nobody"}} {
		must(t, store.Put(t.Context(), key, []byte("{"), time.Time{}))
	}
	for range 3 {
		n.advance(listInterval)
		n.poll(t)
	}
	if !n.HasFamilyCutoff("family") || !n.Voids("alice", "app", start) {
		t.Error("a revocation is not in force any more")
	}
	for _, key := range []string{"cutoff/" + family.Key().ID, "cutoff/" + user.Key().ID, "cutoff/of-nobody"} {
		if lines := logs.FilterField(zap.String("record", key)).Len(); lines != 1 {
			t.Errorf("the log has %s %d times", key, lines)
		}
	}
	other := newNode(t, store)
	other.poll(t)
	if !other.HasFamilyCutoff("family") || !other.Voids("alice", "app", start) {
		t.Error("a node that starts later does not know a revocation")
	}
}

// What another server of this process revokes is in force here at once.
func TestBroadcast(t *testing.T) {
	store, local := memory.New(), NewLocalServers()
	a, b := newNode(t, store), newNode(t, store)
	a.LocalServers, b.LocalServers = local, local
	defer local.Join(a.Cutoffs)()
	leave := local.Join(b.Cutoffs)
	a.add(t, storage.Cutoff{Family: "one"})
	leave()
	a.add(t, storage.Cutoff{Family: "two"})
	if !b.HasFamilyCutoff("one") || b.HasFamilyCutoff("two") {
		t.Error("it does not know what it should know")
	}
}

// A check, a revocation more and a poll without news cost the same with no revocation in force and with 100,000.
func BenchmarkCutoffs(b *testing.B) {
	for _, inForce := range []int{0, 100_000} {
		store := memory.New()
		n, other := newNode(b, store), newNode(b, store)
		for i := range inForce {
			n.add(b, storage.Cutoff{Subject: fmt.Sprint("user", i)})
		}
		for i := range 50 { // as many as the journal has, and none is in force
			n.add(b, storage.Cutoff{Token: fmt.Sprint("expired", i), Expires: start})
		}
		n.poll(b)
		b.Run(fmt.Sprintf("check/%d", inForce), func(b *testing.B) {
			token := Token{ID: "jti", Family: "family", Subject: "alice", Client: "app", Began: start}
			for b.Loop() {
				if n.VoidsToken(token) {
					b.Fatal("void")
				}
			}
		})
		b.Run(fmt.Sprintf("poll/%d", inForce), func(b *testing.B) {
			for b.Loop() {
				n.poll(b)
			}
		})
		b.Run(fmt.Sprintf("revoke/%d", inForce), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				n.add(b, storage.Cutoff{Token: fmt.Sprint("token", i), Expires: start.Add(time.Hour)})
			}
		})
		other.poll(b)
		b.Run(fmt.Sprintf("revoke and poll elsewhere/%d", inForce), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				n.add(b, storage.Cutoff{Token: fmt.Sprint("another", i), Expires: start.Add(time.Hour)})
				other.poll(b)
			}
		})
	}
}

// The texts of a decoded record are parts of it: a cutoff must not keep the whole record in memory.
func TestCutoffKeepsNoPartsOfRecords(t *testing.T) {
	record := "token alice app"
	subject, client := record[6:11], record[12:]
	n := newNode(t, memory.New())
	n.add(t, storage.Cutoff{Subject: subject, Client: client, Reason: record[:5]})
	for about := range n.index.entries {
		if about.subject != "alice" || about.client != "app" {
			t.Errorf("%+v is in force", about)
		}
		if unsafe.StringData(about.subject) == unsafe.StringData(subject) || unsafe.StringData(about.client) == unsafe.StringData(client) {
			t.Error("the target is a part of the record")
		}
	}
	for _, c := range n.index.known {
		if unsafe.StringData(c.Reason) == unsafe.StringData(record) {
			t.Error("the reason is a part of the record")
		}
	}
	if n.Count() != 1 {
		t.Errorf("%d are in force", n.Count())
	}
}
