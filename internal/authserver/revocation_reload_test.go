package authserver

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/revocation"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

// During a reload, the servers of both configurations answer. A token that one of them revokes is void at the other at once, whatever
// that one has loaded before, and however rarely it polls the store.
func TestRevocationDuringAReload(t *testing.T) {
	local := revocation.NewLocalServers()
	var config Config
	s := newTestServer(t, func(c *Config) {
		c.Revocations, c.RevocationPoll = local, time.Hour
		c.Store, c.Now = memory.New(), time.Now // which many may use at once
		config = *c
	})
	before := s.Server
	s.restart(t, config)
	after := s.Server

	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, server := range []*Server{before, after} {
		running.Go(func() { server.Run(ctx) })
	}
	eventually(t, "both servers take part", func() bool { return local.Size(config.Name) == 2 })

	for name, servers := range map[string][2]*Server{"the old one revokes": {before, after}, "the new one revokes": {after, before}} {
		token := s.tokens(t)["access_token"].(string)
		claims, err := servers[1].AccessToken(t.Context(), token, jwt.Leeway)
		if err != nil {
			t.Fatal(err)
		}
		if err := servers[0].revoker.RevokeFamily(t.Context(), claims.Family, name, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := servers[1].AccessToken(t.Context(), token, jwt.Leeway); !errors.Is(err, jwt.ErrRevoked) {
			t.Errorf("%s: at the other server: %v", name, err)
		}
	}

	stop()
	running.Wait()
	if left := local.Size(config.Name); left != 0 {
		t.Errorf("%d servers still take part", left)
	}
}
