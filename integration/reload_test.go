package integration_test

import (
	"slices"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// In a reload, the old and the new configuration overlap. No request may fail.
func TestReloadUnderLoad(t *testing.T) {
	const reloads, pause = 60, 50 * time.Millisecond
	s := integration.Start(t, integration.Shop())
	config := s.Adapted(t)
	users := newUsers(t, s, 4)

	done := load(t, users)
	tick := time.NewTicker(pause)
	defer tick.Stop()
	busy := func() bool { // until every user has refreshed during reloads
		return !t.Failed() && slices.ContainsFunc(users, func(u *user) bool { return u.refreshes.Load() < reloads/10 })
	}
	for n := 0; n < reloads || busy(); n++ {
		<-tick.C
		must(t, s.Load(t.Context(), config))
	}
	done()

	for _, u := range users {
		u.checkLine(t)
	}
}
