package keyring

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

var testLogger = zap.NewNop()

const testTimeout = 10 * time.Second

func newTestKeys(tb testing.TB, policy Policy, store storage.Store, clock *testclock.Clock) *Ring {
	tb.Helper()
	if policy.Lifetime == 0 {
		policy.Lifetime = time.Hour
	}
	k, err := New(Config{Policy: policy, Store: store, Timeout: testTimeout, Logger: testLogger, Now: clock.Now})
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// trySign returns a token, as a server makes it.
func trySign(ctx context.Context, k *Ring, payload string) (string, error) {
	signer, err := k.Load(ctx)
	if err != nil {
		return "", err
	}
	return signer.Sign([]byte(payload))
}

func sign(tb testing.TB, k *Ring, payload string) string {
	tb.Helper()
	token, err := trySign(tb.Context(), k, payload)
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

func kidOf(tb testing.TB, token string) string {
	tb.Helper()
	split, err := jwt.Split(token)
	if err != nil {
		tb.Fatal(err)
	}
	h, err := split.ParseHeader()
	if err != nil {
		tb.Fatal(err)
	}
	return h.KeyID
}

// kidsIn returns the kids of a node's JWKS.
func kidsIn(tb testing.TB, k *Ring) []string {
	tb.Helper()
	body, err := k.JWKS(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	var set struct{ Keys []struct{ Kid string } }
	if err := json.Unmarshal(body, &set); err != nil {
		tb.Fatal(err)
	}
	kids := make([]string, 0, len(set.Keys))
	for _, key := range set.Keys {
		kids = append(kids, key.Kid)
	}
	return kids
}

var errDown = errors.New("the store is down")

// switchStore is a store that can be made to fail, and that counts its writes.
type switchStore struct {
	storage.Store
	down   atomic.Bool
	writes atomic.Int32
}

func (s *switchStore) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	if s.down.Load() {
		return nil, errDown
	}
	return s.Store.Get(ctx, key)
}

func (s *switchStore) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	if s.down.Load() {
		return errDown
	}
	return s.Store.Update(ctx, key, func(old []byte) ([]byte, time.Time, error) {
		value, expires, err := change(old)
		if err == nil {
			s.writes.Add(1)
		}
		return value, expires, err
	})
}

// noStore panics when it is used.
type noStore struct{ storage.Store }

func TestPolicyIsChecked(t *testing.T) {
	for _, tt := range []struct {
		policy  Policy
		wantErr string
	}{
		{Policy{Algorithm: "none", Lifetime: time.Hour}, `algorithm "none", expected one of ES256`},
		{Policy{Algorithm: "es256", Lifetime: time.Hour}, `algorithm "es256", expected one of ES256`},
		{Policy{}, "lifetime of tokens is 0s"},
		{Policy{Lifetime: time.Hour, Rotate: -1}, "negative"},
		{Policy{Lifetime: time.Hour, Rotate: time.Hour, Publish: time.Hour}, "expected less than the 1h0m0s between rotations"},
	} {
		_, err := New(Config{Policy: tt.policy, Store: noStore{}, Logger: testLogger, Now: time.Now})
		if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
			t.Errorf("%+v: error is %v, want %q in it", tt.policy, err, tt.wantErr)
		}
	}
	if _, err := New(Config{Policy: Policy{Lifetime: time.Hour}, Store: noStore{}, Logger: testLogger, Now: time.Now}); err != nil {
		t.Error(err)
	}
}

