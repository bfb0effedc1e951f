package keyring

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"
)

// Info describes a signing key to the owner of the site.
type Info struct {
	ID        string `json:"kid"`
	Algorithm string `json:"alg"`
	// Status is "signing", "next" for a key that is published and will sign, or "verifying" for one that signed before.
	Status  string    `json:"status"`
	Created time.Time `json:"created,omitzero"`
	Signs   time.Time `json:"signs_from,omitzero"`
	// Until is when the next key takes over, or did. It is zero if none will: with rotate never, and for keys in a file.
	Until time.Time `json:"signs_until,omitzero"`
	// Expires is when the key is retired: no guard accepts a token any more that it signed until then.
	Expires time.Time `json:"expires,omitzero"`
}

var (
	// ErrNoKey means that there is no key with that kid.
	ErrNoKey = errors.New("there is no such key")
	// ErrKeysInFile means that the owner manages the keys.
	ErrKeysInFile = errors.New("the keys are those of jwks_file: change the file and reload")
)

// List returns the keys, in the order in which they sign.
func (r *Ring) List(ctx context.Context) ([]Info, error) {
	if err := r.refresh(ctx, r.current.Load()); err != nil {
		return nil, err
	}
	keys, now := r.current.Load(), r.now()
	list := make([]Info, 0, len(keys.keys))
	for _, key := range keys.keys {
		info := Info{ID: key.ID, Algorithm: key.Algorithm, Status: "verifying"}
		line := keys.lines[key.Algorithm]
		if i := slices.IndexFunc(line, func(s *scheduledKey) bool { return s.ID == key.ID }); i >= 0 {
			s := line[i]
			info.Created, info.Signs = s.Created, s.Signs
			info.Until, info.Expires = r.end(line, i, now)
			switch {
			case i == signerAt(line, now):
				info.Status = "signing"
			case s.Signs.After(now):
				info.Status = "next"
			}
		}
		list = append(list, info)
	}
	return list, nil
}

// end returns when a key of the line stops to sign, and when it is retired. Both are zero if neither will be without the owner.
func (r *Ring) end(line []*scheduledKey, i int, now time.Time) (until, expires time.Time) {
	switch {
	case r.config.File != nil:
		return until, expires
	case i+1 < len(line):
		until = line[i+1].Signs
	case r.config.Rotate == 0:
		return until, expires
	default:
		until = line[i].Signs.Add(r.config.Rotate)
		if next := nextKey(line, now, r.config.Policy); next.After(until) {
			until = next // the key that takes over is late
		}
	}
	expires = line[i].Expires
	if planned := until.Add(tail(r.config.Lifetime)); planned.After(expires) {
		expires = planned
	}
	return until, expires
}

// RotateNow makes a key for each algorithm that is used, and returns the kid of the one for access tokens. The keys sign when every
// cached JWKS can have them, or at once.
func (r *Ring) RotateNow(ctx context.Context, atOnce bool) (kid string, err error) {
	err = r.edit(ctx, false, func(keys []scheduledKey, now time.Time) ([]scheduledKey, error) {
		for _, alg := range r.algorithms() {
			spare, err := r.unused(alg)
			if err != nil {
				return nil, err
			}
			spare.Created, spare.Signs = now, now.Add(r.config.Publish+propagation+clockLeeway)
			if atOnce {
				spare.Signs = afterOthers(keys, now)
			}
			keys = append(keys, spare)
			if alg == r.config.Algorithm {
				kid = spare.ID
			}
		}
		return keys, nil
	})
	return kid, err
}

// RetireNow removes a key, which makes the tokens it signed invalid. If it is the key that signs now, the next one takes
// over, or else a new one. The secret is renewed too: whoever has the key can have read it in the same record.
func (r *Ring) RetireNow(ctx context.Context, kid string) error {
	return r.edit(ctx, true, func(keys []scheduledKey, now time.Time) ([]scheduledKey, error) {
		found := slices.IndexFunc(keys, func(key scheduledKey) bool { return key.ID == kid })
		if found < 0 {
			return nil, ErrNoKey
		}
		alg := keys[found].Algorithm
		line := keyLine(keys, alg)
		signed := line[signerAt(line, now)].ID == kid && slices.Contains(r.algorithms(), alg)
		kept := slices.Delete(keys, found, found+1)
		if !signed {
			return kept, nil
		}
		for _, next := range keyLine(kept, alg) {
			if next.Signs.After(now) {
				next.Signs = afterOthers(kept, now)
				return kept, nil
			}
		}
		spare, err := r.unused(alg)
		if err != nil {
			return nil, err
		}
		spare.Created, spare.Signs = now, afterOthers(kept, now)
		return append(kept, spare), nil
	})
}

// afterOthers returns when a key signs that should sign at once: now, or, if other keys start to sign in this second and
// the ones after it, the first second in which none does. The keys are in their order. The key that starts last signs.
func afterOthers(keys []scheduledKey, now time.Time) time.Time {
	signs := now
	for _, key := range keys {
		if key.Signs.Equal(signs) {
			signs = signs.Add(time.Second)
		}
	}
	return signs
}

// edit changes the keys in one atomic update, and uses the result here at once. change may run more than once. If renew is set, the secret is renewed.
func (r *Ring) edit(
	ctx context.Context, renew bool,
	change func(keys []scheduledKey, now time.Time) ([]scheduledKey, error),
) error {
	if r.config.File != nil {
		return ErrKeysInFile
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	rec, err := r.updateOrMend(ctx) // so that there are keys to change
	if err != nil {
		return err
	}
	if err := r.adopt(rec); err != nil {
		return err
	}
	for _, alg := range r.algorithms() { // RSA takes long, and the record is locked below
		if _, err := r.unused(alg); err != nil {
			return err
		}
	}
	err = r.config.Store.Update(ctx, recordKey, func(old []byte) (value []byte, never time.Time, err error) {
		if rec, err = readRecord(old); err != nil {
			return nil, never, err
		}
		now := r.now()
		if rec.Keys, err = change(rec.Keys, now); err != nil {
			return nil, never, err
		}
		if renew {
			rec.Secret = newSecret()
		}
		rec.Keys, _, _ = plan(rec.Keys, now, r.policy())
		value, err = json.Marshal(rec)
		return value, never, err
	})
	if err != nil {
		return err
	}
	return r.adopt(rec)
}
