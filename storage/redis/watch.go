package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

const (
	// longSilence is how long a connection may say nothing before it is asked whether it is there; and then, to answer.
	longSilence = 10 * time.Second

	// listenPause is about how long to wait after a connection was lost, or could not be made, and refusedPause after
	// Redis refused to tell.
	listenPause  = time.Second
	refusedPause = time.Minute
)

// Watch implements storage.Watcher.
func (s *store) Watch(ctx context.Context, kind storage.Kind, changed func(id string)) error {
	if err := begin(ctx, storage.Key{Kind: kind, ID: "any"}); err != nil {
		return err
	}
	if many(kind) {
		return fmt.Errorf("redis: there are too many records of kind %s to watch", kind)
	}
	channel, told := s.index(kind), ""
	for {
		heard, err := s.listen(ctx, channel, changed)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if heard { // so that the next loss is told, be it for the same reason
			told = ""
		}
		if reason := err.Error(); reason != told {
			told = reason
			s.log.Warn("the connection that tells of changes is gone; will try again, and look from time to time",
				zap.String("channel", channel), zap.Error(err))
		}
		pause := listenPause
		if _, refused := errors.AsType[goredis.Error](err); refused {
			pause = refusedPause
		}
		if !wait(ctx, pause) {
			return ctx.Err()
		}
	}
}

// listen passes on what is said on a channel until the connection or ctx ends, and reports whether there was one.
func (s *store) listen(ctx context.Context, channel string, changed func(id string)) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	channels := s.client.Subscribe(ctx, channel)
	signs := make(chan struct{}, 1) // of life
	go keepAlive(ctx, channels, signs, s.silence)
	for {
		message, err := channels.Receive(ctx)
		if err != nil {
			_ = channels.Close() // it may have ended by itself
			return heard, err
		}
		select {
		case signs <- struct{}{}:
		default:
		}
		switch m := message.(type) {
		case *goredis.Subscription: // at first, and after the client has connected anew
			heard = true
			changed("")
		case *goredis.Message:
			changed(m.Payload)
		}
	}
}

// keepAlive ends a subscription with ctx, or when the other end gives no sign of life.
func keepAlive(ctx context.Context, channels *goredis.PubSub, signs <-chan struct{}, silence time.Duration) {
	defer func() { _ = channels.Close() }() // it may have ended by itself
	timer := time.NewTimer(silence)
	defer timer.Stop()
	for asked := false; ; {
		timer.Reset(silence)
		select {
		case <-ctx.Done():
			return
		case <-signs:
			asked = false
		case <-timer.C:
			if asked || channels.Ping(ctx) != nil {
				return
			}
			asked = true
		}
	}
}

var _ storage.Watcher = (*store)(nil)
