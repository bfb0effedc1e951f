package authserver

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/bounded"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// delayedStore runs an Update only when the test allows it, even if its caller has given up.
type delayedStore struct {
	storage.Store

	let  chan struct{}
	done chan error
}

func (s *delayedStore) Timeout() time.Duration { return testTimeout }

func (s *delayedStore) Update(_ context.Context, key storage.Key, change storage.Change) error {
	<-s.let
	err := s.Store.Update(context.Background(), key, change)
	s.done <- err
	return err
}

// After the answer to a request was 503, its change is not made any more, so that a retry finds everything unchanged.
func TestNoChangeAfterTheAnswer(t *testing.T) {
	s := newTestServer(t)
	code := s.code(t, asks("webapp"))
	late := &delayedStore{s.store, make(chan struct{}), make(chan error, 1)}
	config := s.config
	config.Store, config.StoreTimeout = late, 0
	s.restart(t, config)
	if _, err := s.keys.Secret(t.Context()); err != nil { // the keys are there already
		t.Fatal(err)
	}
	unavailableInJSON(t, s.token(t, redeems(code)))
	close(late.let)
	if err := <-late.done; err == nil {
		t.Error("the code was redeemed after the 503")
	}
	s.token(t, redeems(code)).check(t, http.StatusOK, "")
}

// The end of a process or of a configuration does not wait for a store that hangs.
func TestStopWhileTheStoreHangs(t *testing.T) {
	s, store := newFaultyServer(t, time.Minute)
	store.fail(deaf(t))
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	running.Go(func() { s.upkeep.attempt(ctx, "sweeping", s.Server.store.Sweep) })
	for store.calls.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		running.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
}

// A revocation during a poll is in force at once, and stays so if the poll has missed its record.
func TestRevocationDuringAPoll(t *testing.T) {
	s, store := newFaultyServer(t, time.Minute)
	h := newIssued(t, s)
	listing, let := make(chan struct{}), make(chan struct{})
	store.fail(func(context.Context) error {
		close(listing)
		<-let
		return nil
	})
	polled := make(chan error, 1)
	go func() { polled <- s.cutoffs.Poll(t.Context()) }()
	<-listing
	store.mend()
	s.revokeToken(t, h.access)
	s.state(t, h.access, jwt.ErrRevoked)
	s.cutoffs.Store = brokenList{s.store} // as if the listing had missed it
	close(let)
	if err := <-polled; err != nil {
		t.Fatal(err)
	}
	s.state(t, h.access, jwt.ErrRevoked)
}

// RFC 9700 §4.14.2: if the store fails when reuse revokes a family, its access tokens are void after the next poll.
func TestReplayWithoutAStore(t *testing.T) {
	s := newTestServer(t)
	tokens := s.tokens(t)
	config := s.config
	config.Store = noCutoffs{s.store}
	s.restart(t, config)
	s.refresh(t, s.refresh(t, tokens["refresh_token"].(string)))
	s.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
	s.state(t, tokens["access_token"], nil)
	if err := s.upkeep.poll(t.Context()); !bounded.Unavailable(err) {
		t.Errorf("%v, want the failure of the store", err)
	}
	s.cutoffs.Store = s.store
	if err := s.upkeep.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.state(t, tokens["access_token"], jwt.ErrRevoked)
}

// A failure of a background task is logged once, and so is its end. A failure that a request has logged is not logged again.
func TestFailuresOfBackgroundTasksAreLoggedOnce(t *testing.T) {
	s, store := newFaultyServer(t, testTimeout)
	h := newIssued(t, s)
	tick := func(err error) {
		s.upkeep.attempt(t.Context(), "polling", s.upkeep.poll)
		s.upkeep.attempt(t.Context(), "sweeping", func(context.Context) error { return err })
		s.clock.Advance(5 * time.Second)
	}
	failures := func() (messages []string) {
		for _, line := range s.logs.FilterLevelExact(zap.ErrorLevel).All() {
			messages = append(messages, line.Message)
		}
		return messages
	}
	tick(nil)
	store.fail(full)
	for range 5 {
		tick(syscall.EACCES)
	}
	unavailableInJSON(t, s.token(t, refreshes(h.refresh)))
	unavailableInJSON(t, s.token(t, refreshes(h.refresh)))
	want := []string{"polling failed; will try again", "sweeping failed; will try again", "store failing"}
	if got := failures(); !slices.Equal(got, want) {
		t.Errorf("the log has %q, want %q", got, want)
	}
	store.mend()
	s.clock.Advance(10 * time.Second)
	tick(nil)
	s.token(t, refreshes(h.refresh)).check(t, 200, "")
	if got := failures(); len(got) != len(want) {
		t.Errorf("the log has %q after the outage", got)
	}
	if ends := s.logs.FilterMessage("store recovered").Len(); ends != 3 {
		t.Errorf("the log has %d recoveries, want one for each failure", ends)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	store.fail(hangs)
	s.upkeep.attempt(stopped, "polling", s.upkeep.poll)
	if got := failures(); len(got) != len(want) {
		t.Errorf("the log has %q after the server was stopped", got)
	}
}
