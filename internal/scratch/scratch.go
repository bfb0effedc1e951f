// Package scratch lends memory for what is made on the way to something else, such as the claims of a token before they are signed.
//
// Three parts of each token request borrow it: the body as it arrives, a JSON object (wire.Object), and a token while it is signed.
package scratch

import (
	"bytes"
	"sync"
)

const (
	usual   = 2 << 10  // the capacity of a new buffer, in bytes
	largest = 16 << 10 // buffers of a larger capacity are not kept
)

var buffers = sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, usual)) }}

// Take returns an empty buffer.
func Take() *bytes.Buffer { return buffers.Get().(*bytes.Buffer) }

// Release takes a buffer back. What Bytes has returned is not valid any more.
func Release(b *bytes.Buffer) {
	if b.Cap() <= largest {
		b.Reset()
		buffers.Put(b)
	}
}
