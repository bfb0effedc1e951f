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

// client sends its requests to one node after the other, as a load balancer does, and repeats one whose connection
// broke at the next. A connection may break: a process that is killed breaks them all, and a listener that closes in
// a reload those that wait for it, at any site on Caddy. An answer of 5xx is none that may be.
type client struct {
	c       *cluster
	address string // of the machine that it is on
	at      int    // the node for its next request
	pinned  bool   // it stays at that
	broken  int    // connections that there were: the node may or may not have done what it was asked for
}

// newClient returns a client on a machine of its own that begins at a node.
func (c *cluster) newClient(node int) *client {
	n := c.figures.machines.Add(1)
	return &client{c: c, at: node, address: fmt.Sprintf("10.%d.%d.%d", n>>16&255, n>>8&255, n&255)}
}

// browser returns the client as programs use it.
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
			body, _ := io.ReadAll(resp.Body) // read before
			resp.Body.Close()
			return nil, fmt.Errorf("%s: %s", resp.Status, body)
		case err == nil:
			if !l.pinned { // who waits for a node that is down waits for long
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

// attempt sends a request to one node. What the request says of the host is the name of the site, not of the node.
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
