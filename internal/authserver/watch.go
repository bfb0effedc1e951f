package authserver

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// watchPause is how long to wait at least between two looks at what was told of. A look that takes long is followed by
// a pause of ten times as long, so that however much is told, little time goes into it.
const watchPause = 20 * time.Millisecond

// watch looks for what other nodes did as soon as the store tells that there is something, where polling finds it later.
// All that is told of during a look is found by one more.
func (s *Server) watch(ctx context.Context, watcher storage.Watcher) {
	var watching sync.WaitGroup
	defer watching.Wait()
	told := make(chan struct{}, 1)
	tell := func() {
		select {
		case told <- struct{}{}:
		default: // there is a look to come
		}
	}
	watching.Go(func() {
		s.watchKind(ctx, watcher, storage.KindCutoff, func(id string) {
			if !s.cutoffs.Knows(id) { // as those are that were written here
				tell()
			}
		})
	})
	watching.Go(func() { s.watchKind(ctx, watcher, newsRecord.Kind, func(string) { tell() }) })
	for {
		select {
		case <-ctx.Done():
			return
		case <-told:
		}
		began := time.Now()
		s.attempt(ctx, looking, s.poll)
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(watchPause, 10*time.Since(began))):
		}
	}
}

func (s *Server) watchKind(
	ctx context.Context, watcher storage.Watcher, kind storage.Kind, changed func(id string),
) {
	if err := watcher.Watch(ctx, kind, changed); err != nil && ctx.Err() == nil {
		s.log.Error("the store does not tell of changes, so that they are found by polling only",
			zap.String("issuer", s.config.Name), zap.String("kind", string(kind)), zap.Error(err))
	}
}
