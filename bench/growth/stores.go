package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"

	"github.com/caddy-oauth/caddy-oauth/storage"
	caddystore "github.com/caddy-oauth/caddy-oauth/storage/caddy"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
	"github.com/caddy-oauth/caddy-oauth/storage/redis"
)

// stores opens stores of one kind.
type stores struct {
	// open opens the store with a name.
	open func(name string) (storage.Store, error)
	// usage returns the size of a store, and the number of its files.
	usage func(ctx context.Context, name string) (bytes, files int64, err error)
	// close closes all stores.
	close func()
}

func openStores(o *options, dir string) (*stores, error) {
	switch o.store {
	case "file":
		return filesIn(dir), nil
	case "memory":
		return inMemory(), nil
	case "redis":
		return inRedis(o.redis)
	}
	return nil, fmt.Errorf("there is no store %q, expected file, redis or memory", o.store)
}

func filesIn(dir string) *stores {
	return &stores{
		open: func(name string) (storage.Store, error) {
			return caddystore.New(&certmagic.FileStorage{Path: filepath.Join(dir, "storage")}, name), nil
		},
		usage: func(_ context.Context, name string) (bytes, files int64, err error) {
			err = filepath.WalkDir(filepath.Join(dir, "storage", "oauth", name), func(_ string, entry fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				info, err := entry.Info()
				if err != nil {
					return err
				}
				bytes += onDisk(info)
				if !entry.IsDir() {
					files++
				}
				return nil
			})
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			return bytes, files, err
		},
		close: func() {},
	}
}

func inMemory() *stores {
	return &stores{
		open: func(string) (storage.Store, error) { return memory.New(), nil },
		usage: func(context.Context, string) (int64, int64, error) {
			var stats runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&stats)
			return int64(stats.HeapAlloc), 0, nil //nolint:gosec // G115: no heap is that large
		},
		close: func() {},
	}
}

func inRedis(address string) (*stores, error) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	module := &redis.Redis{Addresses: []string{address}, Prefix: "growth" + strconv.Itoa(os.Getpid())}
	if err := module.Provision(ctx); err != nil {
		cancel()
		return nil, err
	}
	return &stores{
		open: module.Open,
		usage: func(ctx context.Context, _ string) (int64, int64, error) {
			bytes, err := redisMemory(ctx, module.Addresses[0])
			return bytes, 0, err
		},
		close: func() {
			_ = module.Cleanup() // the process exits anyway
			cancel()
		},
	}, nil
}

// redisMemory returns how much memory a Redis uses.
func redisMemory(ctx context.Context, address string) (int64, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }() // all was read
	if _, err := fmt.Fprint(conn, "INFO memory\r\nQUIT\r\n"); err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "used_memory:"); ok {
			return strconv.ParseInt(text, 10, 64)
		}
	}
	return 0, errors.New("redis: the answer to INFO memory has no used_memory")
}