func TestFirstUseMakesOneKey(t *testing.T) {
	store := &switchStore{Store: memory.New()}
	nodes := []*Ring{
		newTestKeys(t, Policy{}, store, testclock.New()),
		newTestKeys(t, Policy{}, store, testclock.New()),
	}
	tokens := make([]string, 32)
	var wg sync.WaitGroup
	for i := range tokens {
		wg.Go(func() {
			var err error
			if tokens[i], err = trySign(t.Context(), nodes[i%2], `{}`); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, token := range tokens {
		if kidOf(t, token) != kidOf(t, tokens[0]) {
			t.Fatal("two keys sign")
		}
	}
	if n := store.writes.Load(); n != 1 {
		t.Errorf("%d writes for one key", n)
	}
}

func TestMaintainWritesOnlyWhatChanges(t *testing.T) {
	store, clock := &switchStore{Store: memory.New()}, testclock.New()
	k := newTestKeys(t, Policy{}, store, clock)
	for range 25 {
		if err := k.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		clock.Advance(time.Minute)
	}
	if n := store.writes.Load(); n != 1 {
		t.Errorf("%d writes in 25 rounds", n)
	}
}

func TestWithoutStoreKeysInMemorySign(t *testing.T) {
	store, clock := &switchStore{Store: memory.New()}, testclock.New()
	k := newTestKeys(t, Policy{Rotate: 24 * time.Hour, Publish: time.Hour}, store, clock)
	store.down.Store(true)
	if _, err := k.Load(t.Context()); !errors.Is(err, errDown) {
		t.Fatalf("error without a key is %v", err)
	}
	store.down.Store(false)
	first := kidOf(t, sign(t, k, `{}`))

	store.down.Store(true)
	for range 100 {
		clock.Advance(time.Hour)
		if err := k.Maintain(t.Context()); !errors.Is(err, errDown) {
			t.Fatalf("Maintain returns %v", err)
		}
		token := sign(t, k, `{}`)
		if kidOf(t, token) != first {
			t.Fatal("another key signs")
		}
		if _, err := k.Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.Verify(t.Context(), foreignToken(t)); !errors.Is(err, errDown) {
		t.Errorf("a key that may be new is refused with %v, want the store's error", err)
	}

	store.down.Store(false)
	if err := k.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if kids := kidsIn(t, k); len(kids) != 2 || kidOf(t, sign(t, k, `{}`)) != first {
		t.Errorf("after the outage, the keys are %v", kids)
	}
	clock.Advance(time.Hour + propagation + clockLeeway)
	if kidOf(t, sign(t, k, `{}`)) == first {
		t.Error("the overdue key signs although its successor may")
	}
}

// foreignToken returns a token that is signed by an unknown key.
func foreignToken(tb testing.TB) string {
	tb.Helper()
	return sign(tb, newTestKeys(tb, Policy{}, memory.New(), testclock.New()), `{"sub":"alice"}`)
}

// hangingStore does not answer until released.
type hangingStore struct {
	storage.Store
	asked, release chan struct{}
}

func (s *hangingStore) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	s.asked <- struct{}{}
	<-s.release
	return s.Store.Get(ctx, key)
}

func TestRequestsDoNotQueueBehindAStoreThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &hangingStore{Store: memory.New(), asked: make(chan struct{}, 1), release: make(chan struct{})}
		k, err := New(Config{
			Policy: Policy{Lifetime: time.Hour}, Store: store, Timeout: testTimeout, Logger: testLogger, Now: testclock.New().Now,
		})
		if err != nil {
			t.Fatal(err)
		}
		first := make(chan error)
		go func() { first <- k.Maintain(t.Context()) }()
		<-store.asked
		if _, err := k.Load(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v, want that the wait is over", err)
		}
		close(store.release)
		if err := <-first; err != nil {
			t.Error(err)
		}
		sign(t, k, `{}`)
	})
}

// The caller that refreshes the keys does it for all, and may be a client that goes away.
func TestRefreshGoesOnWhenItsRequestEnds(t *testing.T) {
	store, clock := memory.New(), testclock.New()
	k := newTestKeys(t, Policy{Rotate: 24 * time.Hour, Publish: time.Hour}, store, clock)
	other := newTestKeys(t, Policy{Rotate: 24 * time.Hour, Publish: time.Hour}, store, clock)
	sign(t, k, `{}`)
	clock.Advance(24 * time.Hour)
	if err := other.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.Load(ctx); err != nil {
		t.Fatal(err)
	}
	if got, want := kidsIn(t, k), kidsIn(t, other); !slices.Equal(got, want) {
		t.Errorf("after a refresh, the keys are %v, want %v", got, want)
	}
}

