package dpop

import (
	"context"
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

const (
	// remembered is how long a proof is remembered at least: as long as it can be valid.
	remembered = past + future
	// maxUsed is how many proofs are remembered in half of the time. Of more, the oldest are forgotten: at over 3,700 requests a second.
	maxUsed = 1 << 18
	// maxKeys is how many keys are remembered.
	maxKeys = 1 << 10
)

// Memory has the proofs that this process has seen, and keys of clients, so that the next proof with the same key need not read it again.
// Its size is bounded by these constants, and by the number of requests in progress. The servers and guards of all configurations share
// one. Safe for concurrent use; make it with NewMemory.
type Memory struct {
	mu      sync.Mutex
	current map[[16]byte]struct{} // proofs since started
	before  map[[16]byte]struct{} // proofs of the time before that
	started time.Time
	running map[[16]byte]*running // first requests with a proof that are in progress

	keysMu sync.RWMutex
	keys   map[[sha256.Size]byte]*jwt.ProofKey // by the hash of the encoded header
}

// NewMemory returns an empty Memory.
func NewMemory() *Memory {
	return &Memory{
		current: make(map[[16]byte]struct{}), running: make(map[[16]byte]*running), keys: make(map[[sha256.Size]byte]*jwt.ProofKey),
	}
}

// running is the first request with a proof. It stays in memory while it is in progress: a site may pass it on.
type running struct {
	ctx  context.Context // says whether the request has ended
	hops []string        // where its proof was accepted
}

// accept reports whether a request is the first one with its proof, or the first one at its hop while the first one is in progress. It
// remembers the proof. ctx ends with the request.
func (m *Memory) accept(ctx context.Context, p *Proof, hop string, now time.Time) bool {
	sum := sha256.Sum256([]byte(p.Thumbprint + "\x00" + p.ID))
	id := [16]byte(sum[:])
	m.mu.Lock()
	defer m.mu.Unlock()
	if elapsed := now.Sub(m.started); elapsed >= remembered || len(m.current) >= maxUsed {
		m.before, m.current, m.started = m.current, make(map[[16]byte]struct{}), now
		if elapsed >= 2*remembered {
			m.before = nil
		}
	}
	_, recent := m.current[id]
	_, before := m.before[id]
	m.current[id] = struct{}{}
	if recent || before {
		return m.running[id].passOn(hop)
	}
	if ctx.Done() == nil { // nobody can tell when the request ends
		return true
	}
	first := &running{ctx, []string{hop}}
	m.running[id] = first
	context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.running[id] == first { // and not one with a new proof that has the ID again
			delete(m.running, id)
		}
	})
	return true
}

// passOn reports whether a request, nil for one that has ended, may have come to a hop where its proof was not yet. It notes the hop.
func (r *running) passOn(hop string) bool {
	if r == nil || hop == "" || r.ctx.Err() != nil || slices.Contains(r.hops, hop) {
		return false
	}
	r.hops = append(r.hops, hop)
	return true
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
