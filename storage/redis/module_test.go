package redis

import (
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// users returns how many modules share the connection of r.
func users(r *Redis) int {
	n, _ := connections.References(r.pooled)
	return n
}

// load provisions a module as Caddy does. The test or the returned function cleans it up.
func load(t *testing.T, settings string) (r *Redis, unload func(), err error) {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(ctx)
	t.Cleanup(cancel)
	module, err := ctx.LoadModuleByID("oauth.stores.redis", json.RawMessage(settings))
	r, _ = module.(*Redis)
	return r, cancel, err
}

func mustLoad(t *testing.T, settings string, issuers ...string) (r *Redis, unload func(), stores []*store) {
	t.Helper()
	r, unload, err := load(t, settings)
	if err != nil {
		t.Fatal(err)
	}
	for _, issuer := range issuers {
		opened, err := r.Open(issuer)
		if err != nil {
			t.Fatal(err)
		}
		stores = append(stores, opened.(*store))
	}
	return r, unload, stores
}

// During a reload the new config opens before the old one is cleaned up. They share connections with the same settings.
func TestReloadKeepsConnections(t *testing.T) {
	server := startServer(t)
	ctx := t.Context()
	same := `{"addresses": ["` + server.address + `"]}`
	other := `{"addresses": ["` + server.address + `"], "pool_size": 3}`

	before, unloadBefore, old := mustLoad(t, same, "one", "two")
	noError(t, old[0].Put(ctx, aFamily, []byte("value"), never))
	after, unloadAfter, kept := mustLoad(t, same, "one")
	changed, unloadChanged, separate := mustLoad(t, other, "one")
	if old[0].connection != old[1].connection || old[0].connection != kept[0].connection || old[0].connection == separate[0].connection {
		t.Error("connections are not shared by settings")
	}
	if users(before) != 2 || users(changed) != 1 {
		t.Errorf("%d and %d users, want 2 and 1", users(before), users(changed))
	}

	unloadBefore()
	wantValue(t, kept[0], aFamily, "value")
	if _, remembered := kept[0].cache.get(kept[0].keys(aFamily)[0]); !remembered {
		t.Error("the cache was lost")
	}
	noError(t, before.Cleanup()) // a second time
	wantValue(t, kept[0], aFamily, "value")
	wantValue(t, separate[0], aFamily, "value")

	unloadAfter()
	if n := users(after); n != 0 {
		t.Errorf("%d users are left", n)
	}
	if _, err := kept[0].Get(ctx, aFamily); err == nil {
		t.Error("the connections outlive the last config")
	}
	wantValue(t, separate[0], aFamily, "value")
	unloadChanged()

	// A config that failed may have opened nothing.
	failed, unload, _ := mustLoad(t, same)
	unload()
	noError(t, failed.Cleanup())
	noError(t, new(Redis).Cleanup())
}

// Provision connects to nothing, whether Redis is running or not.
func TestNothingIsConnectedBeforeItIsNeeded(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed when the test ends
	noError(t, err)
	var connections atomic.Int32
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close() })
	address := listener.Addr().String()
	for name, settings := range map[string]string{
		"single":   `{"addresses": ["` + address + `"], "db": 3, "password": "p"}`,
		"cluster":  `{"addresses": ["` + address + `"], "cluster": true}`,
		"sentinel": `{"addresses": ["` + address + `"], "sentinel": {"master": "main"}}`,
	} {
		_, unload, stores := mustLoad(t, settings, "issuer")
		if n := connections.Load(); n != 0 {
			t.Errorf("%s: %d connections before the first use", name, n)
		}
		if _, err := stores[0].Get(t.Context(), aFamily); err == nil || errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s: got error %v from a server that is not a Redis", name, err)
		}
		if connections.Swap(0) == 0 {
			t.Errorf("%s: no connection for the first use, so that this test sees nothing", name)
		}
		unload()
		connections.Store(0)
	}
}

