package storetest

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// promptly is how soon the lock of a killed process must be free, on a busy machine. A lock that times out takes longer.
const promptly = 9 * time.Second

func runProcesses(t *testing.T, b Backend) {
	t.Run("one winner", func(t *testing.T) { testProcessesWinner(t, b) })
	t.Run("one counter", func(t *testing.T) { testProcessesCounter(t, b) })
	t.Run("readers see whole values", func(t *testing.T) { testProcessesReaders(t, b) })
	t.Run("killed in a Put", func(t *testing.T) { testKilledPut(t, b) })
	if b.LocksOutlive {
		return
	}
	t.Run("killed with the lock", func(t *testing.T) { testKilledHolder(t, b) })
	t.Run("killed in an Update", func(t *testing.T) { testKilledUpdate(t, b) })
	if canStop {
		t.Run("stopped with the lock", func(t *testing.T) { testStoppedHolder(t, b) })
	}
}

func testProcessesWinner(t *testing.T, b Backend) {
	address, key := b.New(t), freshKey()
	children := startAll(t, address, roleWin, key, 6)
	var winners []string
	for _, child := range children {
		if child.line() == "won" {
			winners = append(winners, child.name)
		}
	}
	if len(winners) != 1 {
		t.Fatalf("winners: %v, want one of %d", winners, len(children))
	}
	wantValue(t, b.open(t, address), key, winners[0])
}

func testProcessesCounter(t *testing.T, b Backend) {
	address, key := b.New(t), freshKey()
	const processes = 4
	children := startAll(t, address, roleCount, key, processes)
	store, ctx := b.open(t, address), testContext(t)
	for range countRounds {
		noError(t, count(ctx, store, key))
	}
	for _, child := range children {
		if line := child.line(); line != "done" {
			t.Fatalf("%s prints %q", child.name, line)
		}
	}
	wantValue(t, store, key, strconv.Itoa((processes+1)*countRounds))
}

// testProcessesReaders reads a record while other processes update it.
func testProcessesReaders(t *testing.T, b Backend) {
	address, key := b.New(t), freshKey()
	ctx := testContext(t)
	noError(t, b.open(t, address).Put(ctx, key, countedValue(0), never))
	const processes = 2
	children := startAll(t, address, roleCountUp, key, processes)
	done := make(chan struct{})
	var reading sync.WaitGroup
	for range 4 {
		store := b.open(t, address)
		reading.Go(func() {
			if err := readCounted(ctx, store, key, done); err != nil {
				t.Error(err)
			}
		})
	}
	for _, child := range children {
		if line := child.line(); line != "done" {
			t.Errorf("%s prints %q", child.name, line)
		}
	}
	close(done)
	reading.Wait()
	wantValue(t, b.open(t, address), key, string(countedValue(processes*countUpRounds)))
}

// testKilledHolder kills a process inside its change. The next one must find the old value and a free lock.
func testKilledHolder(t *testing.T, b Backend) {
	address, key := b.New(t), freshKey()
	store := b.open(t, address)
	noError(t, store.Put(testContext(t), key, []byte("old"), never))

	child := startAll(t, address, roleHold, key, 1)[0]
	if line := child.line(); line != "inside" {
		t.Fatalf("the child prints %q", line)
	}
	// A store without locks lets this through.
	short, cancel := context.WithTimeout(testContext(t), 50*time.Millisecond)
	defer cancel()
	err := store.Update(short, key, set("old"))
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Update while a process holds the lock: %v", err)
	}

	child.kill()
	wantValue(t, store, key, "old")
	updatePromptly(t, store, key)
}

// testStoppedHolder stops a process inside its change. Those that wait for it must give up in time, and must not block others after
// the process has ended.
func testStoppedHolder(t *testing.T, b Backend) {
	address, key := b.New(t), freshKey()
	store := b.open(t, address)
	child := startAll(t, address, roleHold, key, 1)[0]
	if line := child.line(); line != "inside" {
		t.Fatalf("the child prints %q", line)
	}
	noError(t, stop(child.cmd.Process))
	for range 3 {
		var waiters sync.WaitGroup
		for range 10 {
			waiters.Go(func() {
				short, cancel := context.WithTimeout(testContext(t), 50*time.Millisecond)
				defer cancel()
				err := store.Update(short, key, set("passed"))
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Update while the holder is stopped: %v", err)
				}
			})
		}
		waiters.Wait()
	}
	if _, err := store.Get(testContext(t), key); err != nil && !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get while the holder is stopped: %v", err)
	}
	child.kill()
	updatePromptly(t, store, key)
}

// testKilledUpdate kills processes that alternate a record between two large values.
func testKilledUpdate(t *testing.T, b Backend) {
	address, key := b.New(t), freshKey()
	store := b.open(t, address)
	for round := range 4 {
		child := startAll(t, address, roleFlip, key, 1)[0]
		for range 5 + 3*round {
			if line := child.line(); line != "flipped" {
				t.Fatalf("the child prints %q", line)
			}
		}
		child.kill()
		value, err := store.Get(testContext(t), key)
		noError(t, err)
		if s := string(value); s != flipValue("a") && s != flipValue("b") {
			t.Fatalf("a killed process left half a record: %d bytes, %q", len(s), brief(s))
		}
		updatePromptly(t, store, key)
	}
}

// testKilledPut kills a process that puts records and prints the ID after each. None of those may be lost.
func testKilledPut(t *testing.T, b Backend) {
	address := b.New(t)
	store := b.open(t, address)
	child := startAll(t, address, rolePut, freshKey(), 1)[0]
	var ids []string //nolint:prealloc // the child decides how many there are
	for range 20 {
		ids = append(ids, child.line())
	}
	ids = append(ids, child.kill()...)
	for _, id := range ids {
		wantValue(t, store, storage.Key{Kind: testKind, ID: id}, "value of "+id)
	}
	if listed := list(t, store, testKind); len(listed) < len(ids) || len(listed) > len(ids)+1 {
		t.Errorf("%d records listed, %d were put", len(listed), len(ids))
	}
}

func updatePromptly(t *testing.T, store storage.Store, key storage.Key) {
	t.Helper()
	ctx, cancel := context.WithTimeout(testContext(t), promptly)
	defer cancel()
	if err := store.Update(ctx, key, set("next")); err != nil {
		t.Fatalf("Update after the holder of the lock was killed: %v", err)
	}
	wantValue(t, store, key, "next")
}

func flipValue(letter string) string { return strings.Repeat(letter, 1<<18) }
