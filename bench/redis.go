package main

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/testport"
)

// redisProgram must be installed for the rows with a Redis.
const redisProgram = "redis-server"

// redis is a redis-server that writes nothing to disk. It runs on any processor, since its time is not measured.
type redis struct {
	address string
	cmd     *exec.Cmd
}

func startRedis(ctx context.Context, dir string) (*redis, error) {
	path, err := exec.LookPath(redisProgram)
	if err != nil {
		return nil, fmt.Errorf("install %s for this row: %w", redisProgram, err)
	}
	port, release, err := testport.Pick()
	if err != nil {
		return nil, err
	}
	defer release() // it listens then, or has failed
	address := "127.0.0.1:" + port
	cmd := exec.Command(path, "--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", "", "--appendonly", "no") //nolint:gosec,noctx // constants; stop ends it
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r := &redis{address, cmd}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			return r, conn.Close()
		}
		select {
		case <-ctx.Done():
			r.stop()
			return nil, fmt.Errorf("%s does not answer: %w", redisProgram, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (r *redis) stop() {
	_ = r.cmd.Process.Kill() // it may have ended
	_ = r.cmd.Wait()         // the error says that it was killed
}
