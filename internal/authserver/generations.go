package authserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Generations knows the servers of this process, oldest first. When Caddy replaces a configuration, the old server goes
// on with the requests it has, even after the reload has returned. Before records are moved to another store, these
// requests must have ended or be kept from writing. Safe for concurrent use.
type Generations struct {
	mu      sync.Mutex
	servers []*Server
}

// NewGenerations returns a Generations without servers.
func NewGenerations() *Generations { return new(Generations) }

func (g *Generations) add(s *Server) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.servers = append(g.servers, s)
}

func (g *Generations) remove(s *Server) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.servers = slices.DeleteFunc(g.servers, func(other *Server) bool { return other == s })
}

// before returns the servers of the same issuer that are older.
func (g *Generations) before(s *Server) (older []*Server) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, other := range g.servers {
		if other == s {
			break
		}
		if other.config.Name == s.config.Name {
			older = append(older, other)
		}
	}
	return older
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

// EndOlderWrites makes sure that no older server of the issuer in this process writes to the store any more. It gives
// their requests the time to end, makes the servers read-only, and waits for writes that are under way.
func (o Owner) EndOlderWrites(ctx context.Context) error {
	s := o.s
	older := s.config.Generations.before(s)
	requests, cancel := context.WithTimeout(ctx, requestsLimit)
	defer cancel()
	for _, o := range older {
		o.waitIdle(requests)
	}
	writes, cancel := context.WithTimeout(ctx, writesLimit)
	defer cancel()
	for _, o := range older {
		if err := o.store.MakeReadOnly(writes); err != nil {
			return fmt.Errorf("%w: %w", ErrStillWriting, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(older) > 0 {
		s.log.Info("the previous configuration may no longer write", zap.String("issuer", s.config.Name))
	}
	return nil
}

// waitIdle waits until no request is under way and nothing is being written, or ctx ends.
func (s *Server) waitIdle(ctx context.Context) {
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

func (s *Server) idle() bool { return s.requests.Load() == 0 && !s.store.Writing() }

// Close is called when the server gets no more requests. It does not wait for those that are under way.
func (s *Server) Close() {
	if s.idle() {
		s.config.Generations.remove(s)
		return
	}
	go func() {
		s.waitIdle(context.Background())
		s.config.Generations.remove(s)
	}()
}
