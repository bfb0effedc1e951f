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
	// maxSilence is how long a subscribed connection may be silent before it is pinged, and then how long the answer may take.
	maxSilence = 10 * time.Second

	// reconnectPause is about how long to wait after the connection was lost or could not be made, and refusedPause after Redis
	// refused the subscription.
	reconnectPause = time.Second
	refusedPause   = time.Minute
)

// Watch implements storage.Watcher. It subscribes to the channel of the kind, on which every write publishes an ID.
func (s *store) Watch(ctx context.Context, kind storage.Kind, changed func(id string)) error {
	if err := check(ctx, storage.Key{Kind: kind, ID: "any"}); err != nil {
		return err
	}
	if !hasIndex(kind) {
		return fmt.Errorf("redis: there are too many records of kind %s to watch", kind)
	}
	channel, logged := s.index(kind), ""
	subscribed := func() {
		if logged != "" {
			s.log.Info("subscribed to changes again", zap.String("channel", channel))
		}
		logged = ""
		changed("")
		s.checkEviction(ctx)
	}
	for {
		err := s.listen(ctx, channel, subscribed, changed)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if reason := err.Error(); reason != logged {
			logged = reason
			s.log.Warn("the subscription to changes is lost; changes are found by polling until it works again",
				zap.String("channel", channel), zap.Error(err))
		}
		pause := reconnectPause
		if _, refused := errors.AsType[goredis.Error](err); refused {
			pause = refusedPause
		}
		if !wait(ctx, pause) {
			return ctx.Err()
		}
	}
}

// listen passes on the messages of a channel until the connection or ctx ends. It calls subscribed when the subscription begins, and
// again when the client has reconnected.
func (s *store) listen(ctx context.Context, channel string, subscribed func(), changed func(id string)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	subscription := s.client.Subscribe(ctx, channel)
	received := make(chan struct{}, 1)
	go keepAlive(ctx, subscription, received, s.maxSilence)
	for {
		message, err := subscription.Receive(ctx)
		if err != nil {
			_ = subscription.Close() // it may be closed already
			return err
		}
		select {
		case received <- struct{}{}:
		default:
		}
		switch m := message.(type) {
		case *goredis.Subscription:
			subscribed()
		case *goredis.Message:
			changed(m.Payload)
		}
	}
}

// keepAlive closes a subscription when ctx ends, or when the other end does not answer a ping.
func keepAlive(ctx context.Context, subscription *goredis.PubSub, received <-chan struct{}, silence time.Duration) {
	defer func() { _ = subscription.Close() }() // it may be closed already
	timer := time.NewTimer(silence)
	defer timer.Stop()
	for pinged := false; ; {
		timer.Reset(silence)
		select {
		case <-ctx.Done():
			return
		case <-received:
			pinged = false
		case <-timer.C:
			if pinged || subscription.Ping(ctx) != nil {
				return
			}
			pinged = true
		}
	}
}

// checkEviction warns about a Redis that deletes records when it is full: when a revocation is deleted, the tokens that it revoked are
// valid again. It checks once, and logs nothing if the user may not read the policy.
func (s *store) checkEviction(ctx context.Context) {
	s.eviction.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, s.timeout)
		defer cancel()
		info, err := s.client.InfoMap(ctx, "memory").Result()
		if err != nil {
			return
		}
		const never = "noeviction"
		memory := info["Memory"]
		if policy := memory["maxmemory_policy"]; memory["maxmemory"] != "0" && policy != "" && policy != never {
			s.log.Warn("Redis may delete records when its memory is full: users would be logged out, and revoked tokens be valid again; "+
				"set maxmemory-policy to "+never, zap.String("maxmemory_policy", policy))
		}
	})
}

var _ storage.Watcher = (*store)(nil)
