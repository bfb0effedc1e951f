package move

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// session is a client that refreshes in a loop, and retries after a 503 or a lost answer.
type session struct {
	s                *integration.Server
	client           *http.Client
	previous, newest string
	accessToken      string
	refreshes        atomic.Int64
	refusals         atomic.Int64 // answers that were 503
}

type sessions struct {
	all  []*session
	stop atomic.Bool
	wait sync.WaitGroup
}

// begin makes n sessions refresh until end is called.
func begin(t *testing.T, s *integration.Server, n int) *sessions {
	t.Helper()
	all := &sessions{}
	for range n {
		tokens := s.NewTokens(t)
		all.all = append(all.all, &session{
			s: s, client: s.Client(t), newest: tokens.RefreshToken, accessToken: tokens.AccessToken,
		})
	}
	for _, one := range all.all {
		all.wait.Go(func() {
			for !all.stop.Load() {
				if err := one.refresh(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	t.Cleanup(all.end)
	return all
}

func (a *sessions) end() {
	a.stop.Store(true)
	a.wait.Wait()
}

// goOn waits until every session has refreshed a few more times.
func (a *sessions) goOn(t *testing.T) {
	t.Helper()
	const few = 5
	goals := make([]int64, len(a.all))
	for i, one := range a.all {
		goals[i] = one.refreshes.Load() + few
	}
	integration.Eventually(t, "refreshes of all sessions", func() bool {
		for i, one := range a.all {
			if one.refreshes.Load() < goals[i] {
				return t.Failed()
			}
		}
		return true
	})
}

func (a *sessions) refusals() (n int64) {
	for _, one := range a.all {
		n += one.refusals.Load()
	}
	return n
}

// refresh presents the newest refresh token until it gets new tokens.
func (c *session) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, integration.Patience)
	defer cancel()
	for {
		answer, err := integration.Post(ctx, c.client, c.s.TokenURL(), integration.RefreshRequest("app", c.newest))
		switch {
		case err == nil && answer.Status == http.StatusOK && answer.RefreshToken != "" && answer.RefreshToken != c.newest:
			c.previous, c.newest, c.accessToken = c.newest, answer.RefreshToken, answer.AccessToken
			c.refreshes.Add(1)
			return nil
		case err == nil && answer.Status == http.StatusServiceUnavailable && answer.Error == "temporarily_unavailable":
			c.refusals.Add(1)
		case err == nil:
			return fmt.Errorf("refresh %d: %d %s %s", c.refreshes.Load(), answer.Status, answer.Error, answer.Description)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("refresh %d: no new tokens: %w", c.refreshes.Load(), err)
		case <-time.After(10 * time.Millisecond): // less than Retry-After, for more load
		}
	}
}

// check checks that the family has one current token: a retry with the previous token returns the newest again, and the newest
// works.
func (c *session) check(t *testing.T) {
	t.Helper()
	present := func(token string) *integration.Answer {
		answer, err := integration.Post(t.Context(), c.client, c.s.TokenURL(), integration.RefreshRequest("app", token))
		must(t, err)
		return answer
	}
	if again := present(c.previous); again.RefreshToken != c.newest {
		t.Errorf("a retry with the previous token: %d %s, want the newest token again", again.Status, again.Error)
	}
	next := present(c.newest)
	if next.Status != http.StatusOK {
		t.Fatalf("the newest token: %d %s", next.Status, next.Error)
	}
	c.previous, c.newest, c.accessToken = c.newest, next.RefreshToken, next.AccessToken
}
