package authserver

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"
)

// The life of a key, Rotate apart from the next:
//
//	         made              signs                        its successor signs
//	key 1    |─────────────────|════════════════════════════|──────────────────────| gone
//	key 2                                 |─────────────────|═══════════════════════════
//	                                      made
//	         └──── Publish ────┘                            └─ Lifetime + 1 minute ─┘
//
// It is in the JWKS from "made" to "gone", so a verifier may hold on to a JWKS for Publish and still
// know every key it meets: a key is made a little earlier than that, for the JWKS of a node that has not
// heard of it yet.
//
// While no successor is in sight, and while nodes with two configurations sign with keys of two
// algorithms, nobody can tell when a key stops signing. So the nodes that sign with it write down that they will
// go on for an hour, and renew that in time; no other node drops it meanwhile.
const (
	signClaim   = time.Hour
	clockLeeway = time.Minute     // between the clocks of nodes
	newsDelay   = 2 * time.Minute // until each node has seen what another wrote; a round comes every minute
)

// scheduledKey is a key as the record keeps it. Times are whole seconds.
type scheduledKey struct {
	ID        string          `json:"kid"`
	Algorithm string          `json:"alg"`
	Created   time.Time       `json:"created"`
	Signs     time.Time       `json:"signs"`   // it signs from then until its successor does
	Expires   time.Time       `json:"expires"` // by then every token signed with it has expired
	JWK       json.RawMessage `json:"jwk"`     // with the private part
}

// plan returns what becomes of the keys at that time: the kept ones in the order in which they sign,
// when a key that has to be made now shall sign (zero: none has to be made), and whether any of the
// kept ones changed or went. It is a pure function, so that all nodes come to the same plan.
func plan(keys []scheduledKey, now time.Time, policy KeyPolicy) (kept []scheduledKey, newSigns time.Time, changed bool) {
	kept = slices.Clone(keys)
	slices.SortFunc(kept, func(a, b scheduledKey) int {
		return cmp.Or(a.Signs.Compare(b.Signs), cmp.Compare(a.ID, b.ID))
	})
	line := keyLine(kept, policy.Algorithm)
	for i := signerAt(line, now); i < len(line); i++ {
		var successor time.Time
		if i+1 < len(line) {
			successor = line[i+1].Signs
		}
		changed = extend(line[i], successor, now, policy.Lifetime) || changed
	}
	newSigns = nextKey(line, now, policy)

	// Whoever may still sign has just been extended, or was by the nodes that sign with it.
	kept = slices.DeleteFunc(kept, func(k scheduledKey) bool { return !k.Expires.After(now) })
	return kept, newSigns, changed || len(kept) < len(keys)
}

// nextKey returns when a key that has to be made now shall sign, or zero.
func nextKey(line []*scheduledKey, now time.Time, policy KeyPolicy) time.Time {
	if len(line) == 0 {
		// Nobody can hold a JWKS that matters: verifiers fetch a new one for an unknown kid.
		return now
	}
	if policy.Rotate == 0 {
		return time.Time{}
	}
	due := line[len(line)-1].Signs.Add(policy.Rotate)
	published := now.Add(policy.Publish + newsDelay + clockLeeway)
	if published.Before(due) {
		return time.Time{}
	}
	return published // which is due if this round is in time; until then an overdue key goes on signing
}

// extend lets the key live as long as tokens that are signed with it until its successor signs, or,
// without one, until the claim ends. It reports whether that changed the key. It never shortens a life, so that
// a lower Lifetime leaves the tokens signed before it valid.
func extend(k *scheduledKey, successor, now time.Time, lifetime time.Duration) bool {
	until, enough := successor, successor
	if successor.IsZero() {
		start := now
		if k.Signs.After(now) {
			start = k.Signs
		}
		until, enough = start.Add(signClaim), start.Add(signClaim/2)
	}
	tail := lifetime + clockLeeway
	if !k.Expires.Before(enough.Add(tail)) {
		return false
	}
	k.Expires = until.Add(tail)
	return true
}

// keyLine returns the keys of one algorithm, which succeed each other.
func keyLine(keys []scheduledKey, algorithm string) []*scheduledKey {
	var line []*scheduledKey
	for i := range keys {
		if keys[i].Algorithm == algorithm {
			line = append(line, &keys[i])
		}
	}
	return line
}

// signerAt returns the index of the key that signs: the last one whose time has come, or the first
// if the clock of the node that made it is ahead of ours.
func signerAt(line []*scheduledKey, now time.Time) int {
	for i := len(line) - 1; i > 0; i-- {
		if !line[i].Signs.After(now) {
			return i
		}
	}
	return 0
}
