package bearer

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// Cache has the claims of access tokens that were verified, by the hash of the whole token, so that the next request with
// the same token needs no signature check. Its size is bounded. A full shard drops an arbitrary entry: tokens live for
// minutes, so a better choice would gain little. The zero value is empty. Safe for concurrent use.
type Cache struct {
	shards [cacheShards]cacheShard
}

type cacheShard struct {
	mu     sync.RWMutex
	claims map[cacheKey]*jwt.Claims
}

const (
	cacheShards   = 64
	cachePerShard = 128
)

type cacheKey [16]byte

// Slot is where a cache has the claims of a token, or would have them.
type Slot struct {
	shard *cacheShard
	key   cacheKey
}

// Find returns the slot of a token.
func (c *Cache) Find(token string) Slot {
	sum := sha256.Sum256([]byte(token))
	return Slot{&c.shards[int(binary.LittleEndian.Uint16(sum[:]))%cacheShards], cacheKey(sum[:16])}
}

// Get returns the claims of the token, or nil if it is not cached or has expired. Callers must not change the claims.
func (s Slot) Get(now time.Time) *jwt.Claims {
	s.shard.mu.RLock()
	defer s.shard.mu.RUnlock()
	claims := s.shard.claims[s.key]
	if claims == nil || !now.Before(claims.Expires) {
		return nil
	}
	return claims
}

// Put caches the claims of the token.
func (s Slot) Put(claims *jwt.Claims) {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	if s.shard.claims == nil {
		s.shard.claims = make(map[cacheKey]*jwt.Claims, cachePerShard)
	}
	if len(s.shard.claims) >= cachePerShard {
		for other := range s.shard.claims {
			delete(s.shard.claims, other)
			break
		}
	}
	s.shard.claims[s.key] = claims
}
