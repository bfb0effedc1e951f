package storage_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/caddy-oauth/caddy-oauth/storage"
	caddystore "github.com/caddy-oauth/caddy-oauth/storage/caddy"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
	"github.com/caddy-oauth/caddy-oauth/storage/storetest"
)

func TestEncryptedMemory(t *testing.T) { storetest.Run(t, encrypted(t, inMemory())) }
func TestEncryptedFiles(t *testing.T)  { storetest.Run(t, encrypted(t, onFiles())) }

func BenchmarkEncryptedMemory(b *testing.B) { storetest.Benchmark(b, encrypted(b, inMemory())) }

// inMemory opens the same store by the same address.
func inMemory() storetest.Backend {
	var stores sync.Map
	return storetest.Backend{
		New: func(tb testing.TB) string {
			tb.Helper()
			address := tb.TempDir() // a unique name
			stores.Store(address, memory.New())
			return address
		},
		Open: func(address string) (storage.Store, error) {
			store, _ := stores.Load(address)
			return store.(storage.Store), nil
		},
	}
}

// onFiles is the default store.
func onFiles() storetest.Backend {
	return storetest.Backend{
		New: testing.TB.TempDir,
		Open: func(dir string) (storage.Store, error) {
			return caddystore.New(&certmagic.FileStorage{Path: dir}, "issuer"), nil
		},
	}
}

// encrypted is a backend whose records are encrypted.
func encrypted(tb testing.TB, b storetest.Backend) storetest.Backend {
	tb.Helper()
	keys, open := encryptionKeys(tb, false, newKey), b.Open
	b.Open = func(address string) (storage.Store, error) {
		store, err := open(address)
		if err != nil {
			return nil, err
		}
		return storage.Encrypted(store, "issuer", keys), nil
	}
	return b
}

const (
	oldKey = "c2l4IGhvdXJzIG9sZCwgYW5kIG5vdCBhIHNlY3JldCA="
	newKey = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"
)

func encryptionKeys(tb testing.TB, off bool, texts ...string) *storage.EncryptionKeys {
	tb.Helper()
	keys, err := storage.NewEncryptionKeys(texts, off)
	noError(tb, err)
	return keys
}

func noError(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

var aKey = storage.Key{Kind: storage.KindFamily, ID: "zzzz.0123"}

func TestEncryptedAtRest(t *testing.T) {
	inner := memory.New()
	store := storage.Encrypted(inner, "shop", encryptionKeys(t, false, newKey))
	const value = `{"sub":"alice"}`
	noError(t, store.Put(t.Context(), aKey, []byte(value), time.Time{}))
	first, err := inner.Get(t.Context(), aKey)
	noError(t, err)
	noError(t, store.Update(t.Context(), aKey, func(old []byte) ([]byte, time.Time, error) {
		if string(old) != value {
			t.Errorf("Update sees %q, want %q", old, value)
		}
		return old, time.Time{}, nil
	}))
	second, err := inner.Get(t.Context(), aKey)
	noError(t, err)
	for _, data := range [][]byte{first, second} {
		if bytes.Contains(data, []byte("alice")) {
			t.Errorf("at rest there is %q", data)
		}
	}
	if bytes.Equal(first, second) {
		t.Error("the same value is the same at rest")
	}
}

// An encrypted value can be decrypted only intact, and only at its own key.
func TestEncryptedElsewhere(t *testing.T) {
	ctx, inner, keys := t.Context(), memory.New(), encryptionKeys(t, false, newKey)
	store := storage.Encrypted(inner, "shop", keys)
	noError(t, store.Put(ctx, aKey, []byte(`{"sub":"alice"}`), time.Time{}))
	data, err := inner.Get(ctx, aKey)
	noError(t, err)
	for name, place := range map[string]storage.Key{
		"another record": {Kind: aKey.Kind, ID: "zzzz.0124"},
		"another kind":   {Kind: "famil", ID: aKey.ID},
	} {
		noError(t, inner.Put(ctx, place, data, time.Time{}))
		if value, err := store.Get(ctx, place); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("%s: got %q and error %v, want ErrDamaged", name, value, err)
		}
	}
	if value, err := storage.Encrypted(inner, "shop2", keys).Get(ctx, aKey); !errors.Is(err, storage.ErrDamaged) {
		t.Errorf("another issuer: got %q and error %v, want ErrDamaged", value, err)
	}
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 1
		noError(t, inner.Put(ctx, aKey, changed, time.Time{}))
		if value, err := store.Get(ctx, aKey); err == nil && !bytes.Equal(value, changed) {
			t.Errorf("with bit %d changed: got %q", 8*i, value)
		}
		noError(t, inner.Put(ctx, aKey, data[:i], time.Time{}))
		if value, err := store.Get(ctx, aKey); err == nil && !bytes.Equal(value, data[:i]) {
			t.Errorf("cut off after %d bytes: got %q", i, value)
		}
	}
}

