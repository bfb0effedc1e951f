package bearer

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
)

func TestCacheForgetsInTime(t *testing.T) {
	var c Cache
	c.Put("token", &jwt.Claims{Subject: "alice", Expires: testclock.Epoch.Add(time.Minute)})
	if got := c.Get("token", testclock.Epoch.Add(time.Minute-1)); got == nil || got.Subject != "alice" {
		t.Errorf("before its end: %v", got)
	}
	if got := c.Get("token", testclock.Epoch.Add(time.Minute)); got != nil {
		t.Errorf("at its end: %v", got)
	}
	if got := c.Get("token ", testclock.Epoch); got != nil {
		t.Errorf("another token: %v", got)
	}
}

func TestCacheIsBounded(t *testing.T) {
	var c Cache
	var clients sync.WaitGroup
	for client := range 4 {
		clients.Go(func() {
			for i := range 10 * cacheShards * cachePerShard / 4 {
				token := strconv.Itoa(client) + "." + strconv.Itoa(i)
				c.Put(token, &jwt.Claims{Expires: testclock.Epoch.Add(time.Hour)})
				if c.Get(token, testclock.Epoch) == nil && i == 0 {
					t.Error("the first token of an empty cache is forgotten")
				}
			}
		})
	}
	clients.Wait()
	for i := range c.shards {
		if n := len(c.shards[i].claims); n == 0 || n > cachePerShard {
			t.Errorf("shard %d has %d tokens, want 1 to %d", i, n, cachePerShard)
		}
	}
}
