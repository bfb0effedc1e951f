// Package throttle bounds how often somebody can guess a secret or present invalid tokens. Each client, account and
// address may fail a number of times at once, and gets those failures back over time. Successes cost nothing.
//
// Start reading at [Limiter], which is what an issuer uses. [Throttle] is the memory behind it, which survives a reload
// of the configuration. Limits.withDefaults has the defaults.
//
// Its callers are: for secrets of clients Authenticator.compare in internal/clients, and for their assertions and certificates the files
// key.go and certificate.go there; for passwords the type throttled in internal/authserver/password.go; for codes and tokens
// tokenEndpoint in internal/authserver/token.go; for access tokens at guards Monitor in internal/bearer.
package throttle

import (
	"container/heap"
	"slices"
	"strings"
	"sync"
	"time"
)

// Throttle remembers failures of a bounded number of clients, accounts and addresses. Safe for concurrent use.
type Throttle struct {
	mu       sync.RWMutex
	memories map[space]*memory

	known knownAddresses
}

// space names a memory. Each issuer and kind has memories of its own for accounts and for addresses, so that what fills
// one memory pushes nothing out of another.
type space struct {
	issuer    string
	kind      Kind
	addresses bool
}

// key is whose failures are counted together. Keys stay in memory, so a string that a request can make long must be
// hashed first.
type key struct {
	issuer  string
	kind    Kind
	account string // a client ID, or the hash of a user name; "" for anybody at the address
	address string // "" for the account at any address
}

func (k key) space() space { return space{k.issuer, k.kind, k.account == ""} }

// limited is a key with its limit.
type limited struct {
	key   key
	limit Limit
}

// Limit is how many failures are allowed at once, and how long it takes to get one back.
type Limit struct {
	Burst int
	Every time.Duration
}

const maxBuckets = 20_000 // in each memory

// New returns an empty Throttle.
func New() *Throttle {
	return &Throttle{memories: make(map[space]*memory), known: knownAddresses{of: make(map[key][]string)}}
}

// wait returns how long to wait until every limit allows an attempt, 0 for not at all. It only looks, so that any
// number of attempts that will succeed can run at once.
func (t *Throttle) wait(now time.Time, limits []limited) time.Duration {
	t.mu.RLock()
	failed := slices.ContainsFunc(limits, func(l limited) bool { return t.find(l.key) != nil })
	t.mu.RUnlock()
	if !failed {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.waitLocked(now, limits)
}

func (t *Throttle) waitLocked(now time.Time, limits []limited) (wait time.Duration) {
	for _, l := range limits {
		if b := t.find(l.key); b != nil {
			t.memories[l.key.space()].adjust(b, now, l.limit)
			wait = max(wait, b.wait(now, l.limit))
		}
	}
	return wait
}

// reserve counts a failure with every limit, which giveBack takes back, or with none and says how long to wait.
func (t *Throttle) reserve(now time.Time, limits []limited) (reserved []*bucket, wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if wait := t.waitLocked(now, limits); wait > 0 {
		return nil, wait // without a new bucket: refused attempts must not push failures out of memory
	}
	return t.addLocked(now, limits), 0
}

// giveBack takes back the failures that reserve counted.
func (t *Throttle) giveBack(now time.Time, reserved []*bucket) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range reserved {
		b.free = b.free.Add(-b.every)
		if b.place != forgotten {
			t.memories[b.key.space()].moved(b, now)
		}
	}
}

// charge counts a failure. It counts attempts that were already running when the limit was reached too, at most as many
// as the burst: nothing more is allowed until time has made up for them.
func (t *Throttle) charge(now time.Time, limits []limited) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addLocked(now, limits)
}

func (t *Throttle) addLocked(now time.Time, limits []limited) (counted []*bucket) {
	counted = make([]*bucket, 0, len(limits))
	for _, l := range limits {
		m := t.memories[l.key.space()]
		if m == nil {
			m = &memory{buckets: make(map[key]*bucket)}
			t.memories[l.key.space()] = m
		}
		counted = append(counted, m.add(now, l))
	}
	return counted
}

