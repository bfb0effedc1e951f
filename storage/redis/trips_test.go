package redis

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// trips records the round trips of a client, except those that set up a connection.
type trips struct {
	mu   sync.Mutex
	made []string
}

func countTrips(s *store) *trips {
	t := new(trips)
	s.client.AddHook(t)
	return t
}

// take returns the recorded round trips and resets them.
func (t *trips) take() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	made := strings.Join(t.made, ", ")
	t.made = nil
	return made
}

func (t *trips) note(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.made = append(t.made, what)
}

func (t *trips) DialHook(next goredis.DialHook) goredis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (t *trips) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		if name := cmd.Name(); name != "hello" {
			t.note(name)
		}
		return next(ctx, cmd)
	}
}

func (t *trips) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error {
		names := make([]string, 0, len(cmds))
		for _, cmd := range cmds {
			names = append(names, cmd.Name())
		}
		if name := strings.Join(names, "+"); name != "client" {
			t.note(name)
		}
		return next(ctx, cmds)
	}
}

func TestRoundTrips(t *testing.T) {
	server := startServer(t)
	ctx := t.Context()
	s, other := openStore(t, "i", server.address), openStore(t, "i", server.address)
	made := countTrips(s)
	few := storage.Key{Kind: storage.KindCutoff, ID: "zzzz.id"}
	keep := func([]byte) ([]byte, time.Time, error) { return nil, time.Time{}, storage.ErrKeep }
	list := func(kind storage.Kind) func() error {
		return func() (err error) {
			for _, err = range s.List(ctx, kind) {
			}
			return err
		}
	}
	get := func(key storage.Key) func() error {
		return func() error { _, err := s.Get(ctx, key); return err }
	}
	put := func(key storage.Key) func() error {
		return func() error { return s.Put(ctx, key, []byte("value"), time.Now().Add(time.Hour)) }
	}
	update := func(key storage.Key, change storage.Change) func() error {
		return func() error { return s.Update(ctx, key, change) }
	}
	byOther := func(key storage.Key) { noError(t, other.Update(ctx, key, to("of another"))) }

	for _, step := range []struct {
		name   string
		before func()
		do     func() error
		want   string
	}{
		{"the first script", nil, put(few), "evalsha, eval"},
		{"Put", nil, put(aFamily), "set"},
		{"Put of an indexed kind", nil, put(few), "evalsha"},
		{"Get", nil, get(aFamily), "get"},
		{"Get of an indexed kind", nil, get(few), "evalsha, eval"},
		{"Get of an indexed kind again", nil, get(few), "evalsha"},
		{"List", nil, list(few.Kind), "eval+zrange"},
		{"Update of a record that this store put", nil, update(aFamily, to("a")), "evalsha"},
		{"Update of a record that this store updated", nil, update(aFamily, to("b")), "evalsha"},
		{"Update that keeps", nil, update(aFamily, keep), "get"},
		{"Update of a record that another store changed", func() { byOther(aFamily) }, update(aFamily, to("c")), "evalsha, evalsha"},
		{"Update that keeps a record that another store changed", func() { byOther(aFamily) }, update(aFamily, keep), "get"},
		{"Update after that", nil, update(aFamily, to("d")), "evalsha"},
		{"Update of a record that is not cached", func() { s.cache.drop(s.keys(aFamily)[0]) }, update(aFamily, to("e")), "get, evalsha"},
		{"Update of an indexed kind", nil, update(few, to("a")), "evalsha, evalsha"},
		{"Update that keeps an indexed kind", nil, update(few, keep), "evalsha"},
		{"Delete", nil, func() error { return s.Delete(ctx, aFamily) }, "unlink"},
		{"Delete of an indexed kind", nil, func() error { return s.Delete(ctx, few) }, "evalsha"},
	} {
		if step.before != nil {
			step.before()
		}
		made.take()
		if err := step.do(); err != nil && !errors.Is(err, storage.ErrKeep) {
			t.Errorf("%s: %v", step.name, err)
		}
		if got := made.take(); got != step.want {
			t.Errorf("%s: %s, want %s", step.name, got, step.want)
		}
	}
}

// A refresh sends the new record and the stamp of the old one, and gets no record back.
func TestUpdateSendsLittle(t *testing.T) {
	server := startServer(t)
	ctx := t.Context()
	s, admin := openStore(t, "i", server.address), server.admin(t)
	value := strings.Repeat("x", 700)
	noError(t, s.Put(ctx, aFamily, []byte(value), time.Time{}))
	noError(t, s.Update(ctx, aFamily, to(value)))
	before := traffic(t, admin)
	const rounds = 100
	for range rounds {
		noError(t, s.Update(ctx, aFamily, to(value)))
	}
	after := traffic(t, admin)
	in, out := (after[0]-before[0])/rounds, (after[1]-before[1])/rounds
	if in > len(value)+300 || out > 100 {
		t.Errorf("%d bytes to Redis and %d back for a value of %d", in, out, len(value))
	}
}
