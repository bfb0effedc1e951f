package caddyoauth

import (
	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
)

// shared is what all configurations of this process have in common. A new one must know of the failures under the old
// one, of what that one revokes while both answer, and when it stops writing.
type shared struct {
	throttle *throttle.Throttle
	bulletin *authserver.Bulletin
	servers  *authserver.Generations
}

var sharing = caddy.NewUsagePool()

const theShared = "shared"

// share returns what is shared. It lives until Cleanup was called on every app that asked for it.
func (a *App) share() *shared {
	common, _ := sharing.LoadOrStore(theShared, &shared{
		throttle.New(), authserver.NewBulletin(), authserver.NewGenerations(),
	})
	a.shares = true
	return common.(*shared)
}

// Cleanup closes the servers that were opened, and gives back what is shared, if this app has it.
func (a *App) Cleanup() error {
	for _, server := range a.servers {
		server.Close()
	}
	if !a.shares {
		return nil
	}
	a.shares = false
	_, err := sharing.Delete(theShared)
	return err
}
