package storage_test

import (
	"os"
	"sync"
	"testing"

	"github.com/caddyserver/certmagic"

	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/storetest"
)

func TestMain(m *testing.M) {
	powerUser()
	storetest.Child(openFiles)
	os.Exit(m.Run())
}

func TestCaddyOverFiles(t *testing.T)   { storetest.Run(t, files()) }
func TestCaddyOverNetwork(t *testing.T) { storetest.Run(t, network()) }
func TestCaddyOverLocks(t *testing.T)   { storetest.Run(t, locks()) }
func BenchmarkCaddyFiles(b *testing.B)  { storetest.Benchmark(b, files()) }
func BenchmarkCaddyLocks(b *testing.B)  { storetest.Benchmark(b, locks()) }

// files is the default of Caddy.
func files() storetest.Backend {
	return storetest.Backend{
		New:       func(tb testing.TB) string { return tb.TempDir() },
		Open:      openFiles,
		Processes: true,
	}
}

func openFiles(dir string) (storage.Store, error) {
	return storage.OpenCaddy(&certmagic.FileStorage{Path: dir}, "issuer"), nil
}

// network is files that other machines see.
func network() storetest.Backend {
	return storetest.Backend{
		New:  func(tb testing.TB) string { return tb.TempDir() },
		Open: func(dir string) (storage.Store, error) { return storage.OpenReplacing(dir), nil },
	}
}

// locks is a storage that is no FileStorage, as those over a network are.
func locks() storetest.Backend {
	var storages sync.Map
	return storetest.Backend{
		New: func(tb testing.TB) string {
			address := tb.TempDir()
			storages.Store(address, newMapStorage())
			return address
		},
		Open: func(address string) (storage.Store, error) {
			cs, _ := storages.Load(address)
			return storage.OpenCaddy(cs.(certmagic.Storage), "issuer"), nil
		},
	}
}
