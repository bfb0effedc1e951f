package redis

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/caddy-oauth/caddy-oauth/internal/testneeds"
	"github.com/caddy-oauth/caddy-oauth/internal/testport"
)

// server is a redis-server started by a test.
type server struct {
	address string
	args    []string
	cmd     *exec.Cmd
}

// startServer starts a redis-server without persistence, with further settings.
func startServer(tb testing.TB, settings ...string) *server {
	tb.Helper()
	port, dir := testport.New(tb), tb.TempDir()
	return startProgram(tb, port, append([]string{
		"--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "no",
		"--logfile", filepath.Join(dir, "log"), "--daemonize", "no",
	}, settings...)...)
}

// startProgram starts a redis-server with arguments.
func startProgram(tb testing.TB, port string, args ...string) *server {
	tb.Helper()
	s := &server{address: "127.0.0.1:" + port, args: args}
	s.start(tb)
	tb.Cleanup(s.kill)
	return s
}

func (s *server) start(tb testing.TB) {
	tb.Helper()
	s.cmd = exec.Command(redisProgram(tb, "redis-server"), s.args...) //nolint:noctx // it is killed when the test ends
	if err := s.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	eventually(tb, "redis-server answers", func() bool {
		conn, err := net.Dial("tcp", s.address) //nolint:noctx // it is on this machine
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
}

func (s *server) kill() {
	_ = s.cmd.Process.Kill() // it may have exited
	_ = s.cmd.Wait()         // its error is that it was killed
}

// admin returns a client of the server for the test itself.
func (s *server) admin(tb testing.TB) *goredis.Client {
	tb.Helper()
	client := goredis.NewClient(&goredis.Options{Addr: s.address})
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

// redisProgram returns the path of a program of Redis, or skips the test.
func redisProgram(tb testing.TB, name string) string {
	tb.Helper()
	return testneeds.Program(tb, name, "redis-server")
}

// eventually waits for a condition.
func eventually(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	for end := time.Now().Add(2 * time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("after two minutes it is not so that %s", what)
		}
	}
}

// startCluster starts three masters, and returns when each knows the others.
func startCluster(tb testing.TB) []*server {
	tb.Helper()
	const slots, nodes = 16384, 3
	servers := make([]*server, nodes)
	ctx := tb.Context()
	for i := range servers {
		servers[i] = startServer(tb,
			"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "10000")
		first, last := i*slots/nodes, (i+1)*slots/nodes-1
		if err := servers[i].admin(tb).ClusterAddSlotsRange(ctx, first, last).Err(); err != nil {
			tb.Fatal(err)
		}
	}
	for i, s := range servers {
		admin := s.admin(tb)
		if err := admin.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			tb.Fatal(err)
		}
		host, port, _ := net.SplitHostPort(servers[0].address)
		if err := admin.ClusterMeet(ctx, host, port).Err(); err != nil {
			tb.Fatal(err)
		}
	}
	for _, s := range servers {
		client := s.admin(tb)
		eventually(tb, "each node knows the whole Cluster", func() bool {
			info, err := client.ClusterInfo(ctx).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok") &&
				strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", nodes)) &&
				strings.Contains(info, fmt.Sprintf("cluster_slots_ok:%d", slots))
		})
	}
	return servers
}

// traffic returns how many bytes the server has received and sent.
func traffic(tb testing.TB, admin *goredis.Client) (bytes [2]int) {
	tb.Helper()
	info, err := admin.InfoMap(tb.Context(), "stats").Result()
	if err != nil {
		tb.Fatal(err)
	}
	for i, name := range []string{"total_net_input_bytes", "total_net_output_bytes"} {
		if bytes[i], err = strconv.Atoi(info["Stats"][name]); err != nil {
			tb.Fatal(err)
		}
	}
	return bytes
}
