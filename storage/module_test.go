package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"
	"github.com/caddyserver/certmagic"
)

// pooled returns how many modules use what is pooled for an issuer.
func pooled(pool *caddy.UsagePool, issuer string) int {
	n, _ := pool.References(issuer)
	return n
}

func openModule(t *testing.T, m Opener, issuer string) Store {
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

// During a reload the new config opens before the old one is cleaned up.
func TestMemorySurvivesReload(t *testing.T) {
	ctx, key := t.Context(), Key{KindFamily, "zzzz.id"}
	before, after := new(Memory), new(Memory)
	if err := openModule(t, before, "reload").Put(ctx, key, []byte("value"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	openModule(t, before, "removed")

	kept := openModule(t, after, "reload")
	cleanUp(t, before)
	if value, err := kept.Get(ctx, key); string(value) != "value" {
		t.Errorf("after the reload: got %q, %v", value, err)
	}
	if pooled(memories, "reload") != 1 || pooled(memories, "removed") != 0 {
		t.Errorf("%d and %d users are left, want 1 and 0",
			pooled(memories, "reload"), pooled(memories, "removed"))
	}

	// A config that fails is cleaned up too, perhaps before it opened anything, perhaps twice.
	failed := new(Memory)
	cleanUp(t, failed)
	openModule(t, failed, "reload")
	openModule(t, failed, "reload")
	cleanUp(t, failed)
	cleanUp(t, failed)
	if _, err := kept.Get(ctx, key); err != nil {
		t.Errorf("a config that failed took the records: %v", err)
	}

	cleanUp(t, after)
	last := new(Memory)
	if _, err := openModule(t, last, "reload").Get(ctx, key); !errors.Is(err, ErrNotFound) {
		t.Errorf("the records outlive their last config: %v", err)
	}
	cleanUp(t, last)
}

func TestCaddySharesStripesAcrossReload(t *testing.T) {
	cs := &certmagic.FileStorage{Path: t.TempDir()}
	before, after := &Caddy{storage: cs, log: caddy.Log()}, &Caddy{storage: cs, log: caddy.Log()}
	one := openModule(t, before, "reload").(*caddyStore)
	two := openModule(t, after, "reload").(*caddyStore)
	other := openModule(t, after, "other").(*caddyStore)
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
	for _, id := range []string{"oauth.stores.caddy", "oauth.stores.memory"} {
		module, err := ctx.LoadModuleByID(id, nil)
		if err != nil {
			t.Fatal(err)
		}
		store := openModule(t, module.(Opener), "provision")
		if _, err := store.Get(t.Context(), Key{KindKeys, "none"}); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", id, err)
		}
		if store, ok := store.(*caddyStore); ok {
			if files, ok := store.backend.(*files); !ok || files.top != dir {
				t.Errorf("the store is on %v, not on the storage of the config", store.backend)
			}
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("there is something in the storage: %v, %v", entries, err)
	}
	cancel()
	if pooled(memories, "provision")+pooled(stripePool, "provision") != 0 {
		t.Error("Caddy's cleanup left something in the pools")
	}
}

func TestStoresInCaddyfile(t *testing.T) {
	for text, valid := range map[string]bool{
		"%s":                true,
		"%s big":            false,
		"%s {\n\tsize 5\n}": false,
	} {
		for name, module := range map[string]caddyfile.Unmarshaler{"memory": new(Memory), "caddy": new(Caddy)} {
			text := fmt.Sprintf(text, name)
			err := module.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text))
			if (err == nil) != valid {
				t.Errorf("%q: got error %v, want one: %v", text, err, !valid)
			}
		}
	}
}
