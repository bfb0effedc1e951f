package redis

import (
	"context"

	"go.uber.org/zap"
)

// lookAtEviction warns of a Redis that deletes what it likes when it is full: with a revocation that is gone, what was
// revoked is good again. It looks once, and says nothing where it may not look.
func (s *store) lookAtEviction(ctx context.Context) {
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
			s.log.Warn("Redis may delete records to make room: people would be logged out, and revoked tokens be good again; "+
				"set maxmemory-policy to "+never, zap.String("maxmemory_policy", policy))
		}
	})
}
