package authserver

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
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
	synctest.Test(t, func(t *testing.T) {
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
	})
}

// The end of a process or of a configuration does not wait for a store that hangs.
func TestStopWhileTheStoreHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, store := newFaultyServer(t, time.Minute)
		store.fail(deaf(t))
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { s.Run(ctx) })
		running.Go(func() { s.upkeep.attempt(ctx, "sweeping", s.Server.store.Sweep) })
		synctest.Wait()
		if store.calls.Load() == 0 {
			t.Fatal("nothing asks the store")
		}
		began := time.Now()
		stop()
		running.Wait()
		if took := time.Since(began); took > time.Second+lastWrite { // a second for what was cancelled
			t.Errorf("it ends after %s", took)
		}
	})
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

// RFC 9700 §4.14.2: if the store takes only a part of the revocation of a family, or nothing, when a used refresh token is presented
// again, this node refuses all of the family at once, and the others do after the store works again. The logs say what happened.
func TestReuseWhileTheStoreFails(t *testing.T) {
	for _, tt := range []struct {
		name    string
		failing func(storage.Store) storage.Store
		message string
	}{
		{
			"the access tokens", func(s storage.Store) storage.Store { return noCutoffs{s} },
			"reuse detected: refresh tokens of the family revoked, but the store does not take the revocation of its access tokens: " +
				"this node refuses them, and tries again",
		},
		{
			"the family", func(s storage.Store) storage.Store { return noTombstones{s} },
			"reuse detected, but the store does not take the revocation of the family: this node refuses its tokens, and tries again",
		},
		{
			"both", func(s storage.Store) storage.Store { return noTombstones{noCutoffs{s}} },
			"reuse detected, but the store does not take the revocation of the family: this node refuses its tokens, and tries again",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, events := audited(t)
			tokens := s.tokens(t)
			config := s.config
			config.Store = tt.failing(s.store)
			s.restart(t, config)
			newest := s.refresh(t, s.refresh(t, tokens["refresh_token"].(string)))
			*events = nil
			s.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
			s.state(t, tokens["access_token"], jwt.ErrRevoked)
			s.token(t, refreshes(newest)).check(t, http.StatusBadRequest, "invalid_grant")
			names := func() (names string) {
				for _, e := range *events {
					names += e.Name + " "
				}
				return names
			}
			if got := names(); got != "reuse_detected token_refused " {
				t.Errorf("events %q", got)
			}
			if n := s.logs.FilterMessage(tt.message).FilterLevelExact(zap.ErrorLevel).Len(); n != 1 {
				t.Errorf("the log says it %d times: %v", n, s.logs.All()[s.logs.Len()-1].Message)
			}
			if err := s.upkeep.poll(t.Context()); !bounded.IsStoreFailure(err) {
				t.Errorf("%v, want the failure of the store", err)
			}
			other := *s
			config.Store, config.Revocations = s.store, nil
			other.restart(t, config)

			*events = nil
			s.cutoffs.Store, s.revoker.store = s.store, s.store
			for _, node := range []*testServer{s, &other} {
				if err := node.upkeep.poll(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := names(); node == s && got != "revoked " {
					t.Errorf("events %q after the outage", got)
				}
			}
			other.state(t, tokens["access_token"], jwt.ErrRevoked)
			other.token(t, refreshes(newest)).check(t, http.StatusBadRequest, "invalid_grant")
			if n := s.logs.FilterMessage("family revoked, which the store did not take before").Len(); n != 1 {
				t.Errorf("the log says %d times that the family is revoked", n)
			}
			config.Store = s.store
			s.restart(t, config) // after all cutoffs of the family have expired
			s.clock.Advance(2 * time.Hour)
			s.token(t, refreshes(newest)).check(t, http.StatusBadRequest, "invalid_grant")
		})
	}
}

// A failure of a background task is logged once, and so is its end. A failure that a request has logged is not logged again.
func TestFailuresOfBackgroundTasksAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
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
	})
}
