package caddystore

import (
	"bytes"
	"fmt"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// BenchmarkSyncedUpdate compares an update of the default store with replacing a value in Caddy's storage. Both sync to the disk. Go by
// the ratio. TMPDIR must be on a real disk:
//
//	TMPDIR=/var/tmp go test -run '^$' -bench SyncedUpdate -count 3 ./storage/caddy
func BenchmarkSyncedUpdate(b *testing.B) {
	value := bytes.Repeat([]byte("x"), 600)
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprintf("store/callers=%d", callers), func(b *testing.B) {
			store := New(&certmagic.FileStorage{Path: b.TempDir()}, "issuer")
			keys := make([]storage.Key, 64)
			for i := range keys {
				keys[i] = family("zzzz." + storage.HashID(strconv.Itoa(i)))
				if err := store.Put(b.Context(), keys[i], value, time.Time{}); err != nil {
					b.Fatal(err)
				}
			}
			var change storage.Change = func([]byte) ([]byte, time.Time, error) { return value, time.Time{}, nil }
			together(b, callers, len(keys), func(i int) error { return store.Update(b.Context(), keys[i], change) })
		})
		b.Run(fmt.Sprintf("certmagic/callers=%d", callers), func(b *testing.B) {
			files := &certmagic.FileStorage{Path: b.TempDir()}
			keys := make([]string, 64)
			for i := range keys {
				keys[i] = "oauth/hot/" + storage.HashID(strconv.Itoa(i))
				if err := files.Store(b.Context(), keys[i], value); err != nil {
					b.Fatal(err)
				}
			}
			together(b, callers, len(keys), func(i int) error { return files.Store(b.Context(), keys[i], value) })
		})
	}
}

// together runs an operation on n values from several goroutines, on different ones at a time.
func together(b *testing.B, callers, n int, operation func(i int) error) {
	b.Helper()
	b.SetParallelism(max(callers/runtime.GOMAXPROCS(0), 1))
	if callers == 1 {
		for i := 0; b.Loop(); i++ {
			if err := operation(i % n); err != nil {
				b.Fatal(err)
			}
		}
		return
	}
	var next atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := int(next.Add(1)) * 7; pb.Next(); i++ {
			if err := operation(i % n); err != nil {
				b.Error(err)
			}
		}
	})
}
