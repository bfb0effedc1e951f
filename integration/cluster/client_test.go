package cluster_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// client sends its requests to the nodes in turn, as a load balancer does. If a connection breaks, it repeats the request at the
// next node. Connections may break: killing a process breaks all of them, and a listener that closes in a reload breaks those that
// it has not accepted yet, as on any site on Caddy. An answer with 5xx is an error.
type client struct {
	c       *cluster
	address string // the IP address of the client
	at      int    // the node for its next request
	pinned  bool   // all its requests go to this node
	broken  int    // how many connections broke; their nodes may or may not have handled the requests
}

// newClient returns a client with an address of its own that begins at a node.
func (c *cluster) newClient(node int) *client {
	n := c.figures.machines.Add(1)
	return &client{c: c, at: node, address: fmt.Sprintf("10.%d.%d.%d", n>>16&255, n>>8&255, n&255)}
}

// browser returns an HTTP client that uses this client as its transport.
func (l *client) browser() *http.Client {
	return &http.Client{
		Transport:     l.c.nodes[0].Secrets.Record(l),
		Timeout:       integration.Patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// RoundTrip implements http.RoundTripper.
func (l *client) RoundTrip(req *http.Request) (*http.Response, error) {
	start := time.Now()
	for {
		resp, err := l.attempt(req)
		switch {
		case err == nil && resp.StatusCode >= http.StatusInternalServerError:
			body, _ := io.ReadAll(resp.Body) // attempt has read it
			resp.Body.Close()
			return nil, fmt.Errorf("%s: %s", resp.Status, body)
		case err == nil:
			if !l.pinned { // a pinned client may have to wait for a node that is down
				l.c.figures.answered(time.Since(start))
			}
			return resp, nil
		case !errors.Is(err, syscall.ECONNREFUSED):
			l.broken++
			l.c.figures.broken.Add(1)
		case !l.pinned:
			l.c.figures.down.Add(1)
		}
		select {
		case <-req.Context().Done():
			return nil, err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// attempt sends a request to one node. Its host is that of the site, not that of the node.
func (l *client) attempt(req *http.Request) (*http.Response, error) {
	node := l.c.nodes[l.at]
	if !l.pinned {
		l.at = (l.at + 1) % len(l.c.nodes)
	}
	sent := req.Clone(req.Context())
	sent.Host, sent.URL.Host = req.URL.Host, node.Address
	sent.Header.Set("X-Forwarded-For", l.address)
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		sent.Body = body
	}
	resp, err := l.c.transport.RoundTrip(sent)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, err
}
