package cluster_test

import (
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/integration/slowstorage"
	caddystore "github.com/caddy-oauth/caddy-oauth/storage/caddy"
)

// issuer is the name of the shop's issuer.
const issuer = "default"

// onBothStores runs a test on nodes that share a directory, and on nodes that share a Redis.
func onBothStores(t *testing.T, test func(t *testing.T, b backend)) {
	t.Helper()
	t.Run("files", func(t *testing.T) {
		dir := t.TempDir()
		test(t, backend{node: func(config integration.Config) integration.Config {
			config.Storage = dir
			return config
		}})
	})
	t.Run("redis", func(t *testing.T) {
		test(t, backend{
			setting: integration.StartRedis(t).Store(),
			node:    func(config integration.Config) integration.Config { return config },
		})
	})
}

// The nodes share a directory: on one machine, or on several machines with a file system that has locks for all of them.
func TestSharedDirectory(t *testing.T) {
	dir := t.TempDir()
	run(t, backend{
		node: func(config integration.Config) integration.Config {
			config.Storage = dir
			return config
		},
		store: caddystore.New(&certmagic.FileStorage{Path: dir}, issuer),
		dir:   dir,
	})
}

// The nodes share another storage module of Caddy, as over a network.
func TestOtherStorage(t *testing.T) {
	const latency, lease = 2 * time.Millisecond, time.Second
	dir := t.TempDir()
	run(t, backend{
		node: func(config integration.Config) integration.Config {
			config.Storage = dir
			return config.OnSlowStorage(latency, lease)
		},
		store: caddystore.New(slowstorage.New(dir, latency, lease), issuer),
		dir:   dir,
	})
}
