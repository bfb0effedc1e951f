package cluster_test

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// between is how long the nodes are left alone at most.
const between = 500 * time.Millisecond

// trouble is what can happen to a node, one at a time.
type trouble func(c *cluster, t *testing.T, node int)

// atLeast is what happens first, whatever else comes then.
var atLeast = []trouble{
	(*cluster).reload, (*cluster).kill, (*cluster).rotate, (*cluster).stop,
	(*cluster).reload, (*cluster).kill, (*cluster).rotate, (*cluster).stop,
}

// disturb troubles the nodes until done is closed, and calls enough when all that has to happen has happened.
func (c *cluster) disturb(t *testing.T, enough func(), done <-chan struct{}) {
	t.Helper()
	for step := 0; ; step++ {
		select {
		case <-done:
			return
		case <-time.After(rand.N(between)):
		}
		if step < len(atLeast) {
			atLeast[step](c, t, step%nodes)
			continue
		}
		enough()
		node := rand.IntN(nodes)
		switch n := rand.IntN(10); {
		case n < 6:
			c.reload(t, node)
		case n < 8:
			c.stop(t, node)
		default:
			c.kill(t, node)
		}
	}
}

func (c *cluster) reload(t *testing.T, node int) {
	t.Helper()
	c.figures.reloads++
	if err := c.nodes[node].Load(t.Context(), c.configs[node]); err != nil {
		t.Errorf("reload of node %d: %v", node, err)
	}
}

func (c *cluster) stop(t *testing.T, node int) {
	t.Helper()
	c.figures.stops++
	c.restart(node, (*integration.Server).Stop)
}

func (c *cluster) kill(t *testing.T, node int) {
	t.Helper()
	c.kills.begun.Add(1)
	c.restart(node, func(s *integration.Server) {
		s.Kill()
		c.kills.done.Add(1)
	})
}

// kills are those that there were. Only with them an answer may be lost that a node was to give.
type kills struct{ begun, done atomic.Int64 }

// since returns whether there was a kill after as many were done.
func (k *kills) since(done int64) bool { return k.begun.Load() > done }

// restart keeps the owner away from a node that is not up. Everybody else just tries.
func (c *cluster) restart(node int, end func(*integration.Server)) {
	c.up[node].Lock()
	defer c.up[node].Unlock()
	end(c.nodes[node])
	c.nodes[node].Run()
}
