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
	c.Find("token").Put(&jwt.Claims{Subject: "alice", Expires: testclock.Epoch.Add(time.Minute)})
	if got := c.Find("token").Get(testclock.Epoch.Add(time.Minute - 1)); got == nil || got.Subject != "alice" {
		t.Errorf("before its end: %v", got)
	}
	if got := c.Find("token").Get(testclock.Epoch.Add(time.Minute)); got != nil {
		t.Errorf("at its end: %v", got)
	}
	if got := c.Find("token ").Get(testclock.Epoch); got != nil {
		t.Errorf("another token: %v", got)
	}
}

func TestCacheIsBounded(t *testing.T) {
	var c Cache
	var clients sync.WaitGroup
	for client := range 4 {
		clients.Go(func() {
			for i := range 10 * cacheShards * cachePerShard / 4 {
				slot := c.Find(strconv.Itoa(client) + "." + strconv.Itoa(i))
				slot.Put(&jwt.Claims{Expires: testclock.Epoch.Add(time.Hour)})
				if slot.Get(testclock.Epoch) == nil && i == 0 {
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
