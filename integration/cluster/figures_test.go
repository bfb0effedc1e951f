package cluster_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// figures are the figures of a test.
type figures struct {
	machines, broken, down    atomic.Int64
	flows, lost, refreshes    atomic.Int64
	reloads, stops, rotations int

	mu          sync.Mutex
	latencies   []time.Duration // how long it took to get an answer, with repeats
	revocations []time.Duration // how long each revoked token was still accepted, for each node
}

func (f *figures) answered(after time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.latencies = append(f.latencies, after)
}

func (f *figures) refused(after time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revocations = append(f.revocations, after)
}

// String returns the figures as a text.
func (f *figures) String(kills int64) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%d approvals, %d refreshes, %d answers to clients that know all nodes\n",
		f.flows.Load(), f.refreshes.Load(), len(f.latencies))
	fmt.Fprintf(&b, "%d reloads, %d stops, %d kills, %d keys made by the owner\n", f.reloads, f.stops, kills, f.rotations)
	fmt.Fprintf(&b, "%d times a node was down, %d times a connection broke; the answers to %d codes were lost\n",
		f.down.Load(), f.broken.Load(), f.lost.Load())
	fmt.Fprintf(&b, "time to an answer: %s\n", spread(f.latencies))
	fmt.Fprintf(&b, "time until a node refused a revoked token: %s\n", spread(f.revocations))
	return b.String()
}

// spread returns the median, the 99th percentile and the maximum.
func spread(all []time.Duration) string {
	if len(all) == 0 {
		return "(nothing)"
	}
	slices.Sort(all)
	at := func(share float64) time.Duration {
		return all[int(share*float64(len(all)-1))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("%s (median), %s (99 %%), %s (longest)", at(0.5), at(0.99), at(1))
}