// find returns the bucket of a key, nil if it has none.
func (t *Throttle) find(k key) *bucket {
	if m := t.memories[k.space()]; m != nil {
		return m.buckets[k]
	}
	return nil
}

// bucket counts the failures of one key, as the time it takes to make up for them.
type bucket struct {
	key   key
	every time.Duration // what makes up for one failure
	free  time.Time     // when time has made up for all of them
	place int           // in the memory
}

const forgotten = -1 // the place of a bucket that is in no memory any more

// debt returns how much time must pass to make up for all failures.
func (b *bucket) debt(now time.Time) time.Duration { return max(0, b.free.Sub(now)) }

// wait returns how long to wait for the next attempt.
func (b *bucket) wait(now time.Time, limit Limit) time.Duration {
	return max(0, b.debt(now)-time.Duration(limit.Burst-1)*limit.Every)
}

// memory is a bounded number of buckets. When it is full, it forgets the one for whose failures time makes up first. So an
// exhausted limit stays, whatever number of others fail once.
type memory struct {
	buckets map[key]*bucket
	order   order
}

// add counts a failure.
func (m *memory) add(now time.Time, l limited) *bucket {
	b, ok := m.buckets[l.key]
	if !ok {
		m.makeRoom(now)
		k := l.key
		k.address = strings.Clone(k.address) // it can be a part of a header, all of which would stay in memory
		b = &bucket{key: k, every: l.limit.Every, free: now}
		m.buckets[k] = b
		heap.Push(&m.order, b)
	}
	m.adjust(b, now, l.limit)
	most := 2 * time.Duration(l.limit.Burst) * l.limit.Every
	b.free = now.Add(min(b.debt(now)+b.every, most))
	heap.Fix(&m.order, b.place)
	return b
}

// makeRoom forgets a bucket if the memory is full, and one or two that are of no use any more.
func (m *memory) makeRoom(now time.Time) {
	for range 2 {
		if n := len(m.order); n > 0 && (n >= maxBuckets || m.order[0].debt(now) == 0) {
			m.forget(m.order[0])
		}
	}
}

func (m *memory) forget(b *bucket) {
	heap.Remove(&m.order, b.place)
	delete(m.buckets, b.key)
	b.place = forgotten
}

// adjust gives a bucket the limit of the current configuration, which a reload may have changed. The number of failures
// stays.
func (m *memory) adjust(b *bucket, now time.Time, limit Limit) {
	if b.every == limit.Every {
		return
	}
	failures := float64(b.debt(now)) / float64(b.every)
	b.every = limit.Every
	b.free = now.Add(time.Duration(min(failures, 2*float64(limit.Burst)) * float64(limit.Every)))
	heap.Fix(&m.order, b.place)
}

// moved puts a bucket with fewer failures in its place, and forgets it if it has none.
func (m *memory) moved(b *bucket, now time.Time) {
	if b.debt(now) == 0 {
		m.forget(b)
		return
	}
	heap.Fix(&m.order, b.place)
}

// order is a heap of buckets: the first is the one for whose failures time makes up first.
type order []*bucket

func (o order) Len() int           { return len(o) }
func (o order) Less(i, j int) bool { return o[i].free.Before(o[j].free) }

func (o order) Swap(i, j int) {
	o[i], o[j] = o[j], o[i]
	o[i].place, o[j].place = i, j
}

// Push implements heap.Interface.
func (o *order) Push(b any) {
	added := b.(*bucket)
	added.place = len(*o)
	*o = append(*o, added)
}

// Pop implements heap.Interface.
func (o *order) Pop() any {
	last := len(*o) - 1
	b := (*o)[last]
	(*o)[last] = nil
	*o = (*o)[:last]
	return b
}
