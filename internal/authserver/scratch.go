package authserver

import "sync"

// scratch is memory for what is made on the way to something else, which has to be a copy: it is used again.
type scratch struct{ bytes []byte }

var scratches = sync.Pool{New: func() any { return &scratch{make([]byte, 0, 2<<10)} }}

// maxScratch is how large memory may be that is kept for later.
const maxScratch = 16 << 10

func takeScratch() *scratch { return scratches.Get().(*scratch) }

// release gives the memory back, of which b is the latest form, since it may have grown.
func (s *scratch) release(b []byte) {
	if cap(b) <= maxScratch {
		s.bytes = b[:0]
		scratches.Put(s)
	}
}
