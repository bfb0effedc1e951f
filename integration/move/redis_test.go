package move

import (
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// startRedis starts a redis-server that keeps nothing on disk, and returns its address.
func startRedis(t *testing.T) (address string) {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CADDY_OAUTH_TEST_REQUIRE") == "all" {
			t.Fatal(err)
		}
		t.Skip("install redis-server to run this test")
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	address = l.Addr().String()
	must(t, l.Close())
	cmd := exec.Command(program, "--port", integration.Port(address), "--bind", "127.0.0.1", //nolint:noctx // it is killed when the test ends
		"--dir", t.TempDir(), "--save", "", "--appendonly", "no")
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // says that it was killed
	})
	integration.Eventually(t, "redis-server answers", func() bool {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
	return address
}
