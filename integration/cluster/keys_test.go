package cluster_test

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

var keysRecord = storage.Key{Kind: storage.KindKeys, ID: "signing"}

// race starts all nodes at the same time when a key has to be made: the first key, and after that one is old, the next. Each time,
// one node must make the key for all.
func (c *cluster) race(t *testing.T) {
	t.Helper()
	restart := func(meanwhile func()) []string {
		t.Helper()
		for _, node := range c.nodes {
			node.Stop()
		}
		meanwhile()
		for _, node := range c.nodes {
			node.Begin()
		}
		for _, node := range c.nodes {
			node.Ready()
		}
		return c.published(t)
	}
	first := restart(func() { must(t, c.store.Delete(t.Context(), keysRecord)) })
	if len(first) != 1 {
		t.Fatalf("the nodes have made the keys %q, want one", first)
	}
	both := restart(func() { c.age(t) })
	if len(both) != 2 || !slices.Contains(both, first[0]) {
		t.Fatalf("after the key %q became old, the keys are %q, want one more", first, both)
	}
	c.kids = map[string]bool{both[0]: true, both[1]: true}
}

// age makes the keys in the store older by the rotation interval.
func (c *cluster) age(t *testing.T) {
	t.Helper()
	must(t, c.store.Update(t.Context(), keysRecord, func(old []byte) ([]byte, time.Time, error) {
		var record struct {
			Secret json.RawMessage  `json:"secret"`
			Keys   []map[string]any `json:"keys"`
		}
		if err := json.Unmarshal(old, &record); err != nil {
			return nil, time.Time{}, err
		}
		for _, key := range record.Keys {
			for _, member := range []string{"created", "signs"} {
				at, err := time.Parse(time.RFC3339, key[member].(string))
				if err != nil {
					return nil, time.Time{}, err
				}
				key[member] = at.AddDate(0, 0, -30)
			}
		}
		value, err := json.Marshal(record)
		return value, time.Time{}, err
	}))
}

// published returns the keys that all nodes publish.
func (c *cluster) published(t *testing.T) (ids []string) {
	t.Helper()
	integration.Eventually(t, "the same keys at all nodes", func() bool {
		ids = publishedBy(t, c.nodes[0])
		return !slices.ContainsFunc(c.nodes[1:], func(node *integration.Server) bool {
			return !slices.Equal(publishedBy(t, node), ids)
		})
	})
	return ids
}

func publishedBy(t *testing.T, node *integration.Server) (ids []string) {
	t.Helper()
	resp, err := node.Client(t).Get(node.JWKSURL()) //nolint:noctx // the client has a timeout
	must(t, err)
	defer resp.Body.Close()
	var set struct {
		Keys []struct {
			ID string `json:"kid"`
		} `json:"keys"`
	}
	must(t, json.NewDecoder(resp.Body).Decode(&set))
	for _, key := range set.Keys {
		ids = append(ids, key.ID)
	}
	return ids
}

// rotate makes a key at every node at the same time, as the owner can.
func (c *cluster) rotate(t *testing.T, _ int) {
	t.Helper()
	var mu sync.Mutex
	before := len(c.kids)
	c.everywhere(func(node int) {
		answer, err := c.nodes[node].Tell(t.Context(), "/oauth/default/keys/rotate", []byte(`{"now": true}`))
		var list []struct {
			ID string `json:"kid"`
		}
		if err == nil {
			err = json.Unmarshal(answer, &list)
		}
		if err != nil {
			t.Errorf("keys/rotate at node %d: %v", node, err)
		}
		mu.Lock()
		defer mu.Unlock()
		c.figures.rotations++
		for _, key := range list {
			c.kids[key.ID] = true
		}
	})
	if made := len(c.kids) - before; made != len(c.nodes) {
		t.Errorf("the owner made %d keys, but there are %d more", len(c.nodes), made)
	}
}

// sameKeys reports unexpected and missing keys.
func (c *cluster) sameKeys(t *testing.T) {
	t.Helper()
	found, want := c.published(t), slices.Sorted(maps.Keys(c.kids))
	slices.Sort(found)
	if !slices.Equal(found, want) {
		t.Errorf("at the end the keys are %q, want %q", found, want)
	}
}
