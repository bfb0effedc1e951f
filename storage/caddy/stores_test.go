package caddystore

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

func TestOnFiles(t *testing.T)        { storetest.Run(t, onFileStorage()) }
func TestOnNetworkFiles(t *testing.T) { storetest.Run(t, onNetworkFiles()) }
func TestOnObjects(t *testing.T)      { storetest.Run(t, onObjects()) }
func BenchmarkFiles(b *testing.B)     { storetest.Benchmark(b, onFileStorage()) }
func BenchmarkObjects(b *testing.B)   { storetest.Benchmark(b, onObjects()) }

// onFileStorage is the default of Caddy.
func onFileStorage() storetest.Backend {
	return storetest.Backend{
		New:       testing.TB.TempDir,
		Open:      openFiles,
		Processes: true,
	}
}

func openFiles(dir string) (storage.Store, error) {
	return New(&certmagic.FileStorage{Path: dir}, "issuer"), nil
}

// onNetworkFiles is files that other machines see.
func onNetworkFiles() storetest.Backend {
	return storetest.Backend{
		New: testing.TB.TempDir,
		Open: func(dir string) (storage.Store, error) {
			s := New(&certmagic.FileStorage{Path: dir}, "issuer").(*store)
			s.backend.(*files).replaces = func() bool { return true }
			return s, nil
		},
	}
}

// onObjects is a storage that is no FileStorage, such as those over a network.
func onObjects() storetest.Backend {
	var storages sync.Map
	return storetest.Backend{
		New: func(tb testing.TB) string {
			tb.Helper()
			address := tb.TempDir() // a unique name
			storages.Store(address, newMapStorage())
			return address
		},
		Open: func(address string) (storage.Store, error) {
			on, _ := storages.Load(address)
			return New(on.(certmagic.Storage), "issuer"), nil
		},
	}
}
