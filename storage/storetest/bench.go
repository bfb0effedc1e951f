package storetest

import (
	"bytes"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Benchmark measures each method with one caller, and Update with as many as there are processors,
// on records of the size of a family.
func Benchmark(b *testing.B, backend Backend) {
	value := bytes.Repeat([]byte("x"), 600)
	expires := time.Now().Add(time.Hour)
	var change storage.Change = func([]byte) ([]byte, time.Time, error) { return value, expires, nil }

	b.Run("Put", func(b *testing.B) {
		store, ctx := backend.fresh(b), b.Context()
		b.ReportAllocs()
		for b.Loop() {
			noError(b, store.Put(ctx, freshKey(), value, expires))
		}
	})
	b.Run("Get", func(b *testing.B) {
		store, ctx, key := backend.fresh(b), b.Context(), freshKey()
		noError(b, store.Put(ctx, key, value, expires))
		b.ReportAllocs()
		for b.Loop() {
			_, err := store.Get(ctx, key)
			noError(b, err)
		}
	})
	b.Run("Update", func(b *testing.B) {
		store, ctx, key := backend.fresh(b), b.Context(), freshKey()
		b.ReportAllocs()
		for b.Loop() {
			noError(b, store.Update(ctx, key, change))
		}
	})
	b.Run("UpdateParallel", func(b *testing.B) {
		store, ctx := backend.fresh(b), b.Context()
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			key := freshKey()
			for pb.Next() {
				if err := store.Update(ctx, key, change); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("UpdateContended", func(b *testing.B) {
		store, ctx, key := backend.fresh(b), b.Context(), freshKey()
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := store.Update(ctx, key, change); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
