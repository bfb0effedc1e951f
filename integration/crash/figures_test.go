package crash_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// figures count what all clients have seen.
type figures struct {
	flows, refreshes, answers, unavailable atomic.Int64

	lost     atomic.Int64 // connections that broke
	repaired atomic.Int64 // refreshes whose answer was lost, and which a retry repaired
	anew     atomic.Int64 // codes whose answer was lost, so that the app had to ask for another one

	forgotten atomic.Int64 // families that the store has lost
	ended     atomic.Int64 // families that the reuse of a token or a code has revoked

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
	return fmt.Sprintf("%d code flows, %d refreshes, %d families revoked by reuse; "+
		"%d connections broke, %d lost refreshes repaired by retry, %d lost codes replaced by new ones; "+
		"%d families lost; %d answers, the slowest in %v; %d answers were 503, the slowest in %v",
		f.flows.Load(), f.refreshes.Load(), f.ended.Load(), f.lost.Load(), f.repaired.Load(), f.anew.Load(),
		f.forgotten.Load(), f.answers.Load(), f.slowest.Round(time.Millisecond), f.unavailable.Load(), f.slowestRefusals.Round(time.Millisecond))
}
