package keyring

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
)

var epoch = testclock.Epoch

func at(d time.Duration) time.Time { return epoch.Add(d) }

// scheduled returns a key with times in hours after the epoch.
func scheduled(id, alg string, signs, expires float64) scheduledKey {
	hours := func(h float64) time.Time { return at(time.Duration(h * float64(time.Hour)).Round(time.Second)) }
	return scheduledKey{ID: id, Algorithm: alg, Signs: hours(signs), Expires: hours(expires)}
}

func TestPlan(t *testing.T) {
	policy := Policy{Algorithm: "ES256", Rotate: 100 * time.Hour, Publish: 10 * time.Hour, Lifetime: 2 * time.Hour}
	const (
		minute = 1. / 60
		tail   = 6 * minute // the longest leeway of a guard, and the difference of clocks
	)
	tests := []struct {
		name   string
		keys   []scheduledKey
		now    float64
		change func(*Policy)

		wantKept    []scheduledKey
		wantNew     float64 // hours; negative: none
		wantFor     string  // the algorithm of the new key, if it is not the policy's
		wantChanged bool
	}{
		{
			name: "the first key signs at once", now: 5, wantNew: 5,
		},
		{
			name: "nothing to do", now: 50, wantNew: -1,
			keys:     []scheduledKey{scheduled("a", "ES256", 0, 52.6)},
			wantKept: []scheduledKey{scheduled("a", "ES256", 0, 52.6)},
		},
		{
			name: "a lease is renewed when half of it is over", now: 50, wantNew: -1, wantChanged: true,
			keys:     []scheduledKey{scheduled("a", "ES256", 0, 52.5)},
			wantKept: []scheduledKey{scheduled("a", "ES256", 0, 53+tail)},
		},
		{
			name: "a successor is made in time for its publication", now: 90 - 3*minute, wantNew: 100,
			keys:     []scheduledKey{scheduled("a", "ES256", 0, 93)},
			wantKept: []scheduledKey{scheduled("a", "ES256", 0, 93)},
		},
		{
			name: "and not before", now: 90 - 4*minute, wantNew: -1,
			keys:     []scheduledKey{scheduled("a", "ES256", 0, 93)},
			wantKept: []scheduledKey{scheduled("a", "ES256", 0, 93)},
		},
		{
			name: "an overdue successor is published as long as any", now: 150, wantNew: 160 + 3*minute,
			keys:     []scheduledKey{scheduled("a", "ES256", 0, 153)},
			wantKept: []scheduledKey{scheduled("a", "ES256", 0, 153)},
		},
		{
			name: "a key in the middle of its successor's publication lives on after it", now: 95, wantNew: -1, wantChanged: true,
			keys: []scheduledKey{scheduled("a", "ES256", 0, 93), scheduled("b", "ES256", 100, 200)},
			wantKept: []scheduledKey{
				scheduled("a", "ES256", 0, 102+tail), scheduled("b", "ES256", 100, 200),
			},
		},
		{
			name: "a key stays until its tokens have expired", now: 102, wantNew: -1,
			keys: []scheduledKey{scheduled("a", "ES256", 0, 102+tail), scheduled("b", "ES256", 100, 200)},
			wantKept: []scheduledKey{
				scheduled("a", "ES256", 0, 102+tail), scheduled("b", "ES256", 100, 200),
			},
		},
		{
			name: "and no longer", now: 102 + tail, wantNew: -1, wantChanged: true,
			keys:     []scheduledKey{scheduled("a", "ES256", 0, 102+tail), scheduled("b", "ES256", 100, 200)},
			wantKept: []scheduledKey{scheduled("b", "ES256", 100, 200)},
		},
		{
			name: "a shorter lifetime drops nothing early", now: 101, wantNew: -1,
			change:   func(p *Policy) { p.Lifetime = time.Minute },
			keys:     []scheduledKey{scheduled("a", "ES256", 0, 102), scheduled("b", "ES256", 100, 200)},
			wantKept: []scheduledKey{scheduled("a", "ES256", 0, 102), scheduled("b", "ES256", 100, 200)},
		},
		{
			name: "a longer lifetime extends the key that signs", now: 50, wantNew: -1, wantChanged: true,
			change:   func(p *Policy) { p.Lifetime = 20 * time.Hour },
			keys:     []scheduledKey{scheduled("a", "ES256", 0, 53)},
			wantKept: []scheduledKey{scheduled("a", "ES256", 0, 71+tail)},
		},
		{
			name: "an overdue key that nobody extended goes on", now: 500, wantNew: 510 + 3*minute, wantChanged: true,
			keys:     []scheduledKey{scheduled("a", "ES256", 0, 3)},
			wantKept: []scheduledKey{scheduled("a", "ES256", 0, 503+tail)},
		},
		{
			name: "no rotation", now: 5000, wantNew: -1, wantChanged: true,
			change:   func(p *Policy) { p.Rotate, p.Publish = 0, 0 },
			keys:     []scheduledKey{scheduled("a", "ES256", 0, 3)},
			wantKept: []scheduledKey{scheduled("a", "ES256", 0, 5003+tail)},
		},
		{
			name: "another algorithm gets a key at once, and leaves the others alone", now: 50, wantNew: 50,
			change:   func(p *Policy) { p.Algorithm = "RS256" },
			keys:     []scheduledKey{scheduled("a", "ES256", 0, 51), scheduled("b", "ES256", 52, 70)},
			wantKept: []scheduledKey{scheduled("a", "ES256", 0, 51), scheduled("b", "ES256", 52, 70)},
		},
		{
			name: "another algorithm's tokens have expired", now: 51, wantNew: -1, wantChanged: true,
			keys:     []scheduledKey{scheduled("a", "RS256", 0, 51), scheduled("b", "ES256", 40, 54)},
			wantKept: []scheduledKey{scheduled("b", "ES256", 40, 54)},
		},
		{
			name: "a further algorithm gets a key too", now: 50, wantNew: 50, wantFor: "RS256",
			change:   func(p *Policy) { p.Further = []string{"RS256", "ES256"} },
			keys:     []scheduledKey{scheduled("a", "ES256", 40, 5003+tail)},
			wantKept: []scheduledKey{scheduled("a", "ES256", 40, 5003+tail)},
		},
		{
			name: "keys of a further algorithm are rotated and retired", now: 50, wantNew: -1, wantChanged: true,
			change: func(p *Policy) { p.Further = []string{"RS256"} },
			keys: []scheduledKey{
				scheduled("a", "RS256", 0, 50), scheduled("b", "RS256", 40, 53), scheduled("c", "ES256", 40, 5003+tail),
			},
			wantKept: []scheduledKey{scheduled("b", "RS256", 40, 53), scheduled("c", "ES256", 40, 5003+tail)},
		},
		{
			name: "a key from a clock ahead of ours signs", now: 50, wantNew: -1,
			keys:     []scheduledKey{scheduled("a", "ES256", 51, 60)},
			wantKept: []scheduledKey{scheduled("a", "ES256", 51, 60)},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := policy
			if tt.change != nil {
				tt.change(&p)
			}
			before := slices.Clone(tt.keys)
			now := scheduled("", "", tt.now, 0).Signs
			kept, missing, changed := plan(tt.keys, now, p)

			if got, want := describe(kept), describe(tt.wantKept); got != want {
				t.Errorf("kept\n%swant\n%s", got, want)
			}
			var want []due
			if tt.wantNew >= 0 {
				want = []due{{cmp.Or(tt.wantFor, p.Algorithm), scheduled("", "", tt.wantNew, 0).Signs}}
			}
			if !slices.Equal(missing, want) {
				t.Errorf("keys to make: %v, want %v", missing, want)
			}
			if changed != tt.wantChanged {
				t.Errorf("changed is %t", changed)
			}
			if describe(tt.keys) != describe(before) {
				t.Error("plan changed its input")
			}
			if again, _, changed := plan(kept, now, p); changed || describe(again) != describe(kept) {
				t.Errorf("a second plan at the same time changes\n%sto\n%s", describe(kept), describe(again))
			}
		})
	}
}

func describe(keys []scheduledKey) string {
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&b, "  %s %s signs %s expires %s\n", k.ID, k.Algorithm, k.Signs.Format(time.DateTime), k.Expires.Format(time.DateTime))
	}
	return b.String()
}
