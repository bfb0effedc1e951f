package authserver

import (
	"context"
	"iter"

	"github.com/caddy-oauth/caddy-oauth/internal/metrics"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// List implements storage.Store. A listing may take long, as long as it goes on: the timeout is for each ID. The time that
// is measured includes what the caller does with each.
func (s *watchedStore) List(ctx context.Context, kind storage.Kind) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		traced, o := s.begin(ctx, metrics.List, kind)
		defer o.end()
		while, stop := context.WithCancel(traced)
		defer stop()
		l, err := s.list(while, kind)
		for err == nil {
			var id string
			var more bool
			if id, more, err = s.next(while, l); !more {
				break
			}
			if !yield(id, nil) {
				return
			}
		}
		if err != nil {
			yield("", storeErr(ctx, reading, err))
			return
		}
		s.outages.worked(reading)
	}
}

// listing is a listing that goes on apart from who reads it.
type listing struct {
	ids   chan string
	ended chan error
}

func (s *watchedStore) list(ctx context.Context, kind storage.Kind) (*listing, error) {
	waits, done := withinTimeout(ctx, s.timeout)
	defer done()
	if err := s.enter(waits); err != nil {
		return nil, err
	}
	l := &listing{ids: make(chan string), ended: make(chan error, 1)}
	go func() {
		defer s.leave()
		l.ended <- recovered(ctx, func(ctx context.Context) error { return s.send(ctx, kind, l.ids) })
	}()
	return l, nil
}

// send lists into a channel until ctx ends.
func (s *watchedStore) send(ctx context.Context, kind storage.Kind, ids chan<- string) error {
	for id, err := range s.store.List(ctx, kind) {
		if err != nil {
			return err
		}
		select {
		case ids <- id:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// next returns the next ID, if there is more.
func (s *watchedStore) next(ctx context.Context, l *listing) (id string, more bool, err error) {
	waits, done := withinTimeout(ctx, s.timeout)
	defer done()
	select {
	case id = <-l.ids:
		return id, true, nil
	case err = <-l.ended:
		return "", false, err
	case <-waits.Done():
		return "", false, waits.Err()
	}
}
