package authserver

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// keysRecord is where the keys of an issuer are; its store holds no other issuer's records.
var keysRecord = storage.Key{Kind: storage.KindKeys, ID: "signing"}

// keyRecord has all keys in one value, so that one atomic step decides about them. It never expires.
// Members that this version does not know are ignored, and what an older one did not write is made.
type keyRecord struct {
	Seal []byte         `json:"seal"` // 32 random bytes
	Keys []scheduledKey `json:"keys,omitempty"`
}

const sealLength = 32

var errNoSpare = errors.New("a key has to be made first")

// readKeyRecord reads a record, of which there may be none yet.
func readKeyRecord(record []byte) (rec keyRecord, err error) {
	// The text of a JSON error can quote what it stumbled over, and this is made of secrets.
	if record != nil && json.Unmarshal(record, &rec) != nil {
		return keyRecord{}, errors.New("the record of signing keys is not readable JSON")
	}
	return rec, nil
}

// makeKey makes a key that has no place in the schedule yet.
func makeKey(alg string) (*scheduledKey, error) {
	id, jwk, err := jwt.MakeKey(alg)
	if err != nil {
		return nil, err
	}
	return &scheduledKey{ID: id, Algorithm: alg, JWK: jwk}, nil
}

// advance returns what the record becomes now, and whether that differs from old, which may be
// nil. With errNoSpare it asks for a spare key, since making one is too slow for a lock.
func (k *Keys) advance(old []byte, spare *scheduledKey) (rec keyRecord, changed bool, err error) {
	if rec, err = readKeyRecord(old); err != nil {
		return keyRecord{}, false, err
	}
	switch len(rec.Seal) {
	case sealLength:
	case 0:
		rec.Seal = make([]byte, sealLength)
		rand.Read(rec.Seal)
		changed = true
	default:
		return keyRecord{}, false, fmt.Errorf("the record of signing keys has a seal of %d bytes, expected %d", len(rec.Seal), sealLength)
	}
	if k.policy.File != nil {
		return rec, changed, nil // the keys in the record are those of nodes that still have no file
	}

	now := k.now()
	kept, signs, moved := plan(rec.Keys, now, k.policy)
	if !signs.IsZero() {
		if spare == nil {
			return keyRecord{}, false, errNoSpare
		}
		made := *spare
		made.Created, made.Signs = now, signs
		kept, _, _ = plan(append(kept, made), now, k.policy)
		moved = true
	}
	rec.Keys = kept
	return rec, changed || moved, nil
}
