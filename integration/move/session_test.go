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

// session is a client that refreshes again and again, and retries after a 503 or a lost answer.
type session struct {
	s                *integration.Server
	client           *http.Client
	previous, newest string
	accessToken      string
	refreshes        atomic.Int64
	putOff           atomic.Int64
}

type sessions struct {
	all  []*session
	stop atomic.Bool
	wait sync.WaitGroup
}

// begin has n sessions refresh until end is called.
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

// goOn waits until every session was refreshed a few times more.
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

func (a *sessions) putOff() (n int64) {
	for _, one := range a.all {
		n += one.putOff.Load()
	}
	return n
}

// refresh presents the newest token until there are new ones.
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
			c.putOff.Add(1)
		case err == nil:
			return fmt.Errorf("refresh %d: %d %s %s", c.refreshes.Load(), answer.Status, answer.Error, answer.Description)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("refresh %d: no new tokens: %w", c.refreshes.Load(), err)
		case <-time.After(10 * time.Millisecond): // sooner than Retry-After says, to have more load
		}
	}
}

// check makes sure that the session was not forked: the token before the newest yields the newest once more, and the newest
// works.
func (c *session) check(t *testing.T) {
	t.Helper()
	present := func(token string) *integration.Answer {
		answer, err := integration.Post(t.Context(), c.client, c.s.TokenURL(), integration.RefreshRequest("app", token))
		must(t, err)
		return answer
	}
	if again := present(c.previous); again.RefreshToken != c.newest {
		t.Errorf("the token before the newest: %d %s, want the newest once more", again.Status, again.Error)
	}
	next := present(c.newest)
	if next.Status != http.StatusOK {
		t.Fatalf("the newest token: %d %s", next.Status, next.Error)
	}
	c.previous, c.newest, c.accessToken = c.newest, next.RefreshToken, next.AccessToken
}
