package keyring

import (
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

// rotation simulates two nodes on one store, step by step. In each step all nodes that are awake call Maintain at the same
// time and sign a token. Then every token that some guard accepts must verify on every node that is awake, and its key must
// be in every JWKS that was published within Policy.Publish.
type rotation struct {
	policy Policy
	store  storage.Store
	nodes  []*rotationNode

	tokens    []mintedToken
	published []publishedSet
	signed    map[string]time.Time // when each key signed first
}

type rotationNode struct {
	keys  *Ring
	clock *testclock.Clock
	awake func(time.Duration) bool
	round func(time.Duration) bool // whether this node calls Maintain in this step
}

type mintedToken struct {
	token, kid string
	minted     time.Time
}

type publishedSet struct {
	kids []string
	at   time.Time
}

const (
	rotationStep = time.Minute // as often as Maintain is called
	rotationEnd  = 18 * time.Hour
)

func always(time.Duration) bool { return true }

func TestThreeRotations(t *testing.T) {
	t.Parallel()
	asleep := func(d time.Duration) bool { return d < 3*time.Hour || d > 8*time.Hour }
	tests := []struct {
		name         string
		skew         time.Duration // of the second node's clock
		awake, round func(time.Duration) bool
	}{
		{name: "in lockstep", awake: always, round: always},
		{name: "with different clocks", skew: -40 * time.Second, awake: always, round: always},
		{name: "with a node that starts late", awake: func(d time.Duration) bool { return d > 7*time.Hour }, round: always},
		{name: "with a node that sleeps through a rotation", awake: asleep, round: always},
		{name: "with a node that does not call Maintain", awake: asleep, round: func(d time.Duration) bool { return d == 0 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := &rotation{
				policy: Policy{Algorithm: "EdDSA", Rotate: 5 * time.Hour, Publish: time.Hour, Lifetime: 30 * time.Minute},
				store:  memory.New(),
				signed: map[string]time.Time{},
			}
			r.addNode(t, 0, always, always)
			r.addNode(t, tt.skew, tt.awake, tt.round)
			for elapsed := time.Duration(0); elapsed < rotationEnd; elapsed += rotationStep {
				r.step(t, elapsed)
			}
			r.checkSlots(t)
		})
	}
}

func (r *rotation) addNode(t *testing.T, skew time.Duration, awake, round func(time.Duration) bool) {
	t.Helper()
	clock := testclock.New()
	clock.Advance(skew)
	r.nodes = append(r.nodes, &rotationNode{
		keys: newTestKeys(t, r.policy, r.store, clock), clock: clock, awake: awake, round: round,
	})
}

func (r *rotation) step(t *testing.T, elapsed time.Duration) {
	t.Helper()
	now := at(elapsed)
	var awake []*rotationNode
	for _, n := range r.nodes {
		if n.awake(elapsed) {
			awake = append(awake, n)
		}
	}
	// A node that wakes up signs before it calls Maintain.
	for _, n := range awake {
		token := sign(t, n.keys, `{}`)
		kid := kidOf(t, token)
		r.tokens = append(r.tokens, mintedToken{token: token, kid: kid, minted: now})
		if _, ok := r.signed[kid]; !ok {
			r.signed[kid] = now
		}
	}
	var wg sync.WaitGroup
	for _, n := range awake {
		if n.round(elapsed) {
			wg.Go(func() {
				if err := n.keys.Maintain(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()

	accepted := r.policy.Lifetime + jwt.MaxLeeway
	r.tokens = slices.DeleteFunc(r.tokens, func(m mintedToken) bool { return !now.Before(m.minted.Add(accepted)) })
	r.published = slices.DeleteFunc(r.published, func(s publishedSet) bool { return s.at.Before(now.Add(-r.policy.Publish)) })
	for _, n := range awake {
		r.published = append(r.published, publishedSet{kids: kidsIn(t, n.keys), at: now})
	}
	live := map[string]bool{}
	for _, m := range r.tokens {
		live[m.kid] = true
		age := now.Sub(m.minted)
		if age%(r.policy.Lifetime/2) != 0 && age+rotationStep < accepted {
			continue // signatures take most of the time of this test
		}
		for i, n := range awake {
			if _, err := n.keys.Verify(t.Context(), m.token); err != nil {
				t.Fatalf("after %s, node %d refuses a token of %s: %v", elapsed, i, age, err)
			}
		}
	}
	for _, set := range r.published {
		for kid := range live {
			if !slices.Contains(set.kids, kid) {
				t.Fatalf("after %s, a JWKS of %s ago lacks the key of a live token", elapsed, now.Sub(set.at))
			}
		}
	}
	for _, n := range r.nodes {
		n.clock.Advance(rotationStep)
	}
}

// checkSlots checks that each rotation made one key, that each key signed for as long as it should, and that only the keys
// that are still needed are left.
func (r *rotation) checkSlots(t *testing.T) {
	t.Helper()
	starts := slices.SortedFunc(maps.Values(r.signed), time.Time.Compare)
	if len(starts) != 4 {
		t.Fatalf("%d keys signed, want the first and three successors", len(starts))
	}
	for i, start := range starts[1:] {
		if d := start.Sub(starts[i]); d < r.policy.Rotate || d > r.policy.Rotate+2*rotationStep {
			t.Errorf("key %d signed for %s, want %s", i+1, d, r.policy.Rotate)
		}
	}
	if kids := kidsIn(t, r.nodes[0].keys); len(kids) != 1 {
		t.Errorf("%d keys are left, want the one that signs", len(kids))
	}
}

// A reload keeps the key of an algorithm that clients ask for now and then, and a rotation includes it.
func TestReloadKeepsKeysOfOtherAlgorithms(t *testing.T) {
	for name, policy := range map[string]Policy{"always there": {Further: []string{"EdDSA"}}, "made on demand": {Kept: []string{"EdDSA", "ES384"}}} {
		store, clock := memory.New(), testclock.New()
		signed := func(k *Ring) string {
			t.Helper()
			signer, err := k.LoadFor(t.Context(), "EdDSA")
			if err != nil {
				t.Fatal(err)
			}
			token, err := signer.SignWith("EdDSA", "JWT", []byte(`{}`))
			if err != nil {
				t.Fatal(err)
			}
			return kidOf(t, token)
		}
		policy.Lifetime = 10 * time.Minute
		first := signed(newTestKeys(t, policy, store, clock))
		reloaded := newTestKeys(t, policy, store, clock)
		for range 24 { // longer than a key lives that nobody goes on with
			if err := reloaded.Maintain(t.Context()); err != nil {
				t.Fatal(err)
			}
			clock.Advance(15 * time.Minute)
		}
		if kids := kidsIn(t, reloaded); !slices.Contains(kids, first) || len(kids) != 2 {
			t.Errorf("%s: the keys are %q, want %s and that of ES256", name, kids, first)
		}
		reloaded = newTestKeys(t, policy, store, clock)
		if kid := signed(reloaded); kid != first {
			t.Errorf("%s: %s signs, want %s", name, kid, first)
		}
		reloaded = newTestKeys(t, policy, store, clock)
		if _, err := reloaded.RotateNow(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		clock.Advance(time.Minute)
		if kid := signed(reloaded); kid == first {
			t.Errorf("%s: after a rotation, the same key signs", name)
		}
	}
}
