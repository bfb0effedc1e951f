package integration

import (
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/testneeds"
)

// Redis is a redis-server that writes nothing to disk unless its settings say so. A test can kill it and start it again.
type Redis struct {
	Address string
	Process *os.Process

	t       *testing.T
	command []string
	running *exec.Cmd
}

// StartRedis starts a redis-server with further settings. It runs until the test ends.
func StartRedis(t *testing.T, settings ...string) *Redis {
	t.Helper()
	program := testneeds.Program(t, "redis-server", "redis-server")
	r := &Redis{Address: NewAddress(t), t: t}
	host, port, err := net.SplitHostPort(r.Address)
	Must(t, err)
	r.command = append([]string{program, "--bind", host, "--port", port, "--save", "", "--dir", t.TempDir()}, settings...)
	r.Start()
	t.Cleanup(r.Kill)
	return r
}

// Store returns the setting of an issuer that keeps its records in it. The time limits end what hangs, and not what is slow because
// other programs keep the machine busy: the defaults would make that an error in the log.
func (r *Redis) Store() string {
	return "store redis " + r.Address + " {\n timeout 1m\n dial_timeout 1m\n }"
}

// Start starts it, and waits until it answers.
func (r *Redis) Start() {
	r.t.Helper()
	r.running = exec.Command(r.command[0], r.command[1:]...) //nolint:gosec,noctx // a constant, with the settings of a test; Kill ends it
	Must(r.t, r.running.Start())
	r.Process = r.running.Process
	Eventually(r.t, "Redis answers", func() bool {
		conn, err := (&net.Dialer{Timeout: Patience}).DialContext(r.t.Context(), "tcp", r.Address)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
}

// Kill kills it, if it is running.
func (r *Redis) Kill() {
	_ = r.running.Process.Kill() // It may have ended.
	_ = r.running.Wait()         // The error says that it was killed.
}
