package authserver

import (
	"sync"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Bulletin passes revocations on between the servers of one issuer in this process: while a config is replaced, the old
// server and the new one both answer, and what one revokes the other must refuse at once. Safe for concurrent use.
type Bulletin struct {
	mu      sync.Mutex
	readers map[string]map[*cutoffs]bool // by issuer
}

// NewBulletin returns a Bulletin without readers.
func NewBulletin() *Bulletin {
	return &Bulletin{readers: make(map[string]map[*cutoffs]bool)}
}

func (b *Bulletin) join(issuer string, reader *cutoffs) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.readers[issuer] == nil {
		b.readers[issuer] = make(map[*cutoffs]bool)
	}
	b.readers[issuer][reader] = true
}

func (b *Bulletin) leave(issuer string, reader *cutoffs) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.readers[issuer], reader)
	if len(b.readers[issuer]) == 0 {
		delete(b.readers, issuer)
	}
}

// post tells all who read of a cutoff that is in the store.
func (b *Bulletin) post(issuer, id string, cutoff *storage.Cutoff) {
	for _, reader := range b.of(issuer) {
		reader.learn(id, cutoff)
	}
}

// of returns the readers. They are not told under the lock, since one that is reading the store may take its time.
func (b *Bulletin) of(issuer string) []*cutoffs {
	b.mu.Lock()
	defer b.mu.Unlock()
	readers := make([]*cutoffs, 0, len(b.readers[issuer]))
	for reader := range b.readers[issuer] {
		readers = append(readers, reader)
	}
	return readers
}
