package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// KeyInfo is what may be told of a signing key.
type KeyInfo struct {
	ID        string `json:"kid"`
	Algorithm string `json:"alg"`
	// Status is "signing", "next" for a key that is published and will sign, and "verifying" for one that signed once.
	Status  string    `json:"status"`
	Created time.Time `json:"created,omitzero"`
	Signs   time.Time `json:"signs_from,omitzero"`
	// Expires is when it goes, as it stands; a key that signs goes on.
	Expires time.Time `json:"expires,omitzero"`
}

var (
	// ErrNoKey says that there is no key of a kid.
	ErrNoKey = errors.New("there is no such key")
	// ErrKeysInFile says that keys are the owner's to change.
	ErrKeysInFile = errors.New("the keys are those of jwks_file: change the file and reload")
)

// List returns the keys, in the order in which they sign.
func (k *Keys) List(ctx context.Context) ([]KeyInfo, error) {
	if err := k.round(ctx, k.state.Load()); err != nil {
		return nil, err
	}
	state, now := k.state.Load(), k.now()
	signer := state.signer(now).ID
	list := make([]KeyInfo, 0, len(state.keys))
	for _, key := range state.keys {
		info := KeyInfo{ID: key.ID, Algorithm: key.Algorithm, Status: "verifying"}
		if i := slices.IndexFunc(state.line, func(s *scheduledKey) bool { return s.ID == key.ID }); i >= 0 {
			s := state.line[i]
			info.Created, info.Signs, info.Expires = s.Created, s.Signs, s.Expires
			if s.Signs.After(now) {
				info.Status = "next"
			}
		}
		if key.ID == signer {
			info.Status = "signing"
		}
		list = append(list, info)
	}
	return list, nil
}

// RotateNow makes a key, which signs as soon as whoever holds a JWKS knows it, or at once, and returns its kid.
func (k *Keys) RotateNow(ctx context.Context, atOnce bool) (kid string, err error) {
	err = k.edit(ctx, func(keys []scheduledKey, spare scheduledKey, now time.Time) ([]scheduledKey, error) {
		kid, spare.Created, spare.Signs = spare.ID, now, now.Add(k.policy.Publish+newsDelay+clockLeeway)
		if atOnce {
			spare.Signs = afterOthers(keys, now)
		}
		return append(keys, spare), nil
	})
	return kid, err
}

// RetireNow removes a key: tokens that it signed are no longer good. If it is the one that signs, the one that is to
// sign next does, or else a new one.
func (k *Keys) RetireNow(ctx context.Context, kid string) error {
	return k.edit(ctx, func(keys []scheduledKey, spare scheduledKey, now time.Time) ([]scheduledKey, error) {
		line := keyLine(keys, k.policy.Algorithm)
		signed := len(line) > 0 && line[signerAt(line, now)].ID == kid
		kept := slices.DeleteFunc(keys, func(key scheduledKey) bool { return key.ID == kid })
		if len(kept) == len(keys) {
			return nil, ErrNoKey
		}
		if !signed {
			return kept, nil
		}
		for _, next := range keyLine(kept, k.policy.Algorithm) {
			if next.Signs.After(now) {
				next.Signs = afterOthers(kept, now)
				return kept, nil
			}
		}
		spare.Created, spare.Signs = now, afterOthers(kept, now)
		return append(kept, spare), nil
	})
}

// afterOthers returns when a key that is to sign at once signs: now, or the next second in which no other of the keys,
// which stand in their order, begins to. The latest one signs.
func afterOthers(keys []scheduledKey, now time.Time) time.Time {
	signs := now
	for _, key := range keys {
		if key.Signs.Equal(signs) {
			signs = signs.Add(time.Second)
		}
	}
	return signs
}

// edit decides on the keys in one atomic step, which holds here at once. change may run again; it may use the spare key
// or not.
func (k *Keys) edit(
	ctx context.Context, change func(keys []scheduledKey, spare scheduledKey, now time.Time) ([]scheduledKey, error),
) error {
	if k.policy.File != nil {
		return ErrKeysInFile
	}
	release, err := k.turn.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	rec, err := k.updateRecord(ctx) // so that there are keys to change
	if err != nil {
		return err
	}
	if err := k.adopt(k.state.Load(), rec); err != nil {
		return err
	}
	if k.spare == nil {
		if k.spare, err = makeKey(k.policy.Algorithm); err != nil {
			return err
		}
	}
	err = k.store.Update(ctx, keysRecord, func(old []byte) (value []byte, never time.Time, err error) {
		if rec, err = readKeyRecord(old); err != nil {
			return nil, never, err
		}
		now := k.now()
		if rec.Keys, err = change(rec.Keys, *k.spare, now); err != nil {
			return nil, never, err
		}
		rec.Keys, _, _ = plan(rec.Keys, now, k.policy)
		value, err = json.Marshal(rec)
		return value, never, err
	})
	if err != nil {
		return err
	}
	return k.adopt(k.state.Load(), rec)
}

// verifies reports whether the key that signed a token, whose signature was good once, is still there.
func (k *Keys) verifies(token string) bool {
	t, err := jwt.Split(token)
	if err != nil {
		return true // opaque
	}
	state := k.state.Load()
	if state == nil {
		return false
	}
	_, err = state.find(t)
	return err == nil
}
