package crash_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// figures are what all clients have seen.
type figures struct {
	flows, refreshes, answers, unavailable atomic.Int64

	lost     atomic.Int64 // connections that broke
	repaired atomic.Int64 // refreshes of which the answer was lost and could be had again
	anew     atomic.Int64 // codes of which the answer was lost, so that the app began anew

	forgotten atomic.Int64 // families that the store has forgotten, and so everybody else
	ended     atomic.Int64 // families that a spent token or a used code has ended

	mu                       sync.Mutex
	slowest, slowestRefusals time.Duration
}

func (f *figures) answered(took time.Duration) {
	f.answers.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.slowest = max(f.slowest, took)
}

func (f *figures) refused(took time.Duration) {
	f.unavailable.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.slowestRefusals = max(f.slowestRefusals, took)
}

func (f *figures) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("%d code flows, %d refreshes, %d families ended by a replay; "+
		"%d connections broke, %d lost refreshes repaired by retry, %d lost codes begun anew; "+
		"%d forgotten; %d answers, the slowest in %v; %d times unavailable, told in %v at most",
		f.flows.Load(), f.refreshes.Load(), f.ended.Load(), f.lost.Load(), f.repaired.Load(), f.anew.Load(),
		f.forgotten.Load(), f.answers.Load(), f.slowest.Round(time.Millisecond), f.unavailable.Load(), f.slowestRefusals.Round(time.Millisecond))
}
