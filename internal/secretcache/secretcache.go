// Package secretcache remembers which secrets were right, so that a hash that is slow on purpose is computed once and not for
// each request. It keeps no secret, only a MAC of it with a key that never leaves this process. Start reading at
// [Cache].
package secretcache

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// Cache remembers right secrets, up to a maximum: when it is full, it forgets an arbitrary one. Safe for concurrent
// use.
type Cache struct {
	key   [sha256.Size]byte
	max   int
	mu    sync.RWMutex
	right map[[sha256.Size]byte]struct{}
}

// New returns a Cache for at most that many secrets.
func New(maximum int) *Cache {
	c := &Cache{max: maximum, right: make(map[[sha256.Size]byte]struct{})}
	rand.Read(c.key[:]) // never returns an error
	return c
}

// Has reports whether the secret was remembered as right for something: a hash or a user name.
func (c *Cache) Has(what, secret string) bool {
	sum := c.mac(what, secret)
	c.mu.RLock()
	defer c.mu.RUnlock()
	_, ok := c.right[sum]
	return ok
}

// Add remembers a secret that was right. Wrong secrets must not be added: anybody could fill the memory with them.
func (c *Cache) Add(what, secret string) {
	sum := c.mac(what, secret)
	c.mu.Lock()
	defer c.mu.Unlock()
	for other := range c.right {
		if len(c.right) < c.max {
			break
		}
		delete(c.right, other)
	}
	c.right[sum] = struct{}{}
}

// mac returns a MAC of both texts. The length of the first one comes first, so that no other pair has the same input.
func (c *Cache) mac(what, secret string) (sum [sha256.Size]byte) {
	mac := hmac.New(sha256.New, c.key[:])
	text := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(what)+len(secret)), uint64(len(what)))
	text = append(text, what...)
	mac.Write(append(text, secret...))
	mac.Sum(sum[:0])
	return sum
}
