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

// find returns the shard and the key of a token.
func (c *Cache) find(token string) (*cacheShard, cacheKey) {
	sum := sha256.Sum256([]byte(token))
	return &c.shards[int(binary.LittleEndian.Uint16(sum[:]))%cacheShards], cacheKey(sum[:16])
}

// Get returns the claims of a token, or nil if it is not cached or has expired. Callers must not change the claims.
func (c *Cache) Get(token string, now time.Time) *jwt.Claims {
	shard, key := c.find(token)
	shard.mu.RLock()
	defer shard.mu.RUnlock()
	claims := shard.claims[key]
	if claims == nil || !now.Before(claims.Expires) {
		return nil
	}
	return claims
}

// Put caches the claims of a token.
func (c *Cache) Put(token string, claims *jwt.Claims) {
	shard, key := c.find(token)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if shard.claims == nil {
		shard.claims = make(map[cacheKey]*jwt.Claims, cachePerShard)
	}
	if len(shard.claims) >= cachePerShard {
		for other := range shard.claims {
			delete(shard.claims, other)
			break
		}
	}
	shard.claims[key] = claims
}
