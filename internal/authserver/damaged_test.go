package authserver

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
	caddystore "github.com/caddy-oauth/caddy-oauth/storage/caddy"
)

// A record that a power failure left empty affects nothing else: neither other revocations and clients, nor valid tokens.
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
				a.revokeToken(t, other["access_token"])
			}
			for _, file := range recordsOf(t, dir, kind) {
				if err := os.Truncate(file, 0); err != nil {
					t.Fatal(err)
				}
			}
			a.revokeToken(t, revoked["access_token"])
			b := newTestServer(t, onDisk) // after a restart
			b.state(t, good["access_token"], nil)
			b.state(t, revoked["access_token"], jwt.ErrRevoked)
			if err := b.cutoffs.Poll(t.Context()); err != nil {
				t.Errorf("loading the changes of other nodes: %v", err)
			}
			if err := b.clients.Reload(t.Context()); err != nil {
				t.Error(err)
			}
			if n := b.logs.FilterMessageSnippet("in the store").Len(); n != 1 {
				t.Errorf("the log has it %d times", n)
			}
		})
	}
}

// A damaged change marker or record of consents is made anew.
func TestDamagedRecordsAreMadeAnew(t *testing.T) {
	dir := t.TempDir()
	store := caddystore.New(&certmagic.FileStorage{Path: dir}, "default")
	onDisk := func(c *Config) {
		c.Store, c.Now = store, nil
		runTime(c)
	}
	damage := func(kind storage.Kind) {
		t.Helper()
		for _, file := range recordsOf(t, dir, kind) {
			if err := os.Truncate(file, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	a, b := newTestServer(t, onDisk), newTestServer(t, onDisk)
	a.add(t, "first")
	if err := b.upkeep.pollChanges(t.Context()); err != nil {
		t.Fatal(err)
	}
	damage(changeKey.Kind)
	a.add(t, "second")
	damage(changeKey.Kind)
	if err := b.upkeep.pollChanges(t.Context()); err != nil {
		t.Errorf("with a damaged change marker: %v", err)
	}
	if client, err := b.clients.Find(t.Context(), "second"); client == nil || err != nil {
		t.Errorf("a client that another node added: %v, %v", client, err)
	}
	if _, err := store.Get(t.Context(), changeKey); err != nil {
		t.Errorf("the change marker stays damaged: %v", err)
	}

	a.tokens(t)
	damage(storage.KindConsent)
	a.tokens(t)
	if consents, err := b.Owner().UserConsents(t.Context(), "alice"); err != nil || len(consents.Clients) != 1 {
		t.Errorf("the consents after the person was asked again: %v, %v", consents, err)
	}
	damage(storage.KindConsent)
	if err := a.revoker.Revoke(t.Context(), "alice", "", "test", ""); err != nil {
		t.Errorf("a revocation with a damaged record of consents: %v", err)
	}
}

// The token of a damaged record is refused, so that the client gets a new one. The log has it once.
func TestDamagedOpaqueToken(t *testing.T) {
	for _, damage := range []func(name string) error{
		func(name string) error { return os.Truncate(name, 0) },
		nil, // a record that the store can read, and nobody else
	} {
		dir := t.TempDir()
		store := caddystore.New(&certmagic.FileStorage{Path: dir}, "default")
		s := newTestServer(t, func(c *Config) {
			c.Store, c.Now = store, nil
			c.AccessToken.Opaque = true
		})
		token := s.tokens(t)["access_token"].(string)
		if damage == nil {
			key, _ := storage.AccessKey(token)
			if err := store.Put(t.Context(), key, []byte("{"), time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		} else {
			for _, file := range recordsOf(t, dir, storage.KindAccess) {
				if err := damage(file); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range 3 {
			s.state(t, token, jwt.ErrMalformed)
		}
		if n := s.logs.FilterMessageSnippet("damaged record of an opaque access token").Len(); n != 1 {
			t.Errorf("the log has it %d times", n)
		}
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
