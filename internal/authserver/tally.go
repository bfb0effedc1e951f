package authserver

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// tally counts requests for the admin API, which is there for those who collect no metrics.
type tally struct {
	since  time.Time
	byKind growing[Count, *atomic.Int64] // by Count without N
}

// Count is how often requests to an endpoint had a result: "ok" or an error code.
type Count struct {
	Endpoint  string `json:"endpoint"`
	GrantType string `json:"grant_type,omitempty"`
	Result    string `json:"result"`
	N         int64  `json:"count"`
}

func (t *tally) add(endpoint, grantType, result string) {
	t.byKind.of(Count{Endpoint: endpoint, GrantType: grantType, Result: result}, newCount).Add(1)
}

func newCount(Count) *atomic.Int64 { return new(atomic.Int64) }

// counts returns what was counted, in a fixed order.
func (t *tally) counts() []Count {
	all := t.byKind.all()
	list := make([]Count, 0, len(all))
	for count, n := range all {
		count.N = n.Load()
		list = append(list, count)
	}
	slices.SortFunc(list, func(a, b Count) int {
		return cmp.Or(cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.GrantType, b.GrantType), cmp.Compare(a.Result, b.Result))
	})
	return list
}
