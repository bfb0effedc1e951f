// Package recall remembers which secrets were found right, so that a hash that is slow on purpose need not be computed
// for each request. Nothing of a secret is kept: what is remembered is a MAC under a key that this process alone has.
package recall

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// Memory holds what was right. It forgets some of it when there is more than it was made for. Safe for concurrent use.
type Memory struct {
	key   [sha256.Size]byte
	most  int
	mu    sync.RWMutex
	right map[[sha256.Size]byte]struct{}
}

// New returns a Memory of at most that many.
func New(most int) *Memory {
	m := &Memory{most: most, right: make(map[[sha256.Size]byte]struct{})}
	rand.Read(m.key[:]) // never fails, see crypto/rand
	return m
}

// Has reports whether a secret was remembered for what it is to be right for, such as its hash.
func (m *Memory) Has(what, secret string) bool {
	sum := m.mac(what, secret)
	m.mu.RLock()
	defer m.mu.RUnlock()
	_, ok := m.right[sum]
	return ok
}

// Add remembers a secret. Wrong ones are never remembered: nobody could fill the memory but with what is right.
func (m *Memory) Add(what, secret string) {
	sum := m.mac(what, secret)
	m.mu.Lock()
	defer m.mu.Unlock()
	for other := range m.right {
		if len(m.right) < m.most {
			break
		}
		delete(m.right, other)
	}
	m.right[sum] = struct{}{}
}

func (m *Memory) mac(what, secret string) (sum [sha256.Size]byte) {
	mac := hmac.New(sha256.New, m.key[:])
	text := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(what)+len(secret)), uint64(len(what)))
	text = append(text, what...)
	mac.Write(append(text, secret...))
	mac.Sum(sum[:0])
	return sum
}
