package authserver

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// newsRecord changes whenever a node has changed clients or keys, so that the others need to read no more than this to
// know that there is nothing new.
var newsRecord = storage.Key{Kind: "news", ID: "changed"}

// newsAtLeast is how often a node looks for itself: one that ended between a change and the news of it told nobody.
const newsAtLeast = time.Minute

// news is what this node has heard of last.
type news struct {
	mu    sync.Mutex // held by the one look that runs
	heard string
	at    time.Time
}

// poll picks up what other nodes did: revocations, and changes of clients and keys.
func (s *Server) poll(ctx context.Context) error {
	return errors.Join(s.cutoffs.Poll(ctx), s.endReplays(ctx), s.hear(ctx))
}

func (s *Server) hear(ctx context.Context) error {
	s.news.mu.Lock()
	defer s.news.mu.Unlock()
	record, err := s.config.Store.Get(ctx, newsRecord)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	now := s.now()
	if string(record) == s.news.heard && now.Sub(s.news.at) < newsAtLeast {
		return nil
	}
	if err := errors.Join(s.clients.Reload(ctx), s.keys.Maintain(ctx)); err != nil {
		return err
	}
	s.news.heard, s.news.at = string(record), now
	return nil
}

// tell lets other nodes know of a change.
func (s *Server) tell(ctx context.Context) error {
	return s.config.Store.Update(ctx, newsRecord, func([]byte) ([]byte, time.Time, error) {
		return []byte(rand.Text()), time.Time{}, nil
	})
}
