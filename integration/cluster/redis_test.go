package cluster_test

import (
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/storage/redis"
)

// Nodes that share nothing but a Redis.
func TestRedis(t *testing.T) {
	address := startRedis(t)
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	module := &redis.Redis{Addresses: []string{address}}
	must(t, module.Provision(ctx))
	t.Cleanup(func() {
		if err := module.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	store, err := module.Open(issuer)
	must(t, err)
	run(t, backend{
		setting: "store redis " + address,
		node:    func(config integration.Config) integration.Config { return config },
		store:   store,
	})
}

// startRedis starts a Redis that keeps all in memory, until the test is over, and returns its address.
func startRedis(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CADDY_OAUTH_TEST_REQUIRE") == "all" {
			t.Fatal(err)
		}
		t.Skip("install redis-server to run this test")
	}
	address := integration.FreeAddress(t)
	host, port, err := net.SplitHostPort(address)
	must(t, err)
	server := exec.Command(path, "--bind", host, "--port", port, "--save", "", "--dir", t.TempDir()) //nolint:noctx // see the cleanup
	must(t, server.Start())
	t.Cleanup(func() {
		_ = server.Process.Kill() // it keeps nothing
		_ = server.Wait()
	})
	integration.Eventually(t, "Redis answers", func() bool {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
	return address
}
