package slowstorage_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oauth/caddy-oauth/integration/slowstorage"
	"github.com/caddy-oauth/caddy-oauth/storage"
	caddystore "github.com/caddy-oauth/caddy-oauth/storage/caddy"
	"github.com/caddy-oauth/caddy-oauth/storage/storetest"
)

const (
	latency = 100 * time.Microsecond
	lease   = 500 * time.Millisecond
)

func TestMain(m *testing.M) {
	storetest.Child(open)
	if root := os.Getenv(envHold); root != "" {
		hold(root)
	}
	os.Exit(m.Run())
}

const envHold = "CADDY_OAUTH_TEST_HOLD"

// hold is a process that takes a lock, prints that, and never releases it.
func hold(root string) {
	if err := slowstorage.New(root, 0, 0).Lock(context.Background(), "held"); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("locked")
	_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed, or the test has ended
	os.Exit(1)
}

func open(root string) (storage.Store, error) {
	return caddystore.New(slowstorage.New(root, latency, lease), "issuer"), nil
}

func newRoot(tb testing.TB) string {
	tb.Helper()
	return tb.TempDir()
}

// The default store passes the suite of all stores on this storage, also with several processes.
func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Backend{
		New:       newRoot,
		Open:      open,
		Processes: true,
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLock(t *testing.T) {
	root := t.TempDir()
	var inside atomic.Int64 // atomic, since the race detector does not know that the lock excludes the others
	var nodes sync.WaitGroup
	for range 8 {
		s := slowstorage.New(root, latency, 0)
		nodes.Go(func() {
			for range 25 {
				if err := s.Lock(t.Context(), "a lock/of ours"); err != nil {
					t.Error(err)
					return
				}
				if inside.Add(1) != 1 {
					t.Error("two holders of one lock")
				}
				inside.Add(-1)
				if err := s.Unlock(t.Context(), "a lock/of ours"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	nodes.Wait()
}

func TestLockGivesUp(t *testing.T) {
	root := t.TempDir()
	must(t, slowstorage.New(root, 0, 0).Lock(t.Context(), "held"))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := slowstorage.New(root, 0, 0).Lock(ctx, "held"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lock of a held lock: %v, want the end of the context", err)
	}
	must(t, slowstorage.New(root, 0, 0).Lock(t.Context(), "other"))
}

// The lock of a killed process is released at the end of its lease, and not before.
func TestLockOfKilledProcess(t *testing.T) {
	root := t.TempDir()
	holder := exec.CommandContext(t.Context(), os.Args[0])
	holder.Env = append(os.Environ(), envHold+"="+root)
	_, err := holder.StdinPipe()
	must(t, err)
	said, err := holder.StdoutPipe()
	must(t, err)
	before := time.Now()
	must(t, holder.Start())
	if line, err := bufio.NewReader(said).ReadString('\n'); line != "locked\n" {
		t.Fatalf("the holder printed %q, error %v", line, err)
	}
	must(t, holder.Process.Kill())
	_ = holder.Wait() // it was killed
	must(t, slowstorage.New(root, 0, time.Second).Lock(t.Context(), "held"))
	if took := time.Since(before); took < time.Second {
		t.Errorf("locked again %s after the holder locked it, want a second", took)
	}
}

func TestFaults(t *testing.T) {
	root := t.TempDir()
	s := slowstorage.New(root, 0, 0)
	must(t, s.Store(t.Context(), "a/b", []byte("value")))
	must(t, slowstorage.Begin(root, slowstorage.Fails, "Store"))
	if err := s.Store(t.Context(), "a/b", nil); !errors.Is(err, slowstorage.ErrFault) {
		t.Errorf("Store: %v, want ErrFault", err)
	}
	if value, err := s.Load(t.Context(), "a/b"); err != nil || string(value) != "value" {
		t.Errorf("Load: %q %v, want the value from before the failure", value, err)
	}
	must(t, slowstorage.End(root, slowstorage.Fails))

	must(t, slowstorage.Begin(root, slowstorage.Hangs, ""))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Load(ctx, "a/b"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Load: %v, want the end of the context", err)
	}
	must(t, slowstorage.End(root, slowstorage.Hangs))

	must(t, slowstorage.Begin(root, slowstorage.Slow, "30ms"))
	start := time.Now()
	if _, err := s.Load(t.Context(), "a/b"); err != nil || time.Since(start) < 30*time.Millisecond {
		t.Errorf("Load: %v after %s", err, time.Since(start))
	}
}

func TestListAndDelete(t *testing.T) {
	s := slowstorage.New(t.TempDir(), 0, 0)
	if _, err := s.List(t.Context(), "a", true); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("List of a missing directory: %v", err)
	}
	for _, key := range []string{"a/b", "a/c/d", "e"} {
		must(t, s.Store(t.Context(), key, nil))
	}
	for recursive, want := range map[bool][]string{false: {"a/b", "a/c"}, true: {"a/b", "a/c", "a/c/d"}} {
		if keys, err := s.List(t.Context(), "a", recursive); err != nil || !slices.Equal(keys, want) {
			t.Errorf("recursive %v: %q %v, want %q", recursive, keys, err, want)
		}
	}
	must(t, s.Delete(t.Context(), "a"))
	if s.Exists(t.Context(), "a/c/d") || !s.Exists(t.Context(), "e") {
		t.Error("Delete has not removed the directory, or has removed its neighbor")
	}
}

func TestCaddyfile(t *testing.T) {
	var module slowstorage.Module
	must(t, module.UnmarshalCaddyfile(caddyfile.NewTestDispenser("test_slow here {\n latency 2ms\n lease 1s\n }")))
	want := slowstorage.Module{Root: "here", Latency: caddy.Duration(2 * time.Millisecond), Lease: caddy.Duration(time.Second)}
	if module != want {
		t.Errorf("%+v, want %+v", module, want)
	}
	for _, bad := range []string{"test_slow", "test_slow a b", "test_slow a {\n latency\n }", "test_slow a {\n speed 1s\n }"} {
		if module.UnmarshalCaddyfile(caddyfile.NewTestDispenser(bad)) == nil {
			t.Errorf("%q: expected an error", bad)
		}
	}
}

// The module is for tests only, so cmd/caddy must not contain it.
func TestIsNotInCaddy(t *testing.T) {
	const own = "github.com/caddy-oauth/caddy-oauth/"
	linked, err := exec.CommandContext(t.Context(), "go", "list", "-deps", own+"cmd/caddy").Output()
	must(t, err)
	if list := string(linked); !strings.Contains(list, own+"storage") || strings.Contains(list, own+"integration") {
		t.Errorf("cmd/caddy contains it:\n%s", list)
	}
}
