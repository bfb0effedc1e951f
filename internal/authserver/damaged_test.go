package authserver

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/caddyserver/certmagic"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
	caddystore "github.com/caddy-oauth/caddy-oauth/storage/caddy"
)

// A record that a power failure left empty takes nothing else with it: neither the revocations and clients beside it, nor
// the tokens that are good.
func TestDamagedRecords(t *testing.T) {
	for _, kind := range []storage.Kind{storage.KindCutoff, storage.KindClient} {
		t.Run(string(kind), func(t *testing.T) {
			dir := t.TempDir()
			store := caddystore.New(&certmagic.FileStorage{Path: dir}, "default")
			onDisk := func(c *Config) {
				c.Store, c.Now = store, nil
				runTime(c)
			}
			a := newTestServer(t, onDisk)
			good, revoked, other := a.tokens(t), a.tokens(t), a.tokens(t)
			if kind == storage.KindClient {
				a.add(t, "later")
			} else {
				a.giveBack(t, other["access_token"])
			}
			for _, file := range recordsOf(t, dir, kind) {
				if err := os.Truncate(file, 0); err != nil {
					t.Fatal(err)
				}
			}
			a.giveBack(t, revoked["access_token"])
			b := newTestServer(t, onDisk) // after a restart
			b.state(t, good["access_token"], nil)
			b.state(t, revoked["access_token"], jwt.ErrRevoked)
			if err := b.cutoffs.Poll(t.Context()); err != nil {
				t.Errorf("news from other nodes: %v", err)
			}
			if n := b.logs.FilterMessageSnippet("in the store").Len(); n != 1 {
				t.Errorf("the log tells of it %d times", n)
			}
		})
	}
}

func recordsOf(t *testing.T, dir string, kind storage.Kind) (files []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "oauth", "default", string(kind)), func(path string, d os.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".record" {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("records of %s: %v, %v", kind, files, err)
	}
	return files
}
