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

// lateStore comes to a change only when it is let, whoever waits for it.
type lateStore struct {
	storage.Store

	let  chan struct{}
	done chan error
}

func (s *lateStore) Timeout() time.Duration { return testTimeout }

func (s *lateStore) Update(_ context.Context, key storage.Key, change storage.Change) error {
	<-s.let
	err := s.Store.Update(context.Background(), key, change)
	s.done <- err
	return err
}

// A change for which nobody waits any more is not made: the client is told to come again, and must find all as it was.
func TestNoChangeAfterTheAnswer(t *testing.T) {
	s := newTestServer(t)
	code := s.code(t, asks("webapp"))
	late := &lateStore{s.store, make(chan struct{}), make(chan error, 1)}
	config := s.config
	config.Store, config.StoreTimeout = late, 0
	s.restart(t, config)
	if _, err := s.keys.Secret(t.Context()); err != nil { // the keys are there already
		t.Fatal(err)
	}
	toldInJSON(t, s.token(t, redeems(code)))
	close(late.let)
	if err := <-late.done; err == nil {
		t.Error("the code was redeemed after all")
	}
	s.token(t, redeems(code)).check(t, http.StatusOK, "")
}

// The end of a process, or of a config, does not wait for a store.
func TestStopWhileTheStoreHangs(t *testing.T) {
	s, store := newFaultyServer(t, time.Minute)
	store.fail(deaf(t))
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	running.Go(func() { s.attempt(ctx, "sweeping", s.Server.store.Sweep) })
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
		t.Fatal("it goes on")
	}
}

// While the revocations are looked for, new ones hold at once, and those that the look has missed are not lost.
func TestRevocationDuringALook(t *testing.T) {
	s, store := newFaultyServer(t, time.Minute)
	h := newHoard(t, s)
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
	s.giveBack(t, h.access)
	s.state(t, h.access, jwt.ErrRevoked)
	s.cutoffs.Store = brokenList{s.store} // as if it were not listed
	close(let)
	if err := <-polled; err != nil {
		t.Fatal(err)
	}
	s.state(t, h.access, jwt.ErrRevoked)
}

// RFC 9700 §4.14.2: a family that was revoked for a replay takes its access tokens with it as soon as the store can.
func TestReplayWithoutAStore(t *testing.T) {
	s := newTestServer(t)
	tokens := s.tokens(t)
	config := s.config
	config.Store = noCutoffs{s.store}
	s.restart(t, config)
	s.refresh(t, s.refresh(t, tokens["refresh_token"].(string)))
	s.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
	s.state(t, tokens["access_token"], nil)
	if err := s.poll(t.Context()); !bounded.Unavailable(err) {
		t.Errorf("%v, want the failure of the store", err)
	}
	s.cutoffs.Store = s.store
	if err := s.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.state(t, tokens["access_token"], jwt.ErrRevoked)
}

// What runs by itself tells of a failure once, and when it is over; what a request has told of is not told of again.
func TestAttemptsAreToldOfOnce(t *testing.T) {
	s, store := newFaultyServer(t, testTimeout)
	h := newHoard(t, s)
	tick := func(err error) {
		s.attempt(t.Context(), "polling", s.poll)
		s.attempt(t.Context(), "sweeping", func(context.Context) error { return err })
		s.clock.Advance(5 * time.Second)
	}
	failures := func() (told []string) {
		for _, line := range s.logs.FilterLevelExact(zap.ErrorLevel).All() {
			told = append(told, line.Message)
		}
		return told
	}
	tick(nil)
	store.fail(full)
	for range 5 {
		tick(syscall.EACCES)
	}
	toldInJSON(t, s.token(t, refreshes(h.refresh)))
	toldInJSON(t, s.token(t, refreshes(h.refresh)))
	want := []string{"polling failed; will try again", "sweeping failed; will try again", "store failing"}
	if got := failures(); !slices.Equal(got, want) {
		t.Errorf("the log says %q, want %q", got, want)
	}
	store.mend()
	s.clock.Advance(10 * time.Second)
	tick(nil)
	s.token(t, refreshes(h.refresh)).check(t, 200, "")
	if got := failures(); len(got) != len(want) {
		t.Errorf("the log says %q, when all is over", got)
	}
	if ends := s.logs.FilterMessage("store recovered").Len(); ends != 3 {
		t.Errorf("%d ends in the log, want one for each", ends)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	store.fail(hangs)
	s.attempt(stopped, "polling", s.poll)
	if got := failures(); len(got) != len(want) {
		t.Errorf("the log says %q, when all was stopped", got)
	}
}
