package redis

import (
	"context"
	"flag"
	"iter"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/storetest"
)

func TestMain(m *testing.M) {
	storetest.Child(openAddress)
	if err := flag.Set("test.parallel", "8"); err != nil { // parallel tests wait most of the time
		panic(err)
	}
	os.Exit(m.Run())
}

// An address of the suite consists of how to store its kind, the issuer, and the addresses of Redis.
const asFew, asMany = "few", "many"

var never time.Time

var issuers atomic.Int64

// backend is a Redis at some addresses. Each test has its own issuer there.
func backend(as string, addresses ...string) storetest.Backend {
	return storetest.Backend{
		New: func(testing.TB) string {
			issuer := "issuer" + time.Now().Format("150405.000000") + "-" + string(rune('a'+issuers.Add(1)%26))
			return strings.Join(append([]string{as, issuer}, addresses...), " ")
		},
		Open:      openAddress,
		Processes: true,
	}
}

// openAddress opens a store with its own connection and cache, as another process would.
func openAddress(address string) (storage.Store, error) {
	parts := strings.Split(address, " ")
	store, err := open(&Redis{Addresses: parts[2:]}, parts[1])
	if err == nil && parts[0] == asMany {
		store = families{store}
	}
	return store, err
}

// open opens a store with a longer timeout than the default, because the machine may be slow and busy.
func open(r *Redis, issuer string) (storage.Store, error) {
	r.log = caddy.Log()
	if r.Timeout == 0 {
		r.Timeout = caddy.Duration(time.Minute)
	}
	if err := r.resolve(caddy.NewReplacer()); err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	secured, _, err := r.TLS.config()
	if err != nil {
		return nil, err
	}
	return newStore(r.newConnection(secured), r.Prefix, issuer, r.log), nil
}

// families stores the records of the suite's kind as families, which have no index.
type families struct{ storage.Store }

func asFamily(key storage.Key) storage.Key {
	key.Kind = familyKind(key.Kind)
	return key
}

func familyKind(kind storage.Kind) storage.Kind {
	if kind == "storetest" {
		return storage.KindFamily
	}
	return kind
}

func (f families) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	return f.Store.Get(ctx, asFamily(key))
}

func (f families) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	return f.Store.Put(ctx, asFamily(key), value, expires)
}

func (f families) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	return f.Store.Update(ctx, asFamily(key), change)
}

func (f families) Delete(ctx context.Context, key storage.Key) error {
	return f.Store.Delete(ctx, asFamily(key))
}

func (f families) List(ctx context.Context, kind storage.Kind) iter.Seq2[string, error] {
	return f.Store.List(ctx, familyKind(kind))
}

func (f families) Export(ctx context.Context) iter.Seq2[storage.Record, error] {
	return func(yield func(storage.Record, error) bool) {
		for record, err := range f.Store.(storage.Exporter).Export(ctx) {
			record.Key = asSuite(record.Key)
			if !yield(record, err) {
				return
			}
		}
	}
}

func (f families) Look(ctx context.Context, key storage.Key) (storage.Record, error) {
	record, err := f.Store.(storage.Exporter).Look(ctx, asFamily(key))
	record.Key = asSuite(record.Key)
	return record, err
}

func asSuite(key storage.Key) storage.Key {
	if key.Kind == storage.KindFamily {
		key.Kind = "storetest"
	}
	return key
}

func TestRedis(t *testing.T) { //nolint:tparallel // its subtests share servers
	t.Parallel()
	s := startServer(t)
	for _, as := range []string{asFew, asMany} {
		t.Run(as, func(t *testing.T) { storetest.Run(t, backend(as, s.address)) })
	}
}

func TestCluster(t *testing.T) { //nolint:tparallel // its subtests share servers
	t.Parallel()
	nodes := startCluster(t)
	for _, as := range []string{asFew, asMany} {
		t.Run(as, func(t *testing.T) {
			storetest.Run(t, backend(as, nodes[0].address, nodes[1].address))
		})
	}
}

func BenchmarkRedis(b *testing.B) {
	s := startServer(b)
	for _, as := range []string{asFew, asMany} {
		b.Run(as, func(b *testing.B) { storetest.Benchmark(b, backend(as, s.address)) })
	}
}
