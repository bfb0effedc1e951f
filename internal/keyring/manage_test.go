package keyring

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
	"github.com/caddy-oauth/caddy-oauth/storage"
	caddystore "github.com/caddy-oauth/caddy-oauth/storage/caddy"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

// ring returns a ring that rotates every day, with its own clock and store.
func ring(t *testing.T) (*Ring, *testclock.Clock, storage.Store) {
	t.Helper()
	clock, store := testclock.New(), memory.New()
	return ringOn(t, store, clock), clock, store
}

func ringOn(t *testing.T, store storage.Store, clock *testclock.Clock) *Ring {
	t.Helper()
	policy := Policy{Rotate: 24 * time.Hour, Publish: time.Hour, Lifetime: 10 * time.Minute}
	keys, err := New(Config{Policy: policy, Store: store, Timeout: testTimeout, Logger: testLogger, Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// statuses returns the kids by their status.
func statuses(t *testing.T, k *Ring) map[string][]string {
	t.Helper()
	list, err := k.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	by := make(map[string][]string)
	for _, key := range list {
		by[key.Status] = append(by[key.Status], key.ID)
	}
	return by
}

// only returns the one key of a status.
func only(t *testing.T, k *Ring, status string) string {
	t.Helper()
	ids := statuses(t, k)[status]
	if len(ids) != 1 {
		t.Fatalf("%d keys are %s, expected one", len(ids), status)
	}
	return ids[0]
}

func TestRotateNow(t *testing.T) {
	for name, atOnce := range map[string]bool{"at once": true, "when it is known": false} {
		t.Run(name, func(t *testing.T) {
			k, clock, store := ring(t)
			before := sign(t, k, `{}`)
			first := only(t, k, "signing")
			clock.Advance(time.Minute)
			made, err := k.RotateNow(t.Context(), atOnce)
			if err != nil {
				t.Fatal(err)
			}
			want := first
			if atOnce {
				want = made
			}
			if got := only(t, k, "signing"); got != want {
				t.Errorf("%s signs, expected %s", got, want)
			}
			other := ringOn(t, store, clock)
			if got := only(t, other, "signing"); got != want {
				t.Errorf("at another node %s signs, expected %s", got, want)
			}
			clock.Advance(time.Hour + propagation + clockLeeway)
			if err := k.Maintain(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := only(t, k, "signing"); got != made {
				t.Errorf("after the time of publication %s signs, expected %s", got, made)
			}
			if !atOnce {
				if _, err := k.Verify(t.Context(), before); err != nil {
					t.Errorf("a token of the key before: %v", err)
				}
			}
		})
	}
}

// The record has whole seconds, so the keys must not all start to sign at the same time.
func TestRotateNowTwiceInASecond(t *testing.T) {
	k, clock, _ := ring(t)
	var last string
	for range 3 {
		var err error
		if last, err = k.RotateNow(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	clock.Advance(4 * time.Second)
	if got := only(t, k, "signing"); got != last {
		t.Errorf("%s signs, expected the newest, %s", got, last)
	}
}

func TestRetireNow(t *testing.T) {
	k, clock, store := ring(t)
	token := sign(t, k, `{}`)
	first := only(t, k, "signing")
	if _, err := k.RotateNow(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	next := only(t, k, "next")
	clock.Advance(time.Second)
	if err := k.RetireNow(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if got := only(t, k, "signing"); got != next {
		t.Errorf("%s signs, expected %s, which was published", got, next)
	}
	if _, err := k.Verify(t.Context(), token); !errors.Is(err, jwt.ErrKey) || k.Has(token) {
		t.Errorf("a token of the retired key: %v", err)
	}
	if _, err := ringOn(t, store, clock).Verify(t.Context(), token); !errors.Is(err, jwt.ErrKey) {
		t.Errorf("at another node: %v", err)
	}
	if err := k.RetireNow(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if fresh := only(t, k, "signing"); fresh == first || fresh == next || !k.Has(sign(t, k, `{}`)) {
		t.Errorf("%s signs, expected a new key", fresh)
	}
	if err := k.RetireNow(t.Context(), next); !errors.Is(err, ErrNoKey) {
		t.Errorf("a removed key: %v", err)
	}
}

// If the key that signs is retired, its predecessor must not sign again.
func TestRetireNowDoesNotGoBack(t *testing.T) {
	k, clock, _ := ring(t)
	first := only(t, k, "signing")
	clock.Advance(time.Minute)
	second, err := k.RotateNow(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.RetireNow(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	clock.Advance(2 * time.Second)
	if got := only(t, k, "signing"); got == first || got == second {
		t.Errorf("%s signs, expected a new key", got)
	}
}

func TestKeysOfAFileAreTheOwners(t *testing.T) {
	made, err := newKey("ES256")
	if err != nil {
		t.Fatal(err)
	}
	file := append(append([]byte(`{"keys": [`), made.JWK...), `]}`...)
	k, err := New(Config{
		Policy: Policy{File: file, Lifetime: time.Minute}, Store: memory.New(), Timeout: testTimeout, Logger: testLogger, Now: testclock.New().Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := only(t, k, "signing"); got != made.ID {
		t.Errorf("%s signs, expected %s", got, made.ID)
	}
	if _, err := k.RotateNow(t.Context(), true); !errors.Is(err, ErrKeysInFile) {
		t.Errorf("rotated: %v", err)
	}
	if err := k.RetireNow(t.Context(), made.ID); !errors.Is(err, ErrKeysInFile) {
		t.Errorf("retired: %v", err)
	}
}

// Whoever has a stolen key can have the secret of the same record. Other changes leave the secret as it is.
func TestRetiringRenewsTheSecret(t *testing.T) {
	k, clock, store := ring(t)
	other := ringOn(t, store, clock)
	secret := func(k *Ring) [secretLength]byte {
		t.Helper()
		if err := k.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		s, err := k.Secret(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := secret(k)
	if _, err := k.RotateNow(t.Context(), true); err != nil || secret(k) != first {
		t.Errorf("after a rotation: %v, and the secret is another one: %v", err, secret(k) != first)
	}
	if err := k.RetireNow(t.Context(), only(t, k, "signing")); err != nil {
		t.Fatal(err)
	}
	if secret(k) == first || secret(other) != secret(k) {
		t.Error("the secret is the same, or not that of the other node")
	}
}

// An owner whose keys are in a file replaces the file.
func TestAnotherFileIsAnotherSecret(t *testing.T) {
	store := memory.New()
	secret := func(file []byte) [secretLength]byte {
		t.Helper()
		k, err := New(Config{Policy: Policy{File: file}, Store: store, Timeout: testTimeout, Logger: testLogger, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		s, err := k.Secret(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	file := func() []byte {
		t.Helper()
		_, key, err := jwt.MakeKey("ES256")
		if err != nil {
			t.Fatal(err)
		}
		return []byte(`{"keys":[` + string(key) + `]}`)
	}
	one, two := file(), file()
	if first, again := secret(one), secret(one); first != again || first == secret(two) {
		t.Error("the secret does not go with the file")
	}
}

func TestListSaysWhatASigningKeyWillDo(t *testing.T) {
	k, clock, store := ring(t)
	info := func(k *Ring, status string) Info {
		t.Helper()
		list, err := k.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range list {
			if key.Status == status {
				return key
			}
		}
		t.Fatalf("no key is %s in %+v", status, list)
		return Info{}
	}
	const tail = 10*time.Minute + jwt.MaxLeeway + clockLeeway
	first := info(k, "signing")
	if want := first.Signs.Add(24 * time.Hour); !first.Until.Equal(want) || !first.Expires.Equal(want.Add(tail)) {
		t.Errorf("the only key: %+v", first)
	}
	if _, err := k.RotateNow(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	first = info(k, "signing")
	if next := info(k, "next"); !first.Until.Equal(next.Signs) || first.Expires.Before(next.Signs.Add(tail)) || !next.Until.Equal(next.Signs.Add(24*time.Hour)) {
		t.Errorf("with a key that will sign: %+v, %+v", first, next)
	}
	late := ringOn(t, store, clock)
	clock.Advance(100 * 24 * time.Hour)
	if key := info(late, "signing"); key.Until.Before(clock.Now()) {
		t.Errorf("a key whose successor is late: %+v at %v", key, clock.Now())
	}
	never, err := New(Config{Policy: Policy{Publish: time.Hour, Lifetime: time.Minute}, Store: memory.New(), Timeout: testTimeout, Logger: testLogger, Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	if key := info(never, "signing"); !key.Until.IsZero() || !key.Expires.IsZero() {
		t.Errorf("a key that does not rotate: %+v", key)
	}
}

// A damaged record is written again by a node that has the keys in memory. A node that has not makes no new keys: they would make
// every JWT invalid. Its error names the record and says what to do.
func TestDamagedRing(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string, store storage.Store){
		"that the store cannot read": func(t *testing.T, dir string, _ storage.Store) {
			t.Helper()
			must(t, os.Truncate(filepath.Join(dir, "oauth", "default", string(recordKey.Kind), recordKey.ID+".record"), 0))
		},
		"that is no JSON": func(t *testing.T, _ string, store storage.Store) {
			t.Helper()
			must(t, store.Put(t.Context(), recordKey, []byte("{"), time.Time{}))
		},
		"with a secret that is too short": func(t *testing.T, _ string, store storage.Store) {
			t.Helper()
			must(t, store.Put(t.Context(), recordKey, []byte(`{"secret":"AAAA"}`), time.Time{}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, clock := t.TempDir(), testclock.New()
			store := caddystore.New(&certmagic.FileStorage{Path: dir}, "default")
			core, logs := observer.New(zap.InfoLevel)
			node := ringOn(t, store, clock)
			node.config.Logger = zap.New(core)
			token := sign(t, node, `{}`)
			damage(t, dir, store)

			_, err := ringOn(t, store, clock).Load(t.Context())
			if !errors.Is(err, storage.ErrDamaged) || !strings.Contains(err.Error(), "keys/signing") || !strings.Contains(err.Error(), "backup") {
				t.Errorf("a node without the keys: %v", err)
			}
			must(t, node.Maintain(t.Context()))
			if n := logs.FilterField(zap.String("record", "keys/signing")).Len(); n != 1 {
				t.Errorf("the log has it %d times", n)
			}
			if _, err := ringOn(t, store, clock).Verify(t.Context(), token); err != nil {
				t.Errorf("the keys after that: %v", err)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
