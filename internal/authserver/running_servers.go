package authserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/caddy-oauth/caddy-oauth/internal/bounded"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// RunningServers knows the servers of this process, oldest first. When Caddy replaces a configuration, the old server goes
// on with the requests it has, even after the reload has returned. Before records are moved to another store, these
// requests must have ended or be kept from writing. Safe for concurrent use.
type RunningServers struct {
	mu    sync.Mutex
	all   []*runningServer
	ended []endedServer
	made  int // servers so far
}

// newRunningServers returns a RunningServers without servers.
func newRunningServers() *RunningServers { return new(RunningServers) }

// runningServer is a server that may still write to its store.
type runningServer struct {
	issuer   string
	number   int // a later server has a higher one
	store    *bounded.Store
	check    checkToken
	requests atomic.Int64 // that are being answered
}

// endedServer is a server that gets no more requests and has answered all that it had. One can still come late: it was at another handler
// of the site meanwhile, such as a login that takes long.
type endedServer struct {
	issuer string
	number int
	store  weak.Pointer[bounded.Store] // nil once nobody is left who could write to it
}

// checkToken returns the claims of an access token that is valid now.
type checkToken func(ctx context.Context, token string, leeway time.Duration) (*jwt.Claims, error)

func (r *RunningServers) add(issuer string, store *bounded.Store, check checkToken) *runningServer {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.made++
	added := &runningServer{issuer: issuer, number: r.made, store: store, check: check}
	r.all = append(r.all, added)
	return added
}

func (r *RunningServers) remove(gone *runningServer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = slices.DeleteFunc(r.all, func(other *runningServer) bool { return other == gone })
	r.ended = slices.DeleteFunc(r.ended, func(other endedServer) bool { return other.store.Value() == nil })
	r.ended = append(r.ended, endedServer{gone.issuer, gone.number, weak.Make(gone.store)})
}

// before returns the servers of the same issuer that are older, and the stores of those that have ended already.
func (r *RunningServers) before(this *runningServer) (older []*runningServer, ended []*bounded.Store) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, other := range r.all {
		if other.issuer == this.issuer && other.number < this.number {
			older = append(older, other)
		}
	}
	for _, other := range r.ended {
		if other.issuer != this.issuer || other.number >= this.number {
			continue
		}
		if store := other.store.Value(); store != nil {
			ended = append(ended, store)
		}
	}
	return older, ended
}

// newest returns the newest server of the same issuer.
func (r *RunningServers) newest(this *runningServer) *runningServer {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, other := range slices.Backward(r.all) {
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

// endOlderWrites makes sure that no older server of the issuer writes to the store any more, and returns how many have not ended. It
// gives their requests the time to end, makes the servers read-only, and waits for writes that are under way.
func (r *RunningServers) endOlderWrites(ctx context.Context, this *runningServer) (older int, err error) {
	before, stores := r.before(this)
	requests, cancel := context.WithTimeout(ctx, requestsLimit)
	defer cancel()
	for _, other := range before {
		other.waitIdle(requests)
		stores = append(stores, other.store)
	}
	writes, cancel := context.WithTimeout(ctx, writesLimit)
	defer cancel()
	for _, store := range stores {
		if err := store.MakeReadOnly(writes); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrStillWriting, err)
		}
	}
	return len(before), ctx.Err()
}

// end removes a server that gets no more requests, when it has answered those that it has.
func (r *RunningServers) end(gone *runningServer) {
	if gone.idle() {
		r.remove(gone)
		return
	}
	go func() {
		gone.waitIdle(context.Background())
		r.remove(gone)
	}()
}

// waitIdle waits until no request is under way and nothing is being written, or ctx ends.
func (s *runningServer) waitIdle(ctx context.Context) {
	ticker := time.NewTicker(idleInterval)
	defer ticker.Stop()
	for !s.idle() {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (s *runningServer) idle() bool { return s.requests.Load() == 0 && !s.store.Writing() }
