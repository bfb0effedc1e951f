package authserver

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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

// What hangs in a store that does not listen is bounded, and so is who waits for it.
func TestNoMoreThanThatHangs(t *testing.T) {
	s, store := newFaultyServer(t, time.Millisecond)
	hang := deaf(t)
	var hanging atomic.Int64
	store.fail(func(ctx context.Context) error { hanging.Add(1); return hang(ctx) })
	for range maxRunning + 100 {
		if _, err := s.config.Store.Get(t.Context(), newsRecord); !Unavailable(err) {
			t.Fatalf("%v is not the store's", err)
		}
	}
	if n := hanging.Load(); n > maxRunning {
		t.Errorf("%d operations hang", n)
	}
}

// The end of a process, or of a config, does not wait for a store.
func TestStopWhileTheStoreHangs(t *testing.T) {
	s, store := newFaultyServer(t, time.Minute)
	s.sweeper = deafSweeper{deaf(t)}
	store.fail(deaf(t))
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	running.Go(func() { s.attempt(ctx, "sweeping", s.sweep) })
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

type deafSweeper struct{ hang fault }

func (s deafSweeper) Sweep(ctx context.Context) error { return s.hang(ctx) }

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
	if err := s.poll(t.Context()); !Unavailable(err) {
		t.Errorf("%v, want the failure of the store", err)
	}
	s.cutoffs.Store = s.store
	if err := s.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.state(t, tokens["access_token"], jwt.ErrRevoked)
}

func TestPanicOfAStore(t *testing.T) {
	err := apart(t.Context(), func(context.Context) error { panic("a nil map") })
	var panicked *panicError
	if !errors.As(err, &panicked) || panicked.value != "a nil map" || len(panicked.stack) == 0 {
		t.Errorf("%v", err)
	}
}
