package redis

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/testport"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// startSentinel starts a Sentinel that monitors a Redis as "main".
func startSentinel(t *testing.T, over *server) *server {
	t.Helper()
	host, port, err := net.SplitHostPort(over.address)
	noError(t, err)
	own, dir := testport.New(t), t.TempDir()
	config := filepath.Join(dir, "sentinel.conf")
	noError(t, os.WriteFile(config, fmt.Appendf(nil, `port %s
bind 127.0.0.1
dir %s
logfile %s/log
user caddy on >of-the-sentinel allchannels +@all
user default on nopass allchannels +@all
sentinel monitor main %s %s 1
sentinel down-after-milliseconds main 3000
sentinel failover-timeout main 3000
`, own, dir, dir, host, port), 0o600))
	return startProgram(t, own, config, "--sentinel")
}

// The store finds Redis by its Sentinels, also after a failover.
func TestSentinel(t *testing.T) {
	t.Parallel()
	master := startServer(t, "--repl-diskless-sync-delay", "0")
	host, port, err := net.SplitHostPort(master.address)
	noError(t, err)
	replica := startServer(t, "--replicaof", host+" "+port)
	ctx := t.Context()
	role := func(s *server) string {
		info, _ := s.admin(t).Info(ctx, "replication").Result()
		return info
	}
	eventually(t, "the replica follows", func() bool { return strings.Contains(role(replica), "master_link_status:up") })
	sentinel := startSentinel(t, master)
	admin := sentinel.admin(t)
	eventually(t, "the Sentinel knows the replica", func() bool {
		known, err := admin.Do(ctx, "SENTINEL", "REPLICAS", "main").Slice()
		return err == nil && len(known) == 1
	})

	opened, err := open(&Redis{
		Addresses: []string{sentinel.address}, Sentinel: &Sentinel{Master: "main", Username: "caddy", Password: "of-the-sentinel"},
	}, "i")
	noError(t, err)
	s := opened.(*store)
	t.Cleanup(func() { _ = s.Destruct() })
	allWork(t, s)
	testWatch(t, s, s)
	e := watch(t, s, "few")
	noError(t, s.Put(ctx, aFamily, []byte("before"), never))
	noError(t, master.admin(t).Do(ctx, "WAIT", 1, 1000).Err())

	master.kill()
	eventually(t, "an Update finds the replica", func() bool {
		return s.Update(ctx, aFamily, func(old []byte) ([]byte, time.Time, error) {
			return append(old, " and after"...), never, nil
		}) == nil
	})
	wantValue(t, openStore(t, "i", replica.address), aFamily, "before and after")
	allWork(t, s)
	eventually(t, "it watches the replica", func() bool {
		if err := s.Put(ctx, storage.Key{Kind: "few", ID: "failed-over"}, nil, never); err != nil {
			return false
		}
		return e.count("failed-over") > 0
	})

	wrong, err := open(&Redis{
		Addresses: []string{sentinel.address}, Sentinel: &Sentinel{Master: "main", Username: "caddy", Password: "hunter2"},
	}, "i")
	noError(t, err)
	if _, err := wrong.Get(ctx, aFamily); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("with a wrong password for the Sentinel: %v", err)
	}
}