func TestEncryptedWithAnUnknownKey(t *testing.T) {
	ctx, inner := t.Context(), memory.New()
	noError(t, storage.Encrypted(inner, "shop", encryptionKeys(t, false, oldKey)).Put(ctx, aKey, []byte("value"), time.Time{}))
	data, err := inner.Get(ctx, aKey)
	noError(t, err)
	name := hex.EncodeToString(data[8:12])
	for what, keys := range map[string]*storage.EncryptionKeys{
		"another key": encryptionKeys(t, false, newKey), "another key, off": encryptionKeys(t, true, newKey),
	} {
		store := storage.Encrypted(inner, "shop", keys)
		_, gotten := store.Get(ctx, aKey)
		updated := store.Update(ctx, aKey, func([]byte) ([]byte, time.Time, error) {
			t.Errorf("%s: an Update sees the record", what)
			return nil, time.Time{}, nil
		})
		for _, err := range []error{gotten, updated} {
			if !errors.Is(err, storage.ErrUnknownKey) || errors.Is(err, storage.ErrDamaged) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: got error %v, want ErrUnknownKey with %s", what, err, name)
			}
		}
	}
	if left, err := inner.Get(ctx, aKey); err != nil || !bytes.Equal(left, data) {
		t.Errorf("the record became %q, %v", left, err)
	}
}

// Without keys nothing wraps a store, and the decoders report that a record is encrypted.
func TestEncryptedWithoutKeys(t *testing.T) {
	ctx, inner := t.Context(), memory.New()
	noError(t, storage.Encrypted(inner, "shop", encryptionKeys(t, false, oldKey)).Put(ctx, aKey, []byte("value"), time.Time{}))
	data, err := inner.Get(ctx, aKey)
	noError(t, err)
	name := hex.EncodeToString(data[8:12])
	for what, decode := range map[string]func([]byte) error{
		"family":   func(data []byte) error { _, err := storage.DecodeFamily(data); return err },
		"consents": func(data []byte) error { _, err := storage.DecodeConsents("alice", data); return err },
		"client":   func(data []byte) error { _, err := storage.DecodeAddedClient(data); return err },
		"cutoff":   func(data []byte) error { _, err := storage.DecodeCutoff(data); return err },
		"token":    func(data []byte) error { _, err := storage.DecodeAccess(data); return err },
		"any":      storage.CheckReadable,
	} {
		err := decode(data)
		if !errors.Is(err, storage.ErrUnknownKey) || !strings.Contains(err.Error(), name) ||
			!strings.Contains(err.Error(), "no encryption_key is configured") {
			t.Errorf("%s: got error %v, want ErrUnknownKey with %s", what, err, name)
		}
	}
	for _, value := range []string{"", "{}", "\x00", "\x00cipher", "\x01\x0a\x05alice"} {
		noError(t, storage.CheckReadable([]byte(value)))
	}
	if storage.CheckReadable([]byte("\x00cipher1")) == nil {
		t.Error("a cut off record passes")
	}
}

func TestKeyringRefuses(t *testing.T) {
	for name, texts := range map[string][]string{
		"a short key":            {"hunter2hunter2"},
		"a short one of several": {newKey, "hunter2hunter2"},
		"an empty one":           {""},
		"no key":                 nil,
		"spaces":                 {strings.Repeat(" ", 60)},
		"one twice":              {newKey, oldKey, " " + newKey + "\n"},
	} {
		_, err := storage.NewEncryptionKeys(texts, false)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, text := range texts {
			if text := strings.TrimSpace(text); text != "" && strings.Contains(err.Error(), text[:min(len(text), 6)]) {
				t.Errorf("%s: the key is in the error %v", name, err)
			}
		}
	}
}

