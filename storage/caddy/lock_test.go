package caddystore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

func TestExplainFileLock(t *testing.T) {
	for _, cause := range []error{syscall.ENOLCK, syscall.ENOSYS, &fs.PathError{Op: "Lock", Err: errors.ErrUnsupported}} {
		err := explainFileLock("/data/locks/00", cause)
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), "does not support file locks") ||
			!strings.Contains(err.Error(), "/data/locks/00") {
			t.Errorf("%v is explained as %q", cause, err)
		}
	}
	err := explainFileLock("/data/locks/00", syscall.EACCES)
	if !errors.Is(err, syscall.EACCES) || strings.Contains(err.Error(), "support") {
		t.Errorf("EACCES is explained as %q", err)
	}
}

// deafStorage has a lock that ignores the context, as the interface of certmagic allows.
type deafStorage struct {
	certmagic.FileStorage
	lock     chan struct{}
	unlocked chan error // the context's state in Unlock
}

func (s *deafStorage) Lock(context.Context, string) error {
	s.lock <- struct{}{}
	return nil
}

func (s *deafStorage) Unlock(ctx context.Context, _ string) error {
	<-s.lock
	s.unlocked <- ctx.Err()
	return nil
}

// A request gives up when its context ends. If it gets the lock later, it releases the lock.
func TestLockThatIgnoresContext(t *testing.T) {
	cs := &deafStorage{
		FileStorage: certmagic.FileStorage{Path: t.TempDir()},
		lock:        make(chan struct{}, 1),
		unlocked:    make(chan error, 100),
	}
	store := New(cs, "issuer")
	key := family("zzzz.id")
	cs.lock <- struct{}{} // another request holds it
	before := runtime.NumGoroutine()
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		err := store.Update(ctx, key, func([]byte) ([]byte, time.Time, error) {
			return nil, time.Time{}, errors.New("a change ran without the lock")
		})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got error %v, want DeadlineExceeded", err)
		}
	}
	// Of the requests that gave up, only one still waits for the lock.
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine()-before > 5; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines wait for one lock", runtime.NumGoroutine()-before)
		}
	}

	<-cs.lock
	if err := <-cs.unlocked; err != nil {
		t.Errorf("the lock was released with an ended context: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	noError(t, store.Put(ctx, key, nil, time.Time{}))
	if err := store.Delete(ctx, key); err != nil {
		t.Fatalf("the lock is lost: %v", err)
	}
}

// A lock is released even if the request ends while it holds the lock.
func TestUnlockAfterCancel(t *testing.T) {
	cs := &deafStorage{
		FileStorage: certmagic.FileStorage{Path: t.TempDir()},
		lock:        make(chan struct{}, 1),
		unlocked:    make(chan error, 1),
	}
	ctx, cancel := context.WithCancel(t.Context())
	_ = New(cs, "issuer").Update(ctx, family("zzzz.id"), func([]byte) ([]byte, time.Time, error) {
		cancel()
		return nil, time.Time{}, storage.ErrKeep
	})
	if err := <-cs.unlocked; err != nil {
		t.Errorf("unlocked with an ended context: %v", err)
	}
}

// lastingStorage has a lock whose release fails at times.
type lastingStorage struct {
	certmagic.FileStorage
	lock  chan struct{}
	fails atomic.Bool
	tried atomic.Int64
}

func (s *lastingStorage) Lock(ctx context.Context, _ string) error {
	select {
	case s.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *lastingStorage) Unlock(context.Context, string) error {
	s.tried.Add(1)
	if s.fails.Load() {
		return errors.New("the storage is down")
	}
	<-s.lock
	return nil
}

// A record does not stay locked because the storage was down when its lock was to be released.
func TestUnlockThatFails(t *testing.T) {
	cs := &lastingStorage{FileStorage: certmagic.FileStorage{Path: t.TempDir()}, lock: make(chan struct{}, 1)}
	on, key := New(cs, "issuer").(*store), family("zzzz.id")
	keep := func([]byte) ([]byte, time.Time, error) { return nil, time.Time{}, storage.ErrKeep }
	cs.fails.Store(true)
	noError(t, on.Update(t.Context(), key, keep))
	short, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if err := on.Update(short, key, keep); err == nil {
		t.Error("the record is not locked")
	}
	tried := cs.tried.Load()
	for cs.tried.Load() == tried { // without a request
		time.Sleep(time.Millisecond)
	}
	cs.fails.Store(false)
	patient, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 2 {
		if err := on.Update(patient, key, keep); err != nil {
			t.Fatalf("the record stays locked: %v", err)
		}
	}
	if held := &on.backend.(*objects).held; len(held.names) != 0 {
		t.Errorf("%v are still to be released", held.names)
	}
}

// Nothing retries in the background once the config has ended.
func TestUnlockRetriesEndWithTheConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cs := &lastingStorage{FileStorage: certmagic.FileStorage{Path: t.TempDir()}, lock: make(chan struct{}, 1)}
		cs.fails.Store(true)
		ctx, end := context.WithCancel(t.Context())
		store := openModule(t, &Caddy{ctx: ctx, on: cs, log: caddy.Log()}, "unlock")
		update := func([]byte) ([]byte, time.Time, error) { return nil, time.Time{}, storage.ErrKeep }
		noError(t, store.Update(t.Context(), family("zzzz.id"), update))
		tried := cs.tried.Load()
		time.Sleep(time.Minute)
		if cs.tried.Load() == tried {
			t.Error("nothing retries while the config runs")
		}
		end()
		synctest.Wait()
		tried = cs.tried.Load()
		time.Sleep(2 * time.Hour)
		if n := cs.tried.Load() - tried; n > 0 {
			t.Errorf("%d retries after the config has ended", n)
		}
	})
}

// If somebody deletes the folder of the issuer while two stores use it, both continue with the same locks and records.
func TestFolderIsDeleted(t *testing.T) {
	dir := t.TempDir()
	open := func() *store { return New(&certmagic.FileStorage{Path: dir}, "issuer").(*store) }
	one, two := open(), open()
	key := family("zzzz.id")
	count := func(store storage.Store) {
		t.Helper()
		update(t, store, key, func(old []byte) ([]byte, time.Time, error) { return append(old, 'x'), time.Time{}, nil })
	}
	for range 3 {
		count(one)
		count(two)
		want(t, one, key, "xx")
		unlock, err := one.lock(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, err := two.lock(ctx, key); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("two stores hold the lock of one record: %v", err)
		}
		cancel()
		unlock()
		noError(t, os.RemoveAll(filepath.Join(dir, "oauth")))
	}
}

// The store closes its files.
func TestFilesAreClosed(t *testing.T) {
	open := func() int {
		entries, err := os.ReadDir("/dev/fd")
		if err != nil && runtime.GOOS != "windows" {
			t.Fatal(err)
		}
		return len(entries)
	}
	store, _ := onFiles(t, family("zzzz.id"))
	before := open()
	for i := range 200 {
		key := family(fmt.Sprintf("zzzz.%d", i))
		update(t, store, key, setTo("value"))
		update(t, store, key, setTo("value"))
		want(t, store, key, "value")
		func() {
			defer func() { _ = recover() }()
			_ = store.Update(t.Context(), key, func([]byte) ([]byte, time.Time, error) { panic("in change") })
		}()
		_ = store.Update(t.Context(), key, func([]byte) ([]byte, time.Time, error) { return nil, time.Time{}, storage.ErrKeep })
	}
	sweep(t, store)
	if after := open(); after > before+5 {
		t.Errorf("%d files are open, %d were", after, before)
	}
}
