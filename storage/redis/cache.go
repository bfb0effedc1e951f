package redis

import (
	"sync"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// cache remembers the records that this process saw last, up to a size. Others may have written since: what it says is
// only to be believed after Redis has said that the stamp is still that one.
//
// It has two halves. What is seen goes into the new one; when that is full, the old one is dropped, and the new one is
// the old one.
type cache struct {
	half int // of the bytes

	mu       sync.Mutex
	size     int // of what is in the new half
	new, old map[string]record
}

// entrySize is about what an entry takes beside its record.
const entrySize = 180

func sizeOf(r record) int { return len(r) + entrySize }

func newCache(size int) *cache {
	return &cache{half: size / 2, new: make(map[string]record), old: make(map[string]record)}
}

func (c *cache) get(key string) (record, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.new[key]
	if !ok {
		if r, ok = c.old[key]; !ok {
			return "", false
		}
		delete(c.old, key)
		c.add(key, r)
	}
	if storage.Expired(r.expires(), time.Now()) {
		c.remove(key)
		return "", false
	}
	return r, true
}

func (c *cache) put(key string, r record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(key)
	c.add(key, r)
}

func (c *cache) drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(key)
}

func (c *cache) add(key string, r record) {
	if sizeOf(r) > c.half {
		return
	}
	if c.size+sizeOf(r) > c.half {
		c.old, c.new, c.size = c.new, make(map[string]record), 0
	}
	c.new[key] = r
	c.size += sizeOf(r)
}

func (c *cache) remove(key string) {
	delete(c.old, key)
	if r, ok := c.new[key]; ok {
		delete(c.new, key)
		c.size -= sizeOf(r)
	}
}
