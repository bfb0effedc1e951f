package redis

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// recorder records the calls of a Watch.
type recorder struct {
	mu  sync.Mutex
	ids []string
}

func (e *recorder) record(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ids = append(e.ids, id)
}

func (e *recorder) count(id string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, seen := range e.ids {
		if seen == id {
			n++
		}
	}
	return n
}

// watch watches a kind until the test ends, and returns when Watch has begun.
func watch(t *testing.T, s *store, kind storage.Kind) *recorder {
	t.Helper()
	e := new(recorder)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Watch(ctx, kind, e.record) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch returns %v, want the end of its context", err)
		}
	})
	eventually(t, "it watches", func() bool { return e.count("") == 1 })
	return e
}

// testWatch tests that Watch reports the writes of another store.
func testWatch(t *testing.T, writer, watcher *store) {
	t.Helper()
	ctx := t.Context()
	e, other := watch(t, watcher, storage.KindCutoff), watch(t, watcher, storage.KindChange)
	key := func(id string) storage.Key { return storage.Key{Kind: storage.KindCutoff, ID: id} }
	soon := time.Now().Add(time.Hour)
	noError(t, writer.Put(ctx, key("put"), []byte("value"), soon))
	noError(t, writer.Update(ctx, key("updated"), to("value")))
	noError(t, writer.Update(ctx, key("kept"), func([]byte) ([]byte, time.Time, error) { return nil, never, storage.ErrKeep }))
	noError(t, writer.Delete(ctx, key("deleted")))
	noError(t, writer.Put(ctx, storage.Key{Kind: storage.KindClient, ID: "client"}, nil, soon))
	noError(t, writer.Put(ctx, storage.Key{Kind: storage.KindChange, ID: "last"}, nil, soon))
	eventually(t, "a notification of every write", func() bool {
		return e.count("put") == 1 && e.count("updated") == 1 && e.count("deleted") == 1 && other.count("last") == 1
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	if want := []string{"", "put", "updated", "deleted"}; !slices.Equal(e.ids, want) {
		t.Errorf("got notifications %q, want %q", e.ids, want)
	}
}

func TestWatch(t *testing.T) {
	server := startServer(t)
	testWatch(t, openStore(t, "i", server.address), openStore(t, "i", server.address))

	s := openStore(t, "i", server.address)
	if err := s.Watch(t.Context(), storage.KindFamily, func(string) {}); err == nil {
		t.Error("families are watched, want an error")
	}
	if err := s.Watch(t.Context(), "../x", func(string) {}); err == nil {
		t.Error("an unsafe kind is watched, want an error")
	}
}

func TestWatchCluster(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t)
	addresses := []string{nodes[0].address, nodes[1].address, nodes[2].address}
	for _, issuer := range []string{"one", "two", "three", "four"} { // they are on different nodes
		testWatch(t, openStore(t, issuer, addresses...), openStore(t, issuer, addresses...))
	}
}

// Watch replaces a connection that is lost or does not answer, and reports that changes may be missed.
func TestWatchAfterALoss(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	p := startProxy(t, server.address)
	s, direct := openStore(t, "i", p.address), openStore(t, "i", server.address)
	core, logs := observer.New(zap.InfoLevel)
	s.log = zap.New(core)
	e := watch(t, s, "few")
	p.closeAll()
	eventually(t, "it watches again", func() bool { return e.count("") >= 2 })
	noError(t, direct.Put(t.Context(), storage.Key{Kind: "few", ID: "after"}, nil, never))
	eventually(t, "it hears again", func() bool { return e.count("after") == 1 })

	server.kill()
	eventually(t, "the loss is in the log", func() bool { return logs.Len() >= 1 })
	server.start(t)
	times := e.count("")
	eventually(t, "it watches again", func() bool { return e.count("") > times })
	noError(t, direct.Put(t.Context(), storage.Key{Kind: "few", ID: "restarted"}, nil, never))
	eventually(t, "it hears again", func() bool { return e.count("restarted") == 1 })
	if n := logs.Len(); n > 8 {
		t.Errorf("%d lines in the log, want each cause once", n)
	}
}

// Watch replaces a connection that no longer carries data, as one that a firewall has dropped, but not one that is only idle.
func TestWatchOfASilentConnection(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	p := startProxy(t, server.address)
	opened, err := open(&Redis{Addresses: []string{p.address}, Timeout: caddy.Duration(10 * time.Second)}, "i")
	noError(t, err)
	s := opened.(*store)
	t.Cleanup(func() { _ = s.Destruct() })
	s.maxSilence = 3 * time.Second
	s.eviction.Do(func() {}) // Redis answers nothing but pings.
	e := watch(t, s, "few")
	answers := p.answers.Load()
	eventually(t, "the idle connection answers two pings", func() bool { return p.answers.Load() >= answers+2 })
	if n := e.count(""); n != 1 {
		t.Errorf("it has connected %d times, want once", n)
	}
	connections := p.made()
	p.mute.Store(true)
	eventually(t, "the connection is given up", func() bool { return p.made() > connections })
	p.mute.Store(false)
	eventually(t, "it watches again", func() bool { return e.count("") >= 2 })
}

func TestWarningOfEviction(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settings []string
		warns    bool
	}{
		"the default":           {nil, false},
		"no eviction":           {[]string{"--maxmemory", "100mb", "--maxmemory-policy", "noeviction"}, false},
		"eviction without need": {[]string{"--maxmemory", "0", "--maxmemory-policy", "allkeys-lru"}, false},
		"eviction":              {[]string{"--maxmemory", "100mb", "--maxmemory-policy", "volatile-ttl"}, true},
	} {
		server := startServer(t, c.settings...)
		s := openStore(t, "i", server.address)
		core, logs := observer.New(zap.InfoLevel)
		s.log = zap.New(core)
		one, two := watch(t, s, "few"), watch(t, s, "other")
		noError(t, s.Put(t.Context(), storage.Key{Kind: "few", ID: "id"}, nil, never))
		noError(t, s.Put(t.Context(), storage.Key{Kind: "other", ID: "id"}, nil, never))
		eventually(t, "both have looked", func() bool { return one.count("id")+two.count("id") == 2 })
		if n := logs.FilterMessageSnippet("set maxmemory-policy to noeviction").Len(); (n == 1) != c.warns || n > 1 {
			t.Errorf("%s: %d warnings", name, n)
		}
	}
}
