package authserver

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/revocation"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

// notifyingStore is a storage.Watcher that notifies of changes. Tests can make a poll wait.
type notifyingStore struct {
	storage.Store

	mu       sync.Mutex
	watchers map[storage.Kind][]func(string)
	polls    int           // reads of the journal
	hold     chan struct{} // nil: such a read does not wait
}

func newNotifyingStore() *notifyingStore {
	return &notifyingStore{Store: memory.New(), watchers: make(map[storage.Kind][]func(string))}
}

func (s *notifyingStore) Watch(ctx context.Context, kind storage.Kind, changed func(string)) error {
	changed("")
	s.mu.Lock()
	s.watchers[kind] = append(s.watchers[kind], changed)
	s.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

func (s *notifyingStore) tell(kind storage.Kind, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, changed := range s.watchers[kind] {
		changed(id)
	}
}

func (s *notifyingStore) watched(kind storage.Kind) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.watchers[kind])
}

func (s *notifyingStore) polled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.polls
}

func (s *notifyingStore) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	err := s.Store.Put(ctx, key, value, expires)
	s.tell(key.Kind, key.ID)
	return err
}

func (s *notifyingStore) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	err := s.Store.Update(ctx, key, change)
	s.tell(key.Kind, key.ID)
	return err
}

func (s *notifyingStore) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	if key.Kind == storage.KindJournal {
		s.mu.Lock()
		s.polls++
		hold := s.hold
		s.mu.Unlock()
		if hold != nil {
			<-hold
		}
	}
	return s.Store.Get(ctx, key)
}

// twoNodes runs two servers on one store. Each polls only once an hour.
func twoNodes(t *testing.T, store *notifyingStore) (s *testServer, nodes [2]*Server) {
	t.Helper()
	var config Config
	s = newTestServer(t, func(c *Config) {
		c.Store, c.Now, c.RevocationPoll = store, time.Now, time.Hour
		config = *c
	})
	nodes[0] = s.Server
	config.Revocations, config.Throttle = revocation.NewLocalServers(), throttle.New() // as in another process
	s.restart(t, config)
	nodes[1] = s.Server

	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, node := range nodes {
		running.Go(func() { node.Run(ctx) })
	}
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	eventually(t, "both nodes to watch", func() bool {
		return store.watched(storage.KindCutoff) == 2 && store.watched(changeKey.Kind) == 2
	})
	return s, nodes
}

func TestRevocationIsToldToOtherNodes(t *testing.T) {
	s, nodes := twoNodes(t, newNotifyingStore())
	for i := range 3 {
		token := s.tokens(t)["access_token"].(string)
		claims, err := nodes[0].AccessToken(t.Context(), token, jwt.Leeway)
		if err != nil {
			t.Fatal(err)
		}
		if err := nodes[i%2].revoker.RevokeFamily(t.Context(), claims.Family, "test", ""); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the other node to refuse the token", func() bool {
			_, err := nodes[1-i%2].AccessToken(t.Context(), token, jwt.Leeway)
			return errors.Is(err, jwt.ErrRevoked)
		})
	}
}

func TestNewsAreToldToOtherNodes(t *testing.T) {
	_, nodes := twoNodes(t, newNotifyingStore())
	if err := nodes[0].upkeep.marker.set(t.Context()); err != nil {
		t.Fatal(err)
	}
	record, err := nodes[0].store.Get(t.Context(), changeKey)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other node to hear the news", func() bool {
		nodes[1].upkeep.marker.mu.Lock()
		defer nodes[1].upkeep.marker.mu.Unlock()
		return nodes[1].upkeep.marker.value == string(record)
	})
}

// Any number of notifications during a poll lead to one more poll. The writes of this node itself lead to none.
func TestNotificationsDuringAPollLeadToOneMore(t *testing.T) {
	store := newNotifyingStore()
	s := newTestServer(t, func(c *Config) { c.Store, c.Now = store, time.Now })
	if err := s.upkeep.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	store.hold, store.polls = make(chan struct{}), 0
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.upkeep.watch(ctx) })
	defer running.Wait()
	defer stop()

	eventually(t, "the first poll", func() bool { return store.polled() == 1 })
	eventually(t, "both to be watched", func() bool {
		return store.watched(storage.KindCutoff) == 1 && store.watched(changeKey.Kind) == 1
	})
	for range 50 {
		store.tell(storage.KindCutoff, (&storage.Cutoff{Family: rand.Text()}).Key().ID)
		store.tell(changeKey.Kind, changeKey.ID)
	}
	store.hold <- struct{}{}
	eventually(t, "the second poll", func() bool { return store.polled() == 2 })
	close(store.hold)

	if err := s.cutoffs.Add(ctx, &storage.Cutoff{Family: "family"}); err != nil {
		t.Fatal(err)
	}
	node := revocation.New(revocation.Config{Store: store.Store, LocalServers: revocation.NewLocalServers(), Now: time.Now})
	other := &storage.Cutoff{Family: "family of another node"}
	if err := node.Add(ctx, other); err != nil {
		t.Fatal(err)
	}
	store.tell(storage.KindCutoff, other.Key().ID)
	eventually(t, "the cutoff of another node", func() bool { return s.cutoffs.Knows(other.Key().ID) })
	if n := store.polled(); n > 4 {
		t.Errorf("100 notifications and two cutoffs led to %d polls", n)
	}
}
