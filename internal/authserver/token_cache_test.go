package authserver

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

func TestTokenCacheForgetsInTime(t *testing.T) {
	var c tokenCache
	key := cacheKeyOf("token")
	c.put(key, &jwt.Claims{Subject: "alice", Expires: epoch.Add(time.Minute)})
	if got := c.get(key, epoch.Add(time.Minute-1)); got == nil || got.Subject != "alice" {
		t.Errorf("before its end: %v", got)
	}
	if got := c.get(key, epoch.Add(time.Minute)); got != nil {
		t.Errorf("at its end: %v", got)
	}
	if got := c.get(cacheKeyOf("token "), epoch); got != nil {
		t.Errorf("another token: %v", got)
	}
}

func TestTokenCacheIsBounded(t *testing.T) {
	var c tokenCache
	var clients sync.WaitGroup
	for client := range 4 {
		clients.Go(func() {
			for i := range 10 * cacheShards * cachePerShard / 4 {
				key := cacheKeyOf(strconv.Itoa(client) + "." + strconv.Itoa(i))
				c.put(key, &jwt.Claims{Expires: epoch.Add(time.Hour)})
				if c.get(key, epoch) == nil && i == 0 {
					t.Error("the first token of an empty cache is forgotten")
				}
			}
		})
	}
	clients.Wait()
	for i := range c {
		if n := len(c[i].claims); n == 0 || n > cachePerShard {
			t.Errorf("shard %d holds %d tokens, want 1 to %d", i, n, cachePerShard)
		}
	}
}
