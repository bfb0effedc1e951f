package keyring

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// The life of a key, with Rotate between two keys:
//
//	         made              signs                        its successor signs
//	key 1    |─────────────────|════════════════════════════|──────────────────────| retired
//	key 2                                 |─────────────────|═══════════════════════════
//	                                      made
//	         └──── Publish ────┘                            └─ Lifetime + 6 minutes ┘
//
// A key is in the JWKS from "made" to "retired", so a verifier may cache a JWKS for Publish and still know every key it
// meets. A key is made a little earlier than that, since another node may serve its JWKS without the key for a while. A guard
// can accept a token for 5 minutes after its end (jwt.MaxLeeway), and clocks differ by up to a minute.
//
// As long as a key has no successor, or nodes with two configurations sign with keys of two algorithms, no node can tell
// when the key stops signing. So the nodes that sign with it take a lease on it for an hour, and renew that in time; until
// the lease ends, no other node retires the key.
const (
	lease       = time.Hour
	clockLeeway = time.Minute     // between the clocks of nodes
	propagation = 2 * time.Minute // until each node has read what another wrote; Maintain runs every minute
)

// scheduledKey is a key as the record keeps it. Times are whole seconds.
type scheduledKey struct {
	ID        string          `json:"kid"`
	Algorithm string          `json:"alg"`
	Created   time.Time       `json:"created"`
	Signs     time.Time       `json:"signs"`   // it signs from then until its successor does
	Expires   time.Time       `json:"expires"` // by then no guard accepts a token signed with it
	JWK       json.RawMessage `json:"jwk"`     // with the private part
}

// due is a key that must be made now.
type due struct {
	algorithm string
	signs     time.Time
}

// plan returns what becomes of the keys at that time: those to keep, in the order in which they sign; the keys that must be made
// now; and whether a key was changed or dropped. It is a pure function, so that all nodes come to the same plan.
func plan(keys []scheduledKey, now time.Time, policy Policy) (kept []scheduledKey, missing []due, changed bool) {
	kept = slices.Clone(keys)
	slices.SortFunc(kept, func(a, b scheduledKey) int {
		return cmp.Or(a.Signs.Compare(b.Signs), cmp.Compare(a.ID, b.ID))
	})
	for _, alg := range policy.algorithms() {
		line := keyLine(kept, alg)
		for i := signerAt(line, now); i < len(line); i++ {
			var successor time.Time
			if i+1 < len(line) {
				successor = line[i+1].Signs
			}
			changed = extend(line[i], successor, now, policy.Lifetime) || changed
		}
		if signs := nextKey(line, now, policy); !signs.IsZero() {
			missing = append(missing, due{alg, signs})
		}
	}

	// Keys that may still sign were extended: just now, or by the nodes that sign with them.
	kept = slices.DeleteFunc(kept, func(k scheduledKey) bool { return !k.Expires.After(now) })
	return kept, missing, changed || len(kept) < len(keys)
}

// nextKey returns when a key that must be made now signs, or zero if none must be made.
func nextKey(line []*scheduledKey, now time.Time, policy Policy) time.Time {
	if len(line) == 0 {
		// It need not be published first: a verifier that meets an unknown kid fetches the JWKS.
		return now
	}
	if policy.Rotate == 0 {
		return time.Time{}
	}
	due := line[len(line)-1].Signs.Add(policy.Rotate)
	published := now.Add(policy.Publish + propagation + clockLeeway)
	if published.Before(due) {
		return time.Time{}
	}
	return published // equals due if this node is on time; otherwise the old key signs for longer
}

// extend postpones the end of a key until no guard accepts any token that it signs before its successor signs or, without a
// successor, before the lease ends. It reports whether that changed the key. It never brings the end forward, so that
// tokens stay valid that were signed under a longer Lifetime.
func extend(k *scheduledKey, successor, now time.Time, lifetime time.Duration) bool {
	until, enough := successor, successor
	if successor.IsZero() {
		start := now
		if k.Signs.After(now) {
			start = k.Signs
		}
		until, enough = start.Add(lease), start.Add(lease/2)
	}
	if !k.Expires.Before(enough.Add(tail(lifetime))) {
		return false
	}
	k.Expires = until.Add(tail(lifetime))
	return true
}

// tail returns how long after a key has signed its last token some guard may accept that token.
func tail(lifetime time.Duration) time.Duration { return lifetime + jwt.MaxLeeway + clockLeeway }

// keyLine returns the keys of one algorithm, which succeed one another.
func keyLine(keys []scheduledKey, algorithm string) []*scheduledKey {
	var line []*scheduledKey
	for i := range keys {
		if keys[i].Algorithm == algorithm {
			line = append(line, &keys[i])
		}
	}
	return line
}

// signerAt returns the index of the key that signs: the last one that has started to sign, or the first one if none has
// because the clock of the node that made it is ahead.
func signerAt(line []*scheduledKey, now time.Time) int {
	for i := len(line) - 1; i > 0; i-- {
		if !line[i].Signs.After(now) {
			return i
		}
	}
	return 0
}
