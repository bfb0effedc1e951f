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

// tabs is how many browser tabs each user has open. All of them refresh the same token at the same time.
const tabs = 2

// user refreshes in a loop.
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

// load makes all users refresh until done is called. done waits for the answers to their last requests.
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

// refresh presents the newest token from every tab. All tabs must get the same new token.
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

// present sends the newest token until there is an answer. Connections may break: killing a process breaks all of them, and a
// listener that closes in a reload breaks those that it has not accepted yet, as on any site on Caddy. Repeating a lost request
// must do no harm, whether or not the server has handled it.
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

// checkLine checks that the user's family has one current token. A retry with the previous token returns the newest token again.
// The newest token can be refreshed. After that, the previous token is reuse and revokes the family.
func (u *user) checkLine(t *testing.T) {
	t.Helper()
	present := func(token string) *integration.Answer {
		answer, err := integration.Post(t.Context(), u.clients[0], u.s.TokenURL(), integration.RefreshRequest("app", token))
		must(t, err)
		return answer
	}
	if again := present(u.previous); again.RefreshToken != u.newest {
		t.Errorf("a retry with the previous token: %d %s, want the newest token again", again.Status, again.Error)
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
