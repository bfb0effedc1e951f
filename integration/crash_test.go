package integration_test

import (
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// A process that is killed during refreshes loses answers. Clients that repeat their last request to the next process lose no
// session.
func TestKillUnderLoad(t *testing.T) {
	const kills, between = 3, 5
	s := integration.Start(t, integration.Shop())
	users, keys := newUsers(t, s, 4), publishedKeys(t, s)

	done := load(t, users)
	everybodyRefreshes := func() {
		t.Helper()
		goals := make([]int64, len(users))
		for i, u := range users {
			goals[i] = u.refreshes.Load() + between
		}
		integration.Eventually(t, "refreshes of all users", func() bool {
			for i, u := range users {
				if u.refreshes.Load() < goals[i] {
					return false
				}
			}
			return true
		})
	}
	before := s.NewTokens(t)
	for range kills {
		everybodyRefreshes()
		s.Kill()
		s.Run()
	}
	everybodyRefreshes()
	done()

	for _, u := range users {
		u.checkLine(t)
	}
	verified(t, keys, before.AccessToken)
	verified(t, publishedKeys(t, s), before.AccessToken) // the keys are still the same
}
