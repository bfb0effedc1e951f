package revocation

import (
	"sync"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Broadcast passes cutoffs on between the servers of one issuer in this process. While a configuration is replaced, the old
// server and the new one both answer, and the one must refuse at once what the other revokes. Safe for concurrent use.
type Broadcast struct {
	mu      sync.Mutex
	members map[string]map[*Cutoffs]bool // by issuer
}

// NewBroadcast returns a Broadcast without members.
func NewBroadcast() *Broadcast { return &Broadcast{members: make(map[string]map[*Cutoffs]bool)} }

// Join lets cutoffs have what the other members for the same issuer add from now on, until leave is called. What was
// added before is in the store: poll after joining.
func (b *Broadcast) Join(c *Cutoffs) (leave func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.members[c.Issuer] == nil {
		b.members[c.Issuer] = make(map[*Cutoffs]bool)
	}
	b.members[c.Issuer][c] = true
	return func() { b.leave(c) }
}

func (b *Broadcast) leave(c *Cutoffs) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.members[c.Issuer], c)
	if len(b.members[c.Issuer]) == 0 {
		delete(b.members, c.Issuer)
	}
}

// send tells the other members of a cutoff.
func (b *Broadcast) send(from *Cutoffs, cutoff *storage.Cutoff) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for member := range b.members[from.Issuer] {
		if member != from {
			member.learn(cutoff)
		}
	}
}

// Size returns how many members an issuer has.
func (b *Broadcast) Size(issuer string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.members[issuer])
}
