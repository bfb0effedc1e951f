package redis

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// operations has one operation of each method, for kinds with and without an index.
func operations(s *store) map[string]func(context.Context) error {
	few := storage.Key{Kind: "few", ID: "id"}
	list := func(kind storage.Kind) func(context.Context) error {
		return func(ctx context.Context) (err error) {
			for _, err = range s.List(ctx, kind) {
			}
			return err
		}
	}
	all := map[string]func(context.Context) error{
		"List": list("few"), "List of families": list(storage.KindFamily),
		"Export": func(ctx context.Context) (err error) {
			for _, err = range s.Export(ctx) {
			}
			return err
		},
	}
	for name, key := range map[string]storage.Key{"": few, " of a family": aFamily} {
		all["Get"+name] = func(ctx context.Context) error { _, err := s.Get(ctx, key); return err }
		all["Look"+name] = func(ctx context.Context) error { _, err := s.Look(ctx, key); return err }
		all["Put"+name] = func(ctx context.Context) error { return s.Put(ctx, key, []byte("value"), time.Time{}) }
		all["Update"+name] = func(ctx context.Context) error { return s.Update(ctx, key, to("value")) }
		all["Delete"+name] = func(ctx context.Context) error { return s.Delete(ctx, key) }
	}
	return all
}

func isRecordError(err error) bool { return err == nil || errors.Is(err, storage.ErrNotFound) }

// soon is far less than the time limits of stores that open has opened, and far more than a busy machine needs.
const soon = 20 * time.Second

// allFail expects each operation to fail soon.
func allFail(t *testing.T, s *store) {
	t.Helper()
	for name, do := range operations(s) {
		began := time.Now()
		if err := do(t.Context()); isRecordError(err) {
			t.Errorf("%s: got error %v, want that of a closed connection", name, err)
		}
		if took := time.Since(began); took > soon {
			t.Errorf("%s: failed after %s, want %s at most", name, took, soon)
		}
	}
}

func allWork(t *testing.T, s *store) {
	t.Helper()
	for name, do := range operations(s) {
		if err := do(t.Context()); !isRecordError(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A restarted Redis has forgotten the scripts and the connections. Callers do not notice.
func TestRestart(t *testing.T) {
	server := startServer(t)
	s := openStore(t, "i", server.address)
	allWork(t, s)
	server.kill()
	server.start(t)
	allWork(t, s)

	noError(t, server.admin(t).ScriptFlush(t.Context()).Err())
	allWork(t, s)
}

func TestGone(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	s := openStore(t, "i", server.address)
	allWork(t, s)
	server.kill()
	allFail(t, s)

	never := openStore(t, "i", server.address) // has never connected
	allFail(t, never)

	server.start(t)
	for _, store := range []*store{s, never} {
		eventually(t, "it works again", func() bool { _, err := store.Get(t.Context(), aFamily); return isRecordError(err) })
		allWork(t, store)
	}
}

// A value of others is a damaged record until it is overwritten or deleted.
func TestForeignValues(t *testing.T) {
	server := startServer(t)
	s, admin := openStore(t, "i", server.address), server.admin(t)
	ctx := t.Context()
	for _, key := range []storage.Key{aFamily, {Kind: "few", ID: "id"}} {
		name := s.keys(key)[0]
		for what, put := range map[string]func() error{
			"nothing": func() error { return admin.Set(ctx, name, "", 0).Err() },
			"a text":  func() error { return admin.Set(ctx, name, "somebody else's text", 0).Err() },
			"short":   func() error { return admin.Set(ctx, name, "\x01short", 0).Err() },
			"a list":  func() error { return admin.LPush(ctx, name, "one", "two").Err() },
		} {
			repairs := map[string]func() error{
				"Put":    func() error { return s.Put(ctx, key, []byte("new"), time.Time{}) },
				"Delete": func() error { return s.Delete(ctx, key) },
			}
			for with, repair := range repairs {
				noError(t, admin.Del(ctx, name).Err())
				noError(t, put())
				if _, err := s.Get(ctx, key); !errors.Is(err, storage.ErrDamaged) {
					t.Errorf("%s: Get: %v, want ErrDamaged", what, err)
				}
				if err := s.Update(ctx, key, to("x")); !errors.Is(err, storage.ErrDamaged) {
					t.Errorf("%s: Update: %v, want ErrDamaged", what, err)
				}
				s.cache.put(name, newRecord([]byte("remembered"), never))
				if err := s.Update(ctx, key, to("x")); !errors.Is(err, storage.ErrDamaged) {
					t.Errorf("%s: Update of a cached record: %v, want ErrDamaged", what, err)
				}
				if err := repair(); err != nil {
					t.Errorf("%s, %s: %v", what, with, err)
				}
				if err := s.Update(ctx, key, to("x")); err != nil {
					t.Errorf("%s, after a %s: %v", what, with, err)
				}
				wantValue(t, s, key, "x")
			}
		}
	}
}

// A Redis without free memory refuses writes that need some, and accepts those that free some.
func TestFull(t *testing.T) {
	server := startServer(t, "--maxmemory-policy", "noeviction")
	s, admin := openStore(t, "i", server.address), server.admin(t)
	ctx := t.Context()
	allWork(t, s)
	noError(t, s.Put(ctx, aFamily, []byte("before"), time.Time{}))
	noError(t, admin.ConfigSet(ctx, "maxmemory", "1").Err())
	if err := s.Update(ctx, aFamily, to("after")); err == nil {
		t.Error("an Update in a full Redis: no error")
	}
	wantValue(t, s, aFamily, "before")
	noError(t, s.Delete(ctx, aFamily))
	noError(t, admin.ConfigSet(ctx, "maxmemory", "0").Err())
	allWork(t, s)
}
