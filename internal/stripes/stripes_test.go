package stripes

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"testing"
)

// Processes of other versions must find the same stripe.
func TestStripeIsKept(t *testing.T) {
	for i := range 1000 {
		kind, id := "family", fmt.Sprint("zzzz.", i)
		sum := crc32.ChecksumIEEE([]byte(kind + "/" + id))
		if got := Of(kind, id); got != uint8(sum%Count) {
			t.Fatalf("%s/%s is in stripe %d, want %d", kind, id, got, sum%Count)
		}
	}
}

// All stripes are used about evenly.
func TestStripesSpread(t *testing.T) {
	used := map[uint8]int{}
	for i := range 10000 {
		used[Of("family", fmt.Sprint("zzzz.", i))]++
	}
	for n, keys := range used {
		if keys > 100 {
			t.Errorf("stripe %d has %d keys of 10000", n, keys)
		}
	}
	if len(used) != Count {
		t.Errorf("%d stripes are used, want %d", len(used), Count)
	}
}

func TestWaiterGivesUp(t *testing.T) {
	s := New()
	if err := s.Lock(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		if err := s.Lock(ctx, 7); !errors.Is(err, context.Canceled) {
			t.Errorf("a locked stripe: %v", err)
		}
		if err := s.Lock(ctx, 8); !errors.Is(err, context.Canceled) { // never by chance
			t.Errorf("a free stripe: %v", err)
		}
	}
	s.Unlock(7)
	if err := s.Lock(t.Context(), 7); err != nil {
		t.Error(err)
	}
}

// unawaited is a context that nobody may wait for.
type unawaited struct {
	context.Context
	t *testing.T
}

// Done implements context.Context.
func (c unawaited) Done() <-chan struct{} {
	c.t.Error("somebody waits for the end of the context")
	return nil
}

func TestFreeStripeIsNotWaitedFor(t *testing.T) {
	if err := New().Lock(unawaited{t.Context(), t}, 7); err != nil {
		t.Error(err)
	}
}
