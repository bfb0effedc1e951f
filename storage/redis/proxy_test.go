package redis

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// proxy is a proxy between a client and Redis that can lose requests and answers.
type proxy struct {
	address string
	to      string

	// lose, if set, makes the proxy lose the next answer and the connection. The proxy calls it before the client notices.
	lose atomic.Pointer[func()]
	mute atomic.Bool // drops all answers of Redis

	answers atomic.Int64 // how many answers of Redis it has passed on

	mu    sync.Mutex
	conns []net.Conn
}

func startProxy(t *testing.T, to string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed when the test ends
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{address: listener.Addr().String(), to: to}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.closeAll()
		serving.Wait()
	})
	return p
}

// closeAll closes all connections.
func (p *proxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		_ = conn.Close()
	}
	p.conns = nil
}

// made returns how many connections were made.
func (p *proxy) made() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns) / 2
}

func (p *proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.to) //nolint:noctx // it is on this machine
	if err != nil {
		_ = client.Close()
		return
	}
	p.mu.Lock()
	p.conns = append(p.conns, client, server)
	p.mu.Unlock()
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	defer func() { _ = client.Close() }()
	defer func() { _ = server.Close() }()
	answer := make([]byte, 1<<16)
	for {
		n, err := server.Read(answer)
		if err != nil {
			return
		}
		if lost := p.lose.Swap(nil); lost != nil {
			(*lost)()
			return
		}
		if p.mute.Load() {
			continue
		}
		if _, err := client.Write(answer[:n]); err != nil {
			return
		}
		p.answers.Add(1)
	}
}
