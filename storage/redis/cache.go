package redis

import (
	"sync"
	"time"
)

// cache remembers the records that this process wrote, the latest of them, up to a size. Others may have written since:
// what it says is only to be believed after Redis has said that the stamp is still that one.
//
// It has two halves. What is written goes into the new one; when that is full, the old one is dropped, and the new one
// is the old one.
type cache struct {
	half int // of the bytes

	mu       sync.Mutex
	size     int // of what is in the new half
	new, old map[string]entry
}

type entry struct {
	record  record
	expires time.Time // zero: never
}

// entrySize is about what an entry takes beside its record.
const entrySize = 200

func (e entry) size() int { return len(e.record) + entrySize }

func newCache(size int) *cache {
	return &cache{half: size / 2, new: make(map[string]entry), old: make(map[string]entry)}
}

func (c *cache) get(key string) (record, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.new[key]
	if !ok {
		if e, ok = c.old[key]; ok {
			delete(c.old, key)
			c.add(key, e)
		}
	}
	if ok && !e.expires.IsZero() && !time.Now().Before(e.expires) {
		c.remove(key)
		return "", false
	}
	return e.record, ok
}

func (c *cache) put(key string, r record, expires time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(key)
	c.add(key, entry{r, expires})
}

func (c *cache) drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(key)
}

func (c *cache) add(key string, e entry) {
	if c.size+e.size() > c.half {
		if e.size() > c.half {
			return
		}
		c.old, c.new, c.size = c.new, make(map[string]entry), 0
	}
	c.new[key] = e
	c.size += e.size()
}

func (c *cache) remove(key string) {
	delete(c.old, key)
	if e, ok := c.new[key]; ok {
		delete(c.new, key)
		c.size -= e.size()
	}
}
