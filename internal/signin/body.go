package signin

import (
	"io"
	"net/http"
	"strings"
	"sync"
)

// KeepBody makes a request keep what is read of its body. again returns the body from its start.
func KeepBody(r *http.Request) (again func() io.ReadCloser) {
	body := &keptBody{ReadCloser: r.Body}
	r.Body = body
	return body.again
}

// keptBody is the body of a request that handlers may read before the endpoint does.
type keptBody struct {
	io.ReadCloser

	mu   sync.Mutex
	read []byte
	over bool // the endpoint has it now
}

// maxKept is how much of a body is kept. It is more than any endpoint accepts.
const maxKept = 128 << 10

// Read implements io.Reader.
func (b *keptBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over { // reverse_proxy may still read the body after its upstream has answered
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p)
	b.read = append(b.read, p[:min(n, maxKept-len(b.read))]...)
	return n, err
}

// Close does nothing. The server closes the body.
func (b *keptBody) Close() error { return nil }

// again returns the body from its start.
func (b *keptBody) again() io.ReadCloser {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(strings.NewReader(string(b.read)), b.ReadCloser), b.ReadCloser}
}