func TestSettings(t *testing.T) {
	t.Setenv("CADDY_OAUTH_TEST_PASSWORD", "the-password")
	t.Setenv("CADDY_OAUTH_TEST_LINE", "the-secret\n\n")
	for settings, want := range map[string]string{
		`{"addresses": ["localhost"]}`:                           "",
		`{"addresses": ["[::1]"]}`:                               "",
		`{"addresses": ["unix//run/redis.sock"]}`:                "",
		`{"addresses": ["a", "b"], "sentinel": {"master": "m"}}`: "",

		`{"addresses": ["a"], "password": "{env.CADDY_OAUTH_TEST_PASSWORD}"}`:                             "",
		`{"addresses": ["{env.CADDY_OAUTH_TEST_NOTHING}"]}`:                                               "address 1: ",
		`{"addresses": ["a"], "password": "{env.CADDY_OAUTH_TEST_NOTHING}"}`:                              "password: ",
		`{"addresses": ["a"], "password": "{env.CADDY_OAUTH_TEST_LINE}"}`:                                 "password: expected no line break",
		`{"addresses": ["a"], "sentinel": {"master": "m", "password": "{env.CADDY_OAUTH_TEST_LINE}"}}`:    "sentinel: password: expected no line break",
		`{"addresses": ["a"], "password": "{no.such.placeholder}"}`:                                       "password: ",
		`{"addresses": ["a"], "sentinel": {"master": "m", "password": "{env.CADDY_OAUTH_TEST_NOTHING}"}}`: "sentinel: password: ",

		`{}`: "expected the address",
		`{"addresses": ["redis://user:secret@localhost:6379/0"]}`:            "and no URL",
		`{"addresses": ["localhost:0"]}`:                                     "expected an address",
		`{"addresses": ["localhost:99999"]}`:                                 "expected an address",
		`{"addresses": [":6379"]}`:                                           "expected an address",
		`{"addresses": ["one:two:three"]}`:                                   "expected an address",
		`{"addresses": ["a"], "prefix": "with{braces}"}`:                     "prefix: ",
		`{"addresses": ["a"], "prefix": "star*"}`:                            "prefix: ",
		`{"addresses": ["a"], "username": "u"}`:                              "username: ",
		`{"addresses": ["a"], "db": -1}`:                                     "db: ",
		`{"addresses": ["a", "b"], "db": 1}`:                                 "db: ",
		`{"addresses": ["a"], "pool_size": -1}`:                              "pool_size: ",
		`{"addresses": ["a"], "cache": -1}`:                                  "cache: ",
		`{"addresses": ["a"], "timeout": -1}`:                                "timeout, ",
		`{"addresses": ["a"], "sentinel": {}}`:                               "sentinel: ",
		`{"addresses": ["a"], "sentinel": {"master": "m"}, "cluster": true}`: "sentinel: ",
		`{"addresses": ["a"], "tls": {"client_cert": "c"}}`:                  "tls: client_cert: ",
		`{"addresses": ["a"], "nonsense": 1}`:                                "nonsense",
	} {
		_, _, err := load(t, settings)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", settings, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got error %v, want one with %q", settings, err, want)
		case err != nil && strings.Contains(err.Error(), "secret"):
			t.Errorf("%s: the error has a password in it: %v", settings, err)
		}
	}
}

func TestDefaults(t *testing.T) {
	for settings, want := range map[string]string{
		`{"addresses": ["localhost", "[::1]", "127.0.0.1:7", "unix//run/r.sock", "/run/r.sock"]}`: "localhost:6379 [::1]:6379 127.0.0.1:7 /run/r.sock /run/r.sock",
		`{"addresses": ["localhost", "::1"], "sentinel": {"master": "m"}}`:                        "localhost:26379 [::1]:26379",
	} {
		r, _, _ := mustLoad(t, settings)
		if got := strings.Join(r.Addresses, " "); got != want {
			t.Errorf("%s: %s, want %s", settings, got, want)
		}
		if r.Prefix != "oauth" || r.Timeout != 2e9 || r.DialTimeout != 1e9 || r.Cache != 16 || r.PoolSize < 10 {
			t.Errorf("defaults: %+v", r)
		}
	}
}

// A missing or malformed file is an error before the config is in use.
func TestFilesOfTLS(t *testing.T) {
	for settings, want := range map[string]string{
		`{"ca": "/no/such/file"}`:                                 "tls: ca: ",
		`{"ca": "/dev/null"}`:                                     "tls: ca: expected a PEM file",
		`{"client_cert": "/no/such", "client_key": "/k"}`:         "tls: client_cert: ",
		`{"client_cert": "/dev/null", "client_key": "/dev/null"}`: "tls: client_cert: ",
	} {
		r, _, err := load(t, `{"addresses": ["a"], "tls": `+settings+`}`)
		if err == nil {
			_, err = r.Open("issuer")
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want one with %q", settings, err, want)
		}
	}
}

func FuzzAddress(f *testing.F) {
	for _, address := range []string{
		"localhost", "127.0.0.1:6379", "[::1]:6379", "::1", "unix//run/redis.sock", "redis://user:secret@host", ":1", "a:b:c", "[0]0",
		"fe80::1%eth0", "[fe80::1%eth0]:6379", "::%[",
	} {
		f.Add(address)
	}
	f.Fuzz(func(t *testing.T, address string) {
		full, err := fullAddress(address, portOfRedis)
		if err != nil {
			return
		}
		if again, err := fullAddress(full, portOfSentinel); err != nil || again != full {
			t.Errorf("%q is %q, and that is %q, %v", address, full, again, err)
		}
	})
}
