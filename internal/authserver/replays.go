package authserver

import (
	"context"
	"errors"
	"sync"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// replays are those whose families could not be ended yet, because of the store. Whoever presented what was used need not
// come again.
type replays struct {
	mu   sync.Mutex
	open []*grants.Replay
}

// maxReplays bounds what is remembered where the store cannot be written for long.
const maxReplays = 100_000

func (r *replays) note(replay *grants.Replay) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.open) >= maxReplays {
		r.open = r.open[1:]
	}
	r.open = append(r.open, replay)
}

// take returns what was noted, and forgets it.
func (r *replays) take() []*grants.Replay {
	r.mu.Lock()
	defer r.mu.Unlock()
	open := r.open
	r.open = nil
	return open
}

// afterReplay ends the family of a replay (RFC 6749 §4.1.2, RFC 9700 §4.14.2), and returns the refusal. Whoever asked may
// go away meanwhile, and what the store does not take now, the next polls try.
func (s *Server) afterReplay(ctx context.Context, refusal error) error {
	replay, ok := errors.AsType[*grants.Replay](refusal)
	if !ok {
		return refusal
	}
	err := s.endReplayed(context.WithoutCancel(ctx), replay)
	if errors.Is(err, storage.ErrReadOnly) {
		return err // Don't queue it: this node is read-only and may be retired; the client retries elsewhere.
	}
	if err != nil {
		s.replays.note(replay)
	}
	return refusal
}

func (s *Server) endReplayed(ctx context.Context, replay *grants.Replay) error {
	_, err := s.endFamily(ctx, replay.Family, replay.What+" used again", replay.TokenLife)
	return err
}

// endReplays ends the families that could not be ended before.
func (s *Server) endReplays(ctx context.Context) (err error) {
	for _, replay := range s.replays.take() {
		if err == nil {
			err = s.endReplayed(ctx, replay)
		}
		if err != nil {
			s.replays.note(replay)
		}
	}
	return err
}
