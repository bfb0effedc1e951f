package load

import (
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	for d := time.Duration(1); d < time.Hour; d += d/7 + 1 {
		if got := middle(classOf(uint64(d))); got < d-d/50 || got > d+d/50 {
			t.Fatalf("%d is counted as %d", d, got)
		}
	}
	var h, other histogram
	for i := range 100 {
		h.observe(time.Duration(i+1) * time.Millisecond)
		other.observe(time.Duration(i+101) * time.Millisecond)
	}
	h.add(&other)
	for part, want := range map[float64]time.Duration{.5: 100 * time.Millisecond, .99: 198 * time.Millisecond, 1: 200 * time.Millisecond} {
		if got := h.quantile(part); got < want-want/50 || got > want+want/50 {
			t.Errorf("the quantile of %v is %v, want %v", part, got, want)
		}
	}
	if n := h.count(); n != 200 {
		t.Errorf("%d times were counted", n)
	}
	if got := new(histogram).quantile(.5); got != 0 {
		t.Errorf("the quantile of nothing is %v", got)
	}
}
