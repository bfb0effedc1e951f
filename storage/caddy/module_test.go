package caddystore

import (
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"
	"github.com/caddyserver/certmagic"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// pooled returns how many modules use what is pooled for an issuer.
func pooled(pool *caddy.UsagePool, issuer string) int {
	n, _ := pool.References(issuer)
	return n
}

func openModule(t *testing.T, m storage.Opener, issuer string) storage.Store {
	t.Helper()
	store, err := m.Open(issuer)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func cleanUp(t *testing.T, m caddy.CleanerUpper) {
	t.Helper()
	if err := m.Cleanup(); err != nil {
		t.Fatal(err)
	}
}

func TestCaddySharesStripesAcrossReload(t *testing.T) {
	cs := &certmagic.FileStorage{Path: t.TempDir()}
	before, after := &Caddy{on: cs, log: caddy.Log()}, &Caddy{on: cs, log: caddy.Log()}
	one := openModule(t, before, "reload").(*store)
	two := openModule(t, after, "reload").(*store)
	other := openModule(t, after, "other").(*store)
	if one.stripes != two.stripes || one.stripes == other.stripes {
		t.Error("stripes are not shared by issuer")
	}
	cleanUp(t, before)
	cleanUp(t, before)
	if n := pooled(stripePool, "reload"); n != 1 {
		t.Errorf("%d users of the stripes are left, want 1", n)
	}
	cleanUp(t, after)
	if pooled(stripePool, "reload")+pooled(stripePool, "other") != 0 {
		t.Error("stripes outlive their last config")
	}
	cleanUp(t, new(Caddy))
}

// Through Caddy itself: the module finds the storage of its config, and leaves no trace there.
func TestCaddyModuleProvision(t *testing.T) {
	dir := t.TempDir()
	raw, err := json.Marshal(map[string]string{"module": "file_system", "root": dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		Admin:      &caddy.AdminConfig{Disabled: true},
		StorageRaw: raw,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(ctx)
	defer cancel()
	module, err := ctx.LoadModuleByID("oauth.stores.caddy", nil)
	if err != nil {
		t.Fatal(err)
	}
	store := openModule(t, module.(storage.Opener), "provision").(*store)
	if _, err := store.Get(t.Context(), storage.Key{Kind: storage.KindKeys, ID: "none"}); !errors.Is(err, storage.ErrNotFound) {
		t.Error(err)
	}
	if files, ok := store.backend.(*files); !ok || files.top != dir {
		t.Errorf("the store is on %v, not on the storage of the config", store.backend)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("there is something in the storage: %v, %v", entries, err)
	}
	cancel()
	if pooled(stripePool, "provision") != 0 {
		t.Error("Caddy's cleanup left something in the pools")
	}
}

func TestCaddyfile(t *testing.T) {
	for text, valid := range map[string]bool{
		"caddy":                true,
		"caddy big":            false,
		"caddy {\n\tsize 5\n}": false,
	} {
		if err := new(Caddy).UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)); (err == nil) != valid {
			t.Errorf("%q: got error %v, want one: %v", text, err, !valid)
		}
	}
}
