package dpop

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

const (
	// remembered is how long a proof is remembered at least: as long as it can be valid.
	remembered = past + future
	// maxUsed is how many proofs are remembered in half of the time. Of more, the oldest are forgotten: at over 7000 requests a second.
	maxUsed = 1 << 18
	// maxKeys is how many keys are remembered.
	maxKeys = 1 << 10
)

// Memory has the proofs that this process has seen, and keys of clients, so that the next proof with the same key need not read it again.
// Its size is bounded. The servers and guards of all configurations share one. Safe for concurrent use; make it with NewMemory.
type Memory struct {
	mu      sync.Mutex
	current map[[16]byte]struct{} // proofs since started
	before  map[[16]byte]struct{} // proofs of the time before that
	started time.Time

	keysMu sync.RWMutex
	keys   map[[sha256.Size]byte]*jwt.ProofKey // by the hash of the encoded header
}

// NewMemory returns an empty Memory.
func NewMemory() *Memory {
	return &Memory{current: make(map[[16]byte]struct{}), keys: make(map[[sha256.Size]byte]*jwt.ProofKey)}
}

// first reports whether a proof was not seen before at a hop, and remembers it.
func (m *Memory) first(p *Proof, hop string, now time.Time) bool {
	sum := sha256.Sum256([]byte(hop + "\x00" + p.Thumbprint + "\x00" + p.ID))
	id := [16]byte(sum[:])
	m.mu.Lock()
	defer m.mu.Unlock()
	if elapsed := now.Sub(m.started); elapsed >= remembered || len(m.current) >= maxUsed {
		m.before, m.current, m.started = m.current, make(map[[16]byte]struct{}), now
		if elapsed >= 2*remembered {
			m.before = nil
		}
	}
	_, now1 := m.current[id]
	_, before := m.before[id]
	m.current[id] = struct{}{}
	return !now1 && !before
}

// key returns the key in the encoded header of a proof.
func (m *Memory) key(header string) (*jwt.ProofKey, error) {
	id := sha256.Sum256([]byte(header))
	m.keysMu.RLock()
	key := m.keys[id]
	m.keysMu.RUnlock()
	if key != nil {
		return key, nil
	}
	key, err := jwt.ParseProofKey(header)
	if err != nil {
		return nil, err
	}
	m.keysMu.Lock()
	defer m.keysMu.Unlock()
	if len(m.keys) >= maxKeys {
		for other := range m.keys {
			delete(m.keys, other)
			break
		}
	}
	m.keys[id] = key
	return key, nil
}
