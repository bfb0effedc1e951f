package crash_test

import (
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// redisServer is a Redis that a test starts, stops and starts again.
type redisServer struct {
	t       *testing.T
	address string
	path    string
	args    []string
	process *exec.Cmd
}

// startRedis starts a Redis until the test is over, with further settings.
func startRedis(t *testing.T, settings ...string) *redisServer {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CADDY_OAUTH_TEST_REQUIRE") == "all" {
			t.Fatal(err)
		}
		t.Skip("install redis-server to run this test")
	}
	r := &redisServer{t: t, address: integration.FreeAddress(t), path: path}
	host, port, err := net.SplitHostPort(r.address)
	must(t, err)
	r.args = append([]string{"--bind", host, "--port", port, "--save", "", "--dir", t.TempDir()}, settings...)
	r.start()
	t.Cleanup(r.kill)
	return r
}

func (r *redisServer) start() {
	r.t.Helper()
	r.process = exec.Command(r.path, r.args...) //nolint:noctx // see kill
	must(r.t, r.process.Start())
	integration.Eventually(r.t, "Redis answers", func() bool {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(r.t.Context(), "tcp", r.address)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
}

func (r *redisServer) kill() {
	_ = r.process.Process.Kill() // it may have ended
	_ = r.process.Wait()         // it says that it was killed
}

// hang has it accept connections, say nothing and do nothing until it goes on.
func (r *redisServer) hang() { must(r.t, pause(r.process.Process)) }

func (r *redisServer) goOn() { must(r.t, resume(r.process.Process)) }
