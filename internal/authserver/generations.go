package authserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/bounded"
)

// Generations knows the servers of this process, oldest first. When Caddy replaces a configuration, the old server goes
// on with the requests it has, even after the reload has returned. Before records are moved to another store, these
// requests must have ended or be kept from writing. Safe for concurrent use.
type Generations struct {
	mu  sync.Mutex
	all []*generation
}

// NewGenerations returns a Generations without servers.
func NewGenerations() *Generations { return new(Generations) }

// generation is a server that may still write to its store.
type generation struct {
	issuer   string
	store    *bounded.Store
	tokens   *accessTokens
	requests atomic.Int64 // that are being answered
}

func (g *Generations) add(issuer string, store *bounded.Store, tokens *accessTokens) *generation {
	g.mu.Lock()
	defer g.mu.Unlock()
	added := &generation{issuer: issuer, store: store, tokens: tokens}
	g.all = append(g.all, added)
	return added
}

func (g *Generations) remove(gone *generation) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = slices.DeleteFunc(g.all, func(other *generation) bool { return other == gone })
}

// before returns the servers of the same issuer that are older.
func (g *Generations) before(this *generation) (older []*generation) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, other := range g.all {
		if other == this {
			break
		}
		if other.issuer == this.issuer {
			older = append(older, other)
		}
	}
	return older
}

// newest returns the newest server of the same issuer.
func (g *Generations) newest(this *generation) *generation {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, other := range slices.Backward(g.all) {
		if other.issuer == this.issuer {
			return other
		}
	}
	return this
}

const (
	// requestsLimit is how long the requests of older servers may take to end by themselves. Later ones may not write.
	requestsLimit = 5 * time.Second

	// writesLimit is how long writes that are under way may take.
	writesLimit = 30 * time.Second

	idleInterval = 10 * time.Millisecond
)

// ErrStillWriting says that an older configuration of the issuer has not finished writing to the store.
var ErrStillWriting = errors.New("the previous configuration is still writing to the store, try again later")

// endOlderWrites makes sure that no older server of the issuer writes to the store any more, and returns how many there are. It
// gives their requests the time to end, makes the servers read-only, and waits for writes that are under way.
func (g *Generations) endOlderWrites(ctx context.Context, this *generation) (older int, err error) {
	before := g.before(this)
	requests, cancel := context.WithTimeout(ctx, requestsLimit)
	defer cancel()
	for _, other := range before {
		other.waitIdle(requests)
	}
	writes, cancel := context.WithTimeout(ctx, writesLimit)
	defer cancel()
	for _, other := range before {
		if err := other.store.MakeReadOnly(writes); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrStillWriting, err)
		}
	}
	return len(before), ctx.Err()
}

// end removes a server that gets no more requests, when it has answered those that it has.
func (g *Generations) end(gone *generation) {
	if gone.idle() {
		g.remove(gone)
		return
	}
	go func() {
		gone.waitIdle(context.Background())
		g.remove(gone)
	}()
}

// waitIdle waits until no request is under way and nothing is being written, or ctx ends.
func (g *generation) waitIdle(ctx context.Context) {
	ticker := time.NewTicker(idleInterval)
	defer ticker.Stop()
	for !g.idle() {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (g *generation) idle() bool { return g.requests.Load() == 0 && !g.store.Writing() }
