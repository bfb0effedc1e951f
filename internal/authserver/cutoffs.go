package authserver

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// cutoffs knows which tokens are void before their time. All that are live are in memory, so that nothing
// is read for a token; what another node revokes is here after the next poll.
type cutoffs struct {
	store storage.Store
	now   func() time.Time
	log   *zap.Logger

	loads turn            // held to load; guards lost
	lost  map[string]bool // records that cannot be read, of which the log tells once

	mu    sync.Mutex                  // never held while the store is asked
	known map[string]*storage.Cutoff  // by the ID of the record; nil is late
	fresh map[string]*storage.Cutoff  // what became known during a load, which may have missed it
	live  atomic.Pointer[cutoffIndex] // nil before the first load

	changed func(live int)                          // is told how many there are
	post    func(id string, cutoff *storage.Cutoff) // tells others in this process of one
}

// cutoffIndex is what is void, by what it is about. It does not change: a load or an addition replaces it.
type cutoffIndex struct {
	count            int
	tokens, families map[string]bool
	users, clients   map[string]time.Time
	pairs            map[pair]time.Time
}

type pair struct{ subject, client string }

func newCutoffs(store storage.Store, now func() time.Time, log *zap.Logger) *cutoffs {
	return &cutoffs{
		store: store, now: now, log: log, loads: newTurn(storeTimeout(store)), known: make(map[string]*storage.Cutoff),
		changed: func(int) {}, post: func(string, *storage.Cutoff) {},
	}
}

// makeIndex makes the index of what is known.
func (c *cutoffs) makeIndex() {
	x := indexCutoffs(c.known)
	c.live.Store(x)
	c.changed(x.count)
}

func indexCutoffs(all map[string]*storage.Cutoff) *cutoffIndex {
	x := &cutoffIndex{
		tokens: make(map[string]bool), families: make(map[string]bool),
		users: make(map[string]time.Time), clients: make(map[string]time.Time), pairs: make(map[pair]time.Time),
	}
	for _, c := range all {
		if c == nil {
			continue
		}
		x.count++
		switch {
		case c.Token != "":
			x.tokens[c.Token] = true
		case c.Family != "":
			x.families[c.Family] = true
		case c.Subject != "" && c.Client != "":
			keepLatest(x.pairs, pair{c.Subject, c.Client}, c.Before)
		case c.Subject != "":
			keepLatest(x.users, c.Subject, c.Before)
		case c.Client != "":
			keepLatest(x.clients, c.Client, c.Before)
		}
	}
	return x
}

func keepLatest[K comparable](m map[K]time.Time, key K, t time.Time) {
	if t.After(m[key]) {
		m[key] = t
	}
}

// add writes a cutoff, which holds here at once. It is kept until expires, after which nothing it voids can
// be alive; zero is never.
func (c *cutoffs) add(ctx context.Context, cutoff *storage.Cutoff, expires time.Time) error {
	cutoff.Expires = expires
	record, err := cutoff.Encode()
	if err != nil {
		return err
	}
	key := storage.NewCutoffKey(expires)
	if err := c.store.Put(ctx, key, record, expires); err != nil {
		return err
	}
	c.learn(key.ID, cutoff)
	c.post(key.ID, cutoff)
	return nil
}

// learn takes in a cutoff that is in the store.
func (c *cutoffs) learn(id string, cutoff *storage.Cutoff) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[id] = cutoff
	if c.fresh != nil {
		c.fresh[id] = cutoff
	}
	if c.live.Load() != nil { // else the first load finds it in the store
		c.makeIndex()
	}
}

// knows reports whether a cutoff is known here for sure. It waits for no look at the store.
func (c *cutoffs) knows(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[id] != nil
}

// count returns how many cutoffs are live.
func (c *cutoffs) count() int {
	if x := c.live.Load(); x != nil {
		return x.count
	}
	return 0
}

// index returns what is void, and loads it on first need.
func (c *cutoffs) index(ctx context.Context) (*cutoffIndex, error) {
	if x := c.live.Load(); x != nil {
		return x, nil
	}
	ctx, cancel := withinTimeout(ctx, c.loads.most) // a guard has no deadline
	defer cancel()
	release, err := c.loads.take(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if x := c.live.Load(); x != nil { // somebody else was first
		return x, nil
	}
	if err := c.load(ctx); err != nil {
		return nil, err
	}
	return c.live.Load(), nil
}

// voidsToken reports whether an access token is void. One of a family is as old as the family: a node that had not heard
// yet may have made it after a revocation.
func (x *cutoffIndex) voidsToken(c *jwt.Claims) bool {
	made := c.IssuedAt
	if !c.FamilyIssuedAt.IsZero() {
		made = c.FamilyIssuedAt
	}
	return x.tokens[c.ID] || x.families[c.Family] || x.voids(c.Subject, c.ClientID, made)
}

// voidsFamily reports whether a family is void.
func (x *cutoffIndex) voidsFamily(f *storage.Family) bool {
	return x.voids(f.Subject, f.Client, f.Started)
}

// voids reports whether what a user got through a client at a time is void. Tokens know only the second they were made in, so
// that whole second counts; who writes a cutoff waits until it is over.
func (x *cutoffIndex) voids(subject, client string, made time.Time) bool {
	upTo := func(cut time.Time) bool { return made.Unix() <= cut.Unix() && !cut.IsZero() }
	return upTo(x.pairs[pair{subject, client}]) || upTo(x.users[subject]) || upTo(x.clients[client])
}
