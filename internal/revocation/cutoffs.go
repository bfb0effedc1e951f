// Package revocation knows which tokens are void before their time.
//
// A revocation is a [storage.Cutoff] in the issuer's store: it voids one access token, a family, or all that a user, a
// client, or a user at a client got until a moment. [Cutoffs] holds those in force in memory, so that a request reads
// nothing from the store; it writes new ones, polls for those of other nodes and passes its own on to the other servers
// of this process through a [Broadcast]. Start reading at Cutoffs.
package revocation

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Config is what Cutoffs are made of.
type Config struct {
	Issuer    string // its short name
	Store     storage.Store
	Broadcast *Broadcast
	Logger    *zap.Logger
	Now       func() time.Time
	Changed   func(inForce int) // is told how many are in force, whenever that changes; may be nil
}

// Cutoffs are the revocations of one issuer that are in force. Safe for concurrent use.
type Cutoffs struct {
	Config

	loading *semaphore.Weighted // held by the one load that runs; guards damaged
	damaged map[string]bool     // records that cannot be read; each was logged once

	loaded atomic.Bool  // the first load is done
	mu     sync.RWMutex // never held while the store is asked
	known  map[string]*storage.Cutoff
	index  index
}

// New returns Cutoffs that load on first use.
func New(config Config) *Cutoffs {
	if config.Changed == nil {
		config.Changed = func(int) {}
	}
	return &Cutoffs{
		Config: config, loading: semaphore.NewWeighted(1), known: make(map[string]*storage.Cutoff), index: newIndex(),
	}
}

// Add writes a cutoff, which is in force here at once. Its record goes at cutoff.Expires, when all that it voids has
// expired; zero is never. The same cutoff is the same record, however often it is added.
func (c *Cutoffs) Add(ctx context.Context, cutoff *storage.Cutoff) error {
	record, err := cutoff.Encode()
	if err != nil {
		return err
	}
	key := cutoff.Key()
	if err := c.Store.Put(ctx, key, record, cutoff.Expires); err != nil {
		return err
	}
	c.learn(key.ID, cutoff)
	c.Broadcast.send(c, key.ID, cutoff)
	return nil
}

// learn takes in a cutoff that is in the store.
func (c *Cutoffs) learn(id string, cutoff *storage.Cutoff) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[id] == nil {
		c.known[id] = cutoff
		c.index.add(cutoff)
		c.Changed(c.index.count)
	}
}

// Knows reports whether the cutoff with the record of that ID is in force here. It does not ask the store.
func (c *Cutoffs) Knows(id string) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.known[id] != nil
}

// Count returns how many cutoffs are in force.
func (c *Cutoffs) Count() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.index.count
}

// Token is what has to be known of an access token to tell whether it is void.
type Token struct {
	ID, Family, Subject, Client string

	// Issued is when the token was issued, or, if it has a family, when the family started: a node that did not know of a
	// revocation yet may have issued the token after it.
	Issued time.Time
}

// VoidsToken reports whether an access token is void.
func (c *Cutoffs) VoidsToken(t Token) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.index.tokens[t.ID] || c.index.families[t.Family] || c.index.voids(t.Subject, t.Client, t.Issued)
}

// VoidsFamily reports whether a family is void together with others.
func (c *Cutoffs) VoidsFamily(f *storage.Family) bool { return c.Voids(f.Subject, f.Client, f.Started) }

// Voids reports whether what a user got through a client at a time is void.
func (c *Cutoffs) Voids(subject, client string, issued time.Time) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.index.voids(subject, client, issued)
}

// index finds cutoffs by what they void.
type index struct {
	count            int
	tokens, families map[string]bool
	users, clients   map[string]time.Time
	pairs            map[pair]time.Time
}

// pair is a user at a client.
type pair struct{ subject, client string }

func newIndex() index {
	return index{
		tokens: make(map[string]bool), families: make(map[string]bool),
		users: make(map[string]time.Time), clients: make(map[string]time.Time), pairs: make(map[pair]time.Time),
	}
}

func (x *index) add(c *storage.Cutoff) {
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

func keepLatest[K comparable](m map[K]time.Time, key K, t time.Time) {
	if t.After(m[key]) {
		m[key] = t
	}
}

// voids compares whole seconds, since a token knows only the second it was issued in: all of the second of the cutoff is
// void. Whoever writes a cutoff waits until that second is over.
func (x *index) voids(subject, client string, issued time.Time) bool {
	until := func(cut time.Time) bool { return issued.Unix() <= cut.Unix() && !cut.IsZero() }
	return until(x.pairs[pair{subject, client}]) || until(x.users[subject]) || until(x.clients[client])
}
