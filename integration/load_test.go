package integration_test

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

// tabs is how many tabs each user of the load has open: all refresh the same token at the same time.
const tabs = 2

// user refreshes again and again.
type user struct {
	s                *integration.Server
	clients          [tabs]*http.Client
	previous, newest string
	refreshes        atomic.Int64
}

func newUsers(t *testing.T, s *integration.Server, n int) []*user {
	t.Helper()
	users := make([]*user, n)
	for i := range users {
		users[i] = &user{s: s, newest: s.NewTokens(t).RefreshToken}
		for tab := range users[i].clients {
			users[i].clients[tab] = s.Client(t)
		}
	}
	return users
}

// load has all users refresh until done is called, which waits for the answers to their last requests.
func load(t *testing.T, users []*user) (done func()) {
	t.Helper()
	var over atomic.Bool
	var running sync.WaitGroup
	for _, u := range users {
		running.Go(func() {
			for !over.Load() {
				if err := u.refresh(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done = func() {
		over.Store(true)
		running.Wait()
	}
	t.Cleanup(done) // also if the test ends early
	return done
}

// refresh has every tab present the newest token. All must be given the same new one.
func (u *user) refresh(ctx context.Context) error {
	var answers [tabs]*integration.Answer
	var errs [tabs]error
	var open sync.WaitGroup
	for tab := range tabs {
		open.Go(func() { answers[tab], errs[tab] = u.present(ctx, u.clients[tab]) })
	}
	open.Wait()
	next := ""
	for tab, answer := range answers {
		switch {
		case errs[tab] != nil:
			return fmt.Errorf("refresh %d: %w", u.refreshes.Load(), errs[tab])
		case answer.Status != http.StatusOK || answer.RefreshToken == "" || answer.RefreshToken == u.newest:
			return fmt.Errorf("refresh %d: %d %s %s", u.refreshes.Load(), answer.Status, answer.Error, answer.Description)
		case next != "" && answer.RefreshToken != next:
			return fmt.Errorf("refresh %d: the family has forked", u.refreshes.Load())
		}
		next = answer.RefreshToken
	}
	u.previous, u.newest = u.newest, next
	u.refreshes.Add(1)
	return nil
}

// present sends the newest token until there is an answer. A connection may break: a process that is killed breaks
// them all, and a listener that closes in a reload those that wait for it, at any site on Caddy. Whatever the
// lost request did on the server, its repetition must do no harm.
func (u *user) present(ctx context.Context, client *http.Client) (*integration.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, integration.Patience)
	defer cancel()
	for {
		answer, err := integration.Post(ctx, client, u.s.TokenURL(), integration.RefreshRequest("app", u.newest))
		if err == nil {
			return answer, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// checkLine proves that the user's family is one line: the token before the newest leads to the newest, the
// newest on, and once that has happened, the one before is a thief's.
func (u *user) checkLine(t *testing.T) {
	t.Helper()
	present := func(token string) *integration.Answer {
		answer, err := integration.Post(t.Context(), u.clients[0], u.s.TokenURL(), integration.RefreshRequest("app", token))
		must(t, err)
		return answer
	}
	if again := present(u.previous); again.RefreshToken != u.newest {
		t.Errorf("the token before the newest: %d %s, want the newest once more", again.Status, again.Error)
	}
	next := present(u.newest)
	if next.Status != http.StatusOK {
		t.Fatalf("the newest token: %d %s", next.Status, next.Error)
	}
	for _, token := range []string{u.previous, next.RefreshToken} {
		if answer := present(token); !answer.Refused("invalid_grant") {
			t.Errorf("after reuse: %d %s, want 400 invalid_grant", answer.Status, answer.Error)
		}
	}
}
