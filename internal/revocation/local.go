package revocation

import (
	"sync"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// LocalServers passes cutoffs on between the servers of one issuer in this process, not between nodes: for these, see
// [Cutoffs.Poll]. While a configuration is replaced, the old server and the new one both answer, and the one must refuse
// at once what the other revokes. Safe for concurrent use.
type LocalServers struct {
	mu      sync.Mutex
	members map[string]map[*Cutoffs]bool // by issuer
}

// NewLocalServers returns LocalServers without members.
func NewLocalServers() *LocalServers {
	return &LocalServers{members: make(map[string]map[*Cutoffs]bool)}
}

// Join lets cutoffs have what the other members for the same issuer add from now on, until leave is called. What was
// added before is in the store: poll after joining.
func (l *LocalServers) Join(c *Cutoffs) (leave func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.members[c.Issuer] == nil {
		l.members[c.Issuer] = make(map[*Cutoffs]bool)
	}
	l.members[c.Issuer][c] = true
	return func() { l.leave(c) }
}

func (l *LocalServers) leave(c *Cutoffs) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.members[c.Issuer], c)
	if len(l.members[c.Issuer]) == 0 {
		delete(l.members, c.Issuer)
	}
}

// send tells the other members of a cutoff.
func (l *LocalServers) send(from *Cutoffs, cutoff *storage.Cutoff) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for member := range l.members[from.Issuer] {
		if member != from {
			member.learn(cutoff)
		}
	}
}

// Size returns how many members an issuer has.
func (l *LocalServers) Size(issuer string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.members[issuer])
}
