// Package recall remembers which secrets were right, so that a hash that is slow on purpose is computed once and not for
// each request. It keeps no secret, only a MAC of it with a key that never leaves this process. Start reading at
// [Memory].
package recall

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// Memory remembers right secrets, up to a maximum: when it is full, it forgets an arbitrary one. Safe for concurrent
// use.
type Memory struct {
	key   [sha256.Size]byte
	max   int
	mu    sync.RWMutex
	right map[[sha256.Size]byte]struct{}
}

// New returns a Memory for at most that many secrets.
func New(maximum int) *Memory {
	m := &Memory{max: maximum, right: make(map[[sha256.Size]byte]struct{})}
	rand.Read(m.key[:]) // never returns an error
	return m
}

// Has reports whether the secret was remembered as right for something: a hash or a user name.
func (m *Memory) Has(what, secret string) bool {
	sum := m.mac(what, secret)
	m.mu.RLock()
	defer m.mu.RUnlock()
	_, ok := m.right[sum]
	return ok
}

// Add remembers a secret that was right. Wrong secrets must not be added: anybody could fill the memory with them.
func (m *Memory) Add(what, secret string) {
	sum := m.mac(what, secret)
	m.mu.Lock()
	defer m.mu.Unlock()
	for other := range m.right {
		if len(m.right) < m.max {
			break
		}
		delete(m.right, other)
	}
	m.right[sum] = struct{}{}
}

// mac returns a MAC of both texts. The length of the first one comes first, so that no other pair has the same input.
func (m *Memory) mac(what, secret string) (sum [sha256.Size]byte) {
	mac := hmac.New(sha256.New, m.key[:])
	text := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(what)+len(secret)), uint64(len(what)))
	text = append(text, what...)
	mac.Write(append(text, secret...))
	mac.Sum(sum[:0])
	return sum
}
