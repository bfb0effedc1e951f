package authserver

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// tally counts requests for the admin API, which is there for those who collect no metrics.
type tally struct {
	since  time.Time
	byKind sync.Map // of *atomic.Int64 by Count without N
}

// Count is how often requests to an endpoint had a result: "ok" or an error code.
type Count struct {
	Endpoint  string `json:"endpoint"`
	GrantType string `json:"grant_type,omitempty"`
	Result    string `json:"result"`
	N         int64  `json:"count"`
}

func (t *tally) add(endpoint, grantType, result string) {
	key := Count{Endpoint: endpoint, GrantType: grantType, Result: result}
	n, ok := t.byKind.Load(key)
	if !ok {
		n, _ = t.byKind.LoadOrStore(key, new(atomic.Int64))
	}
	n.(*atomic.Int64).Add(1)
}

// counts returns what was counted, in a fixed order.
func (t *tally) counts() []Count {
	list := []Count{}
	t.byKind.Range(func(key, n any) bool {
		count := key.(Count)
		count.N = n.(*atomic.Int64).Load()
		list = append(list, count)
		return true
	})
	slices.SortFunc(list, func(a, b Count) int {
		return cmp.Or(cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.GrantType, b.GrantType), cmp.Compare(a.Result, b.Result))
	})
	return list
}
