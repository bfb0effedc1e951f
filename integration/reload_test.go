package integration_test

import (
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
	for range reloads {
		<-tick.C
		must(t, s.Load(t.Context(), config))
	}
	done()

	for _, u := range users {
		if u.refreshes.Load() < reloads/10 {
			t.Errorf("only %d refreshes during %d reloads", u.refreshes.Load(), reloads)
		}
		u.checkLine(t)
	}
}
