package authserver

import (
	"context"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// silentStore is a store that does what it is asked to, of which the answer is lost.
type silentStore struct {
	storage.Store

	silent bool
}

func (s *silentStore) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	err := s.Store.Update(ctx, key, change)
	if s.silent {
		return context.DeadlineExceeded
	}
	return err
}

// A client that was told to come again comes again, by then after the time in which a token may be presented once more,
// and again, until the store has answers. Then it gets the token that took the place of its own when it asked first.
func TestRefreshOfUnknownOutcome(t *testing.T) {
	start := func(t *testing.T, edits ...func(*Config)) (*testServer, *silentStore, string) {
		t.Helper()
		store := new(silentStore)
		s := newTestServer(t, append(edits, func(c *Config) {
			store.Store = c.Store
			c.Store = store
		})...)
		return s, store, s.tokens(t)["refresh_token"].(string)
	}
	refused := func(t *testing.T, a answer) { t.Helper(); a.check(t, http.StatusBadRequest, "invalid_grant") }
	granted := func(t *testing.T, a answer) { t.Helper(); a.check(t, http.StatusOK, "") }
	unknown := func(t *testing.T, a answer) {
		t.Helper()
		a.check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
	}
	for _, tt := range []struct {
		name  string
		edit  func(*Config)
		waits []time.Duration // before the client comes again; the store answers the last time
		last  func(*testing.T, answer)
	}{
		{"soon", nil, []time.Duration{2 * time.Second}, granted},
		{"later than retry", nil, []time.Duration{15 * time.Second}, granted},
		{"again and again", nil, []time.Duration{50 * time.Second, 50 * time.Second, 50 * time.Second}, granted},
		{"too late", nil, []time.Duration{time.Minute}, refused},
		{"retry is longer", retry(time.Hour), []time.Duration{50 * time.Minute}, granted},
		{"retry is short", retry(time.Second), []time.Duration{50 * time.Second}, granted},
		{"strict single use", retry(0), []time.Duration{time.Second}, refused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			edit := tt.edit
			if edit == nil {
				edit = retry(10 * time.Second)
			}
			s, store, token := start(t, edit)
			store.silent = true
			unknown(t, s.token(t, refreshes(token)))
			for i, wait := range tt.waits {
				s.clock.Advance(wait)
				told := unknown
				if store.silent = i < len(tt.waits)-1; !store.silent {
					told = tt.last
				}
				told(t, s.token(t, refreshes(token)))
			}
		})
	}
	t.Run("by the server of the next config", func(t *testing.T) {
		s, store, token := start(t)
		store.silent = true
		unknown(t, s.token(t, refreshes(token)))
		store.silent = false
		s.clock.Advance(15 * time.Second)
		s.restart(t, s.config)
		granted(t, s.token(t, refreshes(token)))
	})
	t.Run("others are thieves as before", func(t *testing.T) {
		s, store, token := start(t)
		other := s.tokens(t)["refresh_token"].(string)
		next := s.refresh(t, other)
		store.silent = true
		unknown(t, s.token(t, refreshes(token)))
		store.silent = false
		s.clock.Advance(15 * time.Second)
		refused(t, s.token(t, refreshes(other)))
		refused(t, s.token(t, refreshes(next)))
	})
	t.Run("another token of the family is a thief's as before", func(t *testing.T) {
		s, store, token := start(t)
		next := s.refresh(t, token)
		s.clock.Advance(9 * time.Second) // after which the first is good for one more
		store.silent = true
		unknown(t, s.token(t, refreshes(next)))
		store.silent = false
		s.clock.Advance(2 * time.Second)
		refused(t, s.token(t, refreshes(token)))
		refused(t, s.token(t, refreshes(next)))
	})
	t.Run("a successor that was used is not told again", func(t *testing.T) {
		s, store, token := start(t)
		store.silent = true
		unknown(t, s.token(t, refreshes(token)))
		store.silent = false
		s.clock.Advance(15 * time.Second)
		next := s.refresh(t, token)
		s.refresh(t, next)
		refused(t, s.token(t, refreshes(token)))
		refused(t, s.token(t, refreshes(next)))
	})
}

func retry(d time.Duration) func(*Config) {
	return client("webapp", func(c *storage.Client) { c.RefreshToken.Retry = d })
}

func TestDoubtsAreBounded(t *testing.T) {
	d := NewDoubts()
	now := newTestClock().Now()
	for i := range maxDoubts {
		at := now
		if i%2 == 0 {
			at = at.Add(-time.Hour)
		}
		d.known[strconv.Itoa(i)] = doubt{at, at}
	}
	d.drop(now)
	if n := len(d.known); n != maxDoubts/2 {
		t.Errorf("%d are left, want those that are not over", n)
	}
	for i := range maxDoubts {
		d.known[strconv.Itoa(i)] = doubt{now, now}
	}
	d.drop(now)
	if n := len(d.known); n != maxDoubts-1 {
		t.Errorf("%d are left, want room for one", n)
	}
}
