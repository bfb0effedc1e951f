package dump_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/caddy-oauth/caddy-oauth/storage"
	caddystore "github.com/caddy-oauth/caddy-oauth/storage/caddy"
	"github.com/caddy-oauth/caddy-oauth/storage/dump"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

// fill puts n families of the usual size into a store.
func fill(b *testing.B, store storage.Store, n int) {
	b.Helper()
	for range n {
		f := &storage.Family{
			Client: "app", Subject: "alice", Scopes: []string{"profile", "orders"}, Audience: []string{"https://example.com"},
			Claims: map[string]any{"email": "alice@example.com"}, Started: time.Now(), Ends: time.Now().Add(30 * 24 * time.Hour),
		}
		_, key := f.Start(0)
		record, err := f.Encode()
		noError(b, err)
		noError(b, store.Put(b.Context(), key, record, f.Ends))
	}
}

// One operation is one record. The second import finds all records in the store already.
func BenchmarkMove(b *testing.B) {
	for name, open := range map[string]func(b *testing.B) storage.Store{
		"memory": func(*testing.B) storage.Store { return memory.New() },
		"files": func(b *testing.B) storage.Store {
			b.Helper()
			return caddystore.New(&certmagic.FileStorage{Path: b.TempDir()}, "default")
		},
	} {
		b.Run(name, func(b *testing.B) {
			store, to := open(b), open(b)
			fill(b, store, b.N)
			var text bytes.Buffer
			run := func(what string, do func() error) {
				began := time.Now()
				noError(b, do())
				b.ReportMetric(float64(time.Since(began).Microseconds())/float64(b.N), what+"-µs/record")
			}
			run("export", func() error {
				_, err := dump.Write(&text, dump.Header{}, store.(storage.Exporter).Export(b.Context()))
				return err
			})
			for _, what := range []string{"import", "again"} {
				run(what, func() error {
					d, err := dump.NewReader(bytes.NewReader(text.Bytes()))
					noError(b, err)
					_, err = dump.Import(b.Context(), to, d.Records(), what == "again")
					return err
				})
			}
			b.ReportMetric(float64(text.Len())/float64(b.N), "B/record")
		})
	}
}