func TestEncryptedHasTheInterfacesOfItsStore(t *testing.T) {
	keys := encryptionKeys(t, false, newKey)
	if _, ok := storage.As[storage.Sweeper](storage.Encrypted(memory.New(), "shop", keys)); !ok {
		t.Error("it hides the Sweeper of its store")
	}
	store := storage.Encrypted(struct{ storage.Store }{memory.New()}, "shop", keys)
	if _, ok := storage.As[storage.Sweeper](store); ok {
		t.Error("it is a Sweeper, but its store is not")
	}
	if _, ok := storage.As[storage.Slow](store); ok {
		t.Error("it is Slow, but its store is not")
	}
	exporter, _ := storage.As[storage.Exporter](storage.Encrypted(memory.New(), "shop", keys))
	if _, ok := exporter.(storage.Reencrypter); !ok {
		t.Errorf("the exporter is %T, which exports encrypted records", exporter)
	}
	_, err := store.(storage.Exporter).Look(t.Context(), aKey)
	for _, exported := range store.(storage.Exporter).Export(t.Context()) {
		err = errors.Join(err, exported)
	}
	for _, reencrypted := range store.(storage.Reencrypter).Reencrypt(t.Context()) {
		err = errors.Join(err, reencrypted)
	}
	if errs, ok := err.(interface{ Unwrap() []error }); !ok || !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("over a store that is no Exporter: %v %v", err, errs)
	}
}

// Each record is read with its own key, and written with the first. Reencrypt rewrites all with the first.
func TestReencrypt(t *testing.T) {
	ctx, inner := t.Context(), memory.New()
	at := func(id string) storage.Key { return storage.Key{Kind: "kind", ID: id} }
	hour := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	put := func(id string, keys *storage.EncryptionKeys) {
		noError(t, storage.Encrypted(inner, "shop", keys).Put(ctx, at(id), []byte("value of "+id), hour))
	}
	put("unencrypted", encryptionKeys(t, true, newKey))
	put("old", encryptionKeys(t, false, oldKey))
	put("new", encryptionKeys(t, false, newKey))
	noError(t, inner.Put(ctx, at("damaged"), []byte("\x00cipher1"), hour))

	for _, step := range []struct {
		name                string
		keys                *storage.EncryptionKeys
		changed, unreadable int
	}{
		{"only the new key", encryptionKeys(t, false, newKey), 1, 2},
		{"both keys", encryptionKeys(t, false, newKey, oldKey), 1, 1},
		{"again", encryptionKeys(t, false, newKey, oldKey), 0, 1},
		{"without the old key", encryptionKeys(t, false, newKey), 0, 1},
		{"back to the old key", encryptionKeys(t, false, oldKey, newKey), 3, 1},
		{"off without the key", encryptionKeys(t, true, newKey), 0, 4},
		{"off", encryptionKeys(t, true, newKey, oldKey), 3, 1},
	} {
		store := storage.Encrypted(inner, "shop", step.keys)
		changed, unreadable := 0, 0
		for one, err := range store.(storage.Reencrypter).Reencrypt(ctx) {
			switch {
			case errors.Is(err, storage.ErrDamaged), errors.Is(err, storage.ErrUnknownKey):
				unreadable++
			case err != nil:
				t.Fatalf("%s: %v", step.name, err)
			case one:
				changed++
			}
		}
		if changed != step.changed || unreadable != step.unreadable {
			t.Errorf("%s: changed %d, unreadable %d; want %d and %d", step.name, changed, unreadable, step.changed, step.unreadable)
		}
	}
	exported := 0
	for record, err := range inner.(storage.Exporter).Export(ctx) {
		noError(t, err)
		if record.Key == at("damaged") {
			continue
		}
		exported++
		if string(record.Value) != "value of "+record.Key.ID || !record.Expires.Equal(hour) {
			t.Errorf("in the end there is %v", record)
		}
	}
	if exported != 3 {
		t.Errorf("in the end there are %d records, want 3", exported)
	}
}

