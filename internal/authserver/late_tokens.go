package authserver

import (
	"context"
	"sync"
	"time"
)

// lateTokens knows the families that got an access token here since the last look at what other nodes revoked. A token
// that is made between a revocation on another node and the news of it is younger than the cutoff, which thus says
// nothing of it, although its family is void.
type lateTokens struct {
	mu   sync.Mutex
	made []lateToken
}

type lateToken struct {
	family, subject, client string
	started                 time.Time // the family

	replayed string // why it is void for certain, if it is
	life     time.Duration
}

// maxLate bounds what is remembered where the store cannot be read for long. No more can be refreshed than can be
// written meanwhile, so that this is far away.
const maxLate = 100_000

func (l *lateTokens) note(token lateToken) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.made) >= maxLate {
		l.made = l.made[1:]
	}
	l.made = append(l.made, token)
}

// take returns what was noted, and forgets it.
func (l *lateTokens) take() []lateToken {
	l.mu.Lock()
	defer l.mu.Unlock()
	made := l.made
	l.made = nil
	return made
}

// pollCutoffs picks up what other nodes revoked, and voids what this node has made of it before it knew. What is noted
// during a poll waits for the next.
func (s *Server) pollCutoffs(ctx context.Context) error {
	made := s.late.take()
	err := s.cutoffs.poll(ctx)
	for _, token := range made {
		if err == nil {
			err = s.cutLate(ctx, token)
		}
		if err != nil {
			s.late.note(token) // for the next poll
		}
	}
	return err
}

// cutLate voids the access tokens of a family that is void itself.
func (s *Server) cutLate(ctx context.Context, token lateToken) error {
	if token.replayed != "" {
		return s.cutFamily(ctx, token.family, token.replayed, token.life)
	}
	index := s.cutoffs.live.Load()
	if index.families[token.family] || !index.voids(token.subject, token.client, token.started) {
		return nil
	}
	return s.cutFamily(ctx, token.family, "refreshed before the news of a revocation", 0)
}
