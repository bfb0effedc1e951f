package revocation

import (
	"container/heap"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// index finds cutoffs by what they void. It takes in one cutoff, and drops one, without looking at the others.
type index struct {
	// known are the cutoffs by the IDs of their records. A store may list a record for a while that has expired: such a record
	// is known as nil, so that it is not read again.
	known   map[string]*storage.Cutoff
	expiry  expiryHeap // of those that expire
	inForce int        // how many are not nil
	entries map[target]entry
}

// entry is what one or more cutoffs say about the same thing.
type entry struct {
	before  time.Time // what began up to then is void
	expires time.Time // when the entry goes; zero: never
}

// target is what a cutoff is about: one of a token, a family, a user, a client, and a user at a client.
type target struct{ token, family, subject, client string }

func targetOf(c *storage.Cutoff) target {
	switch {
	case c.Token != "":
		return target{token: c.Token}
	case c.Family != "":
		return target{family: c.Family}
	}
	return target{subject: c.Subject, client: c.Client}
}

func newIndex() index {
	return index{known: make(map[string]*storage.Cutoff), entries: make(map[target]entry)}
}

// add takes in the cutoff with the record of that ID, nil for a record that has expired. Of two with the same ID, the later one
// counts.
func (x *index) add(id string, c *storage.Cutoff, now time.Time) {
	old := x.known[id]
	switch {
	case c == nil || c.Expired(now):
		x.known[id] = old
		return
	case old != nil && !c.Before.After(old.Before):
		return
	case old == nil:
		x.inForce++
	}
	x.known[id] = c
	if !c.Expires.IsZero() {
		heap.Push(&x.expiry, expiring{c.Expires, id})
	}
	if targetOf(c) != (target{}) { // one about nothing voids nothing
		x.extend(c)
	}
}

// extend adds a cutoff to the entry of what it is about. The entry lasts as long as the cutoff that lasts longest: what began
// before an earlier end has expired by then.
func (x *index) extend(c *storage.Cutoff) {
	e, ok := x.entries[targetOf(c)]
	if c.Before.After(e.before) {
		e.before = c.Before
	}
	switch {
	case !ok:
		e.expires = c.Expires
	case e.expires.IsZero():
	case c.Expires.IsZero() || c.Expires.After(e.expires):
		e.expires = c.Expires
	}
	x.entries[targetOf(c)] = e
}

// expire drops what has expired. Its records stay known as nil.
func (x *index) expire(now time.Time) {
	for len(x.expiry) > 0 && storage.Expired(x.expiry[0].at, now) {
		id := heap.Pop(&x.expiry).(expiring).id
		c := x.known[id]
		if c == nil || !c.Expired(now) {
			continue
		}
		x.known[id] = nil
		x.inForce--
		if storage.Expired(x.entries[targetOf(c)].expires, now) {
			delete(x.entries, targetOf(c))
		}
	}
}

// hasToken reports whether the access token of that ID is void.
func (x *index) hasToken(id string) bool {
	_, ok := x.entries[target{token: id}]
	return ok
}

// hasFamily reports whether the family with the record of that ID is void by itself.
func (x *index) hasFamily(id string) bool {
	_, ok := x.entries[target{family: id}]
	return ok
}

// voids compares whole milliseconds, since a token knows only the millisecond in which it began.
func (x *index) voids(subject, client string, began time.Time) bool {
	last := x.last(subject, client)
	return !last.IsZero() && began.UnixMilli() <= last.UnixMilli()
}

// last returns until when all is void that began for a user through a client.
func (x *index) last(subject, client string) time.Time {
	var last time.Time
	for _, about := range [...]target{{subject: subject, client: client}, {subject: subject}, {client: client}} {
		if before := x.entries[about].before; before.After(last) {
			last = before
		}
	}
	return last
}

// expiring is when a cutoff expires.
type expiring struct {
	at time.Time
	id string
}

// expiryHeap implements heap.Interface: the first to expire is at its top.
type expiryHeap []expiring

func (h expiryHeap) Len() int           { return len(h) }
func (h expiryHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h expiryHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *expiryHeap) Push(x any)        { *h = append(*h, x.(expiring)) }

// Pop implements heap.Interface.
func (h *expiryHeap) Pop() any {
	last := len(*h) - 1
	popped := (*h)[last]
	*h = (*h)[:last]
	return popped
}
