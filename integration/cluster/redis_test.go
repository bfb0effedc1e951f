package cluster_test

import (
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/storage/redis"
)

// The nodes share only a Redis.
func TestRedis(t *testing.T) {
	server := integration.StartRedis(t)
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	module := &redis.Redis{Addresses: []string{server.Address}, Timeout: caddy.Duration(integration.Patience)}
	must(t, module.Provision(ctx))
	t.Cleanup(func() {
		if err := module.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	store, err := module.Open(issuer)
	must(t, err)
	run(t, backend{
		setting: server.Store(),
		node:    func(config integration.Config) integration.Config { return config },
		store:   store,
	})
}
