package authserver

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// tokenCache remembers the claims of access tokens whose signature was found good, by the hash of the whole token. It
// holds a bounded number; a full shard drops whichever entry comes first, as good as any for tokens that live minutes.
type tokenCache [cacheShards]struct {
	mu     sync.RWMutex
	claims map[cacheKey]*jwt.Claims
}

const (
	cacheShards   = 64
	cachePerShard = 128
)

type cacheKey [16]byte

func cacheKeyOf(token string) cacheKey {
	sum := sha256.Sum256([]byte(token))
	return cacheKey(sum[:16])
}

func (c *tokenCache) shard(key cacheKey) int {
	return int(binary.LittleEndian.Uint16(key[:])) % cacheShards
}

// get returns the claims of a token that was put and has not expired. Nobody may change them.
func (c *tokenCache) get(key cacheKey, now time.Time) *jwt.Claims {
	shard := &c[c.shard(key)]
	shard.mu.RLock()
	defer shard.mu.RUnlock()
	claims := shard.claims[key]
	if claims == nil || !now.Before(claims.Expires) {
		return nil
	}
	return claims
}

func (c *tokenCache) put(key cacheKey, claims *jwt.Claims) {
	shard := &c[c.shard(key)]
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
