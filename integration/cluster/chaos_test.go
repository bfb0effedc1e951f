package cluster_test

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// between is the longest pause between two disturbances.
const between = 500 * time.Millisecond

// disturbance disturbs one node.
type disturbance func(c *cluster, t *testing.T, node int)

// atLeast are the disturbances that every run has. Random ones follow.
var atLeast = []disturbance{
	(*cluster).reload, (*cluster).kill, (*cluster).rotate, (*cluster).stop,
	(*cluster).reload, (*cluster).kill, (*cluster).rotate, (*cluster).stop,
}

// disturb disturbs the nodes until done is closed. It calls enough after all disturbances that every run must have.
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

// kills counts the kills of nodes. Only a kill may lose an answer.
type kills struct{ begun, done atomic.Int64 }

// since reports whether there was a kill after the first done ones.
func (k *kills) since(done int64) bool { return k.begun.Load() > done }

// restart ends a node and starts it again. Requests to its admin API wait meanwhile; all others are sent.
func (c *cluster) restart(node int, end func(*integration.Server)) {
	c.up[node].Lock()
	defer c.up[node].Unlock()
	end(c.nodes[node])
	c.nodes[node].Run()
}
