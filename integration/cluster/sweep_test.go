package cluster_test

import (
	"bytes"
	"crypto/rand"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// sweepsEvery is how often the nodes sweep files.
const sweepsEvery = time.Minute

// putExpired writes a record that expired long ago, and returns part of the name of its file.
func (b *backend) putExpired(t *testing.T) string {
	t.Helper()
	expired := time.Now().AddDate(0, 0, -7)
	key := (&storage.Cutoff{Family: rand.Text(), Expires: expired}).Key()
	must(t, b.store.Put(t.Context(), key, nil, expired))
	return key.ID
}

// checkSweeps checks that the expired record was swept, and that the logs show no more sweeps than one node does, across all
// reloads and restarts.
func (c *cluster) checkSweeps(t *testing.T, since time.Duration, expired string) {
	t.Helper()
	integration.Eventually(t, "the sweep of the expired record", func() bool {
		found := false
		must(t, filepath.WalkDir(c.dir, func(path string, _ fs.DirEntry, err error) error {
			found = found || strings.Contains(path, expired)
			return nil // the file was removed since
		}))
		return !found
	})
	sweeps := 0
	for _, node := range c.nodes {
		sweeps += bytes.Count(node.Log(), []byte(`"msg":"sweeping"`))
	}
	if most := 1 + int(since/sweepsEvery); sweeps < 1 || sweeps > most {
		t.Errorf("the nodes have swept %d times in %s, want at least once and at most %d times", sweeps, since, most)
	}
}