// racing calls before ahead of each Update.
type racing struct {
	storage.Store
	storage.Exporter
	before func(key storage.Key)
}

func (s racing) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	s.before(key)
	return s.Store.Update(ctx, key, change)
}

// Reencrypt does not undo writes and deletes by others that happen meanwhile.
func TestReencryptRace(t *testing.T) {
	ctx, inner := t.Context(), memory.New()
	other := storage.Encrypted(inner, "shop", encryptionKeys(t, false, oldKey, newKey))
	end := time.Now().Add(2 * time.Hour).Truncate(time.Millisecond)
	for _, id := range []string{"written", "deleted", "kept"} {
		noError(t, other.Put(ctx, storage.Key{Kind: "kind", ID: id}, []byte(id), time.Time{}))
	}
	var done []string
	store := storage.Encrypted(racing{inner, inner.(storage.Exporter), func(key storage.Key) {
		if slices.Contains(done, key.ID) {
			return
		}
		done = append(done, key.ID)
		switch key.ID {
		case "written":
			noError(t, other.Put(ctx, key, []byte("written since"), end))
		case "deleted":
			noError(t, other.Delete(ctx, key))
		}
	}}, "shop", encryptionKeys(t, false, newKey, oldKey))
	for _, err := range store.(storage.Reencrypter).Reencrypt(ctx) {
		noError(t, err)
	}
	got := map[string]time.Time{}
	for record, err := range storage.Encrypted(inner, "shop", encryptionKeys(t, false, newKey)).(storage.Exporter).Export(ctx) {
		noError(t, err)
		got[string(record.Value)] = record.Expires
	}
	if _, kept := got["kept"]; len(got) != 2 || !kept || !got["written since"].Equal(end) {
		t.Errorf("afterwards there is %v", got)
	}
}

// A file holds two states of a record. After a record was encrypted with a new key, by an update or by Reencrypt, neither is still
// unencrypted or encrypted with the old key.
func TestReencryptLeavesNothingInFiles(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	open := func(keys *storage.EncryptionKeys) storage.Store {
		return storage.Encrypted(caddystore.New(&certmagic.FileStorage{Path: dir}, "issuer"), "shop", keys)
	}
	at := func(id string) storage.Key { return storage.Key{Kind: "kind", ID: id} }
	write := func(store storage.Store, id string) {
		noError(t, store.Update(ctx, at(id), func([]byte) ([]byte, time.Time, error) {
			return []byte("the secret of " + id), time.Time{}, nil
		}))
	}
	for _, id := range []string{"updated", "reencrypted"} {
		for range 3 {
			write(open(encryptionKeys(t, true, newKey)), id)
		}
	}
	marks := map[string]bool{}
	for _, keys := range []*storage.EncryptionKeys{encryptionKeys(t, false, oldKey), encryptionKeys(t, false, newKey, oldKey)} {
		store := open(keys)
		write(store, "updated")
		for _, err := range store.(storage.Reencrypter).Reencrypt(ctx) {
			noError(t, err)
		}
		for range 3 {
			write(store, "updated")
		}
		clear(marks)
		root := os.DirFS(dir)
		noError(t, fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			content, err := fs.ReadFile(root, name)
			if bytes.Contains(content, []byte("the secret of")) {
				t.Errorf("there is something left in %s", name)
			}
			for _, part := range bytes.Split(content, []byte("\x00cipher1"))[1:] {
				marks[hex.EncodeToString(part[:4])] = true
			}
			return err
		}))
		if len(marks) != 1 {
			t.Errorf("there are records of the keys %v, want one", marks)
		}
	}
}

func FuzzOpen(f *testing.F) {
	inner := memory.New()
	store := storage.Encrypted(inner, "shop", encryptionKeys(f, false, newKey, oldKey))
	noError(f, store.Put(f.Context(), aKey, []byte("value"), time.Time{}))
	data, err := inner.Get(f.Context(), aKey)
	noError(f, err)
	for _, seed := range []string{"", "{}", "\x00cipher1", string(data), string(data[:40])} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		noError(t, inner.Put(t.Context(), aKey, data, time.Time{}))
		value, err := store.Get(t.Context(), aKey)
		if (value == nil) != (err != nil) {
			t.Errorf("got %q and error %v", value, err)
		}
	})
}
