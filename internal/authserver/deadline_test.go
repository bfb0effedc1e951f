package authserver

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

type deadlineTestKey struct{}

func newDeadline(parent context.Context) *deadline {
	return &deadline{Context: parent, at: time.Now().Add(time.Second)}
}

func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waited, asked := newDeadline(t.Context()), newDeadline(t.Context())
		if waited.Err() != nil || asked.Err() != nil {
			t.Fatal("it has ended before its time")
		}
		began := time.Now()
		<-waited.Done()
		if time.Since(began) != time.Second || !errors.Is(waited.Err(), context.DeadlineExceeded) {
			t.Errorf("it has ended after %s with %v", time.Since(began), waited.Err())
		}
		if !errors.Is(asked.Err(), context.DeadlineExceeded) {
			t.Errorf("one that nobody waited for has %v", asked.Err())
		}
		waited.stop()
	})
}

func TestDeadlineEndsWithItsParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancel(context.WithValue(t.Context(), deadlineTestKey{}, "value"))
		waited, asked := newDeadline(parent), newDeadline(parent)
		goroutines := runtime.NumGoroutine()
		below, cancelBelow := context.WithCancel(waited)
		defer cancelBelow()
		if runtime.NumGoroutine() != goroutines {
			t.Error("a context below it has a goroutine")
		}
		if waited.Value(deadlineTestKey{}) != "value" || asked.Value(deadlineTestKey{}) != "value" {
			t.Error("it lacks the values of its parent")
		}
		cancel()
		<-below.Done()
		for _, ctx := range []context.Context{waited, asked, below} {
			if !errors.Is(ctx.Err(), context.Canceled) {
				t.Errorf("it has %v", ctx.Err())
			}
		}
	})
}

func TestDeadlineIsTheEarlierOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soon := time.Now().Add(time.Millisecond)
		parent, cancel := context.WithDeadline(t.Context(), soon)
		defer cancel()
		if at, ok := newDeadline(parent).Deadline(); !ok || !at.Equal(soon) {
			t.Errorf("the deadline is %s, want %s", at, soon)
		}
		if at, ok := newDeadline(t.Context()).Deadline(); !ok || !at.Equal(time.Now().Add(time.Second)) {
			t.Errorf("the deadline is %s", at)
		}
	})
}
