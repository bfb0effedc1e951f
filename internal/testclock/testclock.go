// Package testclock has a clock for tests that stands still until a test moves it, and a store that goes by it.
package testclock

import (
	"sync/atomic"
	"time"
)

// Epoch is the time at which each [Clock] starts.
var Epoch = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// Clock is a clock that stands still until it is moved. Safe for concurrent use.
type Clock struct{ nanos atomic.Int64 }

// New returns a clock that shows Epoch.
func New() *Clock {
	c := new(Clock)
	c.nanos.Store(Epoch.UnixNano())
	return c
}

// Now returns the time that the clock shows.
func (c *Clock) Now() time.Time { return time.Unix(0, c.nanos.Load()) }

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) { c.nanos.Add(int64(d)) }