// During a rolling reload, nodes with two algorithms sign at the same time, here for a whole day.
func TestChangeOfAlgorithm(t *testing.T) {
	store, clock := memory.New(), testclock.New()
	before := newTestKeys(t, Policy{Algorithm: "ES256", Lifetime: 10 * time.Minute}, store, clock)
	old := sign(t, before, `{}`)
	after := newTestKeys(t, Policy{Algorithm: "EdDSA", Lifetime: time.Minute}, store, clock)
	oldKid, newKid := kidOf(t, old), kidOf(t, sign(t, after, `{}`))

	for range 24 * 20 {
		for _, signer := range []*Ring{before, after} {
			token := sign(t, signer, `{}`)
			for _, verifier := range []*Ring{before, after} {
				if _, err := verifier.Verify(t.Context(), token); err != nil {
					t.Fatalf("at %s: %v", clock.Now(), err)
				}
			}
			if kid := kidOf(t, token); kid != oldKid && kid != newKid {
				t.Fatal("a third key signs")
			}
		}
		clock.Advance(3 * time.Minute)
		for _, k := range []*Ring{before, after} {
			if err := k.Maintain(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	last := sign(t, before, `{}`) // then the last old node stops
	for range 10 {
		clock.Advance(time.Minute)
		if err := after.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := after.Verify(t.Context(), last); err != nil {
			t.Fatal(err)
		}
	}
	clock.Advance(2 * time.Hour)
	if err := after.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if kids := kidsIn(t, after); !slices.Equal(kids, []string{newKid}) {
		t.Errorf("the keys are %v, want %s", kids, newKid)
	}
}

// Reads for unknown kids are limited. So a client that goes away must not take them from others.
func TestUnknownKidIsReadWhenItsRequestEnds(t *testing.T) {
	store, clock := memory.New(), testclock.New()
	k := newTestKeys(t, Policy{}, store, clock)
	sign(t, k, `{}`)
	other := newTestKeys(t, Policy{Algorithm: "EdDSA"}, store, clock) // its key signs at once
	token := sign(t, other, `{}`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.Verify(ctx, token); err != nil {
		t.Errorf("%v", err)
	}
	if _, err := k.Verify(t.Context(), token); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestUnknownKidsDoNotFloodTheStore(t *testing.T) {
	reads := &countingStore{Store: memory.New()}
	k := newTestKeys(t, Policy{}, reads, testclock.New())
	token := foreignToken(t)
	for range 1000 {
		if _, err := k.Verify(t.Context(), token); !errors.Is(err, jwt.ErrKey) {
			t.Fatal(err)
		}
	}
	if n := reads.gets; n > 20 {
		t.Errorf("%d reads for 1000 tokens of an unknown key", n)
	}
}

type countingStore struct {
	storage.Store
	gets int
}

func (s *countingStore) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	s.gets++
	return s.Store.Get(ctx, key)
}

func TestSecretIsTheSameOnAllNodes(t *testing.T) {
	store, clock := memory.New(), testclock.New()
	secrets := make([][secretLength]byte, 0, 8)
	for _, policy := range []Policy{{}, {Algorithm: "EdDSA"}, {}} {
		k := newTestKeys(t, policy, store, clock)
		for range 2 {
			secret, err := k.Secret(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			secrets = append(secrets, secret)
		}
		clock.Advance(24 * time.Hour)
	}
	for _, secret := range secrets {
		if secret != secrets[0] || secret == [secretLength]byte{} {
			t.Fatalf("secrets are %x", secrets)
		}
	}
}

func TestRecordIsReadTolerantly(t *testing.T) {
	store, clock := memory.New(), testclock.New()
	kid := kidOf(t, sign(t, newTestKeys(t, Policy{}, store, clock), `{}`))
	edit := func(change func(record map[string]any)) {
		t.Helper()
		err := store.Update(t.Context(), recordKey, func(old []byte) ([]byte, time.Time, error) {
			var record map[string]any
			if err := json.Unmarshal(old, &record); err != nil {
				return nil, time.Time{}, err
			}
			change(record)
			value, err := json.Marshal(record)
			return value, time.Time{}, err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	edit(func(record map[string]any) {
		record["later"] = map[string]any{"a": 1}
		record["keys"] = append(record["keys"].([]any), map[string]any{
			"kid": "later", "alg": "ML-DSA-44", "jwk": map[string]any{"kty": "AKP"}, "new": true,
			"signs": epoch, "expires": at(time.Hour),
		})
	})
	k := newTestKeys(t, Policy{}, store, clock)
	if got := kidOf(t, sign(t, k, `{}`)); got != kid {
		t.Errorf("%s signs, want %s", got, kid)
	}
	if kids := kidsIn(t, k); !slices.Equal(kids, []string{kid}) {
		t.Errorf("the JWKS has %v", kids)
	}

	edit(func(record map[string]any) { record["keys"] = "top-secret" })
	err := newTestKeys(t, Policy{}, store, clock).Maintain(t.Context())
	if err == nil || strings.Contains(err.Error(), "top-secret") {
		t.Errorf("Maintain on a broken record returns %v", err)
	}
	if _, err := k.Verify(t.Context(), sign(t, k, `{}`)); err != nil {
		t.Errorf("and the keys in memory do not go on: %v", err)
	}
}
