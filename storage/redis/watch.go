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
	again := func() {
		if told != "" {
			s.log.Info("changes are told again", zap.String("channel", channel))
		}
		told = ""
		changed("")
		s.lookAtEviction(ctx)
	}
	for {
		err := s.listen(ctx, channel, again, changed)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if reason := err.Error(); reason != told {
			told = reason
			s.log.Warn("changes are not told any more, and found by looking from time to time; will try again",
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

// listen passes on what is said on a channel until the connection or ctx ends. It calls again when it begins to listen, and
// when the client has connected anew.
func (s *store) listen(ctx context.Context, channel string, again func(), changed func(id string)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	channels := s.client.Subscribe(ctx, channel)
	signs := make(chan struct{}, 1) // of life
	go keepAlive(ctx, channels, signs, s.silence)
	for {
		message, err := channels.Receive(ctx)
		if err != nil {
			_ = channels.Close() // it may have ended by itself
			return err
		}
		select {
		case signs <- struct{}{}:
		default:
		}
		switch m := message.(type) {
		case *goredis.Subscription:
			again()
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
