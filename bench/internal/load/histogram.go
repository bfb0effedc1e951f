package load

import (
	"math/bits"
	"time"
)

// histogram counts durations in classes, each within 2 % of the next. So its size does not depend on how long a run takes.
type histogram [classes]uint32

const (
	fine    = 6 // how many bits after the highest one of a number of nanoseconds determine its class
	classes = (64 - fine + 1) << fine
)

func classOf(nanos uint64) int {
	exponent := bits.Len64(nanos) - 1 - fine
	if exponent <= 0 {
		return int(nanos)
	}
	return exponent<<fine + int(nanos>>exponent)
}

// middle returns a duration in the middle of a class.
func middle(class int) time.Duration {
	exponent := class>>fine - 1
	if exponent <= 0 {
		return time.Duration(class)
	}
	lowest := uint64(class&(1<<fine-1)|1<<fine) << exponent
	return time.Duration(lowest + 1<<exponent/2)
}

func (h *histogram) observe(d time.Duration) { h[classOf(uint64(max(d, 0)))]++ }

func (h *histogram) add(other *histogram) {
	for class, n := range other {
		h[class] += n
	}
}

func (h *histogram) count() (n int) {
	for _, in := range h {
		n += int(in)
	}
	return n
}

// quantile returns the duration that a part of all durations do not exceed.
func (h *histogram) quantile(part float64) time.Duration {
	before, want := 0, part*float64(h.count())
	for class, n := range h {
		before += int(n)
		if n > 0 && float64(before) >= want {
			return middle(class)
		}
	}
	return 0
}
