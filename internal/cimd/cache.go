package cimd

import (
	"container/list"
	"sync"
	"time"
)

const (
	maxRemembered = 1000
	maxBytes      = 4 << 20 // of all documents together, as their servers sent them

	// unusedLife is how long a document is remembered from which nobody got a code.
	unusedLife = 24 * time.Hour
)

// cache has documents for requests, those of clients that are not in use included. However many there are, it has the same size: what
// nobody asked for longest goes first.
type cache struct {
	mu     sync.Mutex
	byID   map[string]*list.Element // of *document
	recent *list.List               // the latest first
	bytes  int
}

func newCache() *cache {
	return &cache{byID: make(map[string]*list.Element), recent: list.New()}
}

// get returns the document of a client, nil if there is none.
func (m *cache) get(id string, now time.Time) *document {
	m.mu.Lock()
	defer m.mu.Unlock()
	element := m.byID[id]
	if element == nil {
		return nil
	}
	d := element.Value.(*document)
	end := d.Fetched.Add(unusedLife)
	if d.stored {
		end = expiry(&d.Document)
	}
	if !end.IsZero() && !now.Before(end) {
		m.remove(element)
		return nil
	}
	m.recent.MoveToFront(element)
	return d
}

// put remembers a document in the place of the one before.
func (m *cache) put(d *document) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if before := m.byID[d.ID]; before != nil {
		m.remove(before)
	}
	m.byID[d.ID] = m.recent.PushFront(d)
	m.bytes += len(d.Body)
	for m.recent.Len() > maxRemembered || m.bytes > maxBytes {
		m.remove(m.recent.Back())
	}
}

func (m *cache) remove(element *list.Element) {
	d := m.recent.Remove(element).(*document)
	delete(m.byID, d.ID)
	m.bytes -= len(d.Body)
}
