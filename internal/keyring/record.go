package keyring

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// recordKey is the key of the record of an issuer, whose store has no records of other issuers.
var recordKey = storage.Key{Kind: storage.KindKeys, ID: "signing"}

// record has all keys in one value, so that one atomic update decides about them. It never expires. Unknown members are
// ignored, and missing ones are made.
type record struct {
	Secret []byte         `json:"secret"` // random
	Keys   []scheduledKey `json:"keys,omitempty"`
}

const secretLength = 32

// noSpareError says that a key for an algorithm has to be made first.
type noSpareError string

func (e noSpareError) Error() string { return "a key for " + string(e) + " has to be made first" }

// readRecord decodes a record; encoded may be nil.
func readRecord(encoded []byte) (rec record, err error) {
	if err := storage.CheckReadable(encoded); err != nil {
		return record{}, fmt.Errorf("the record of signing keys: %w", err)
	}
	// A JSON error can quote from the record, which contains secrets.
	if encoded != nil && json.Unmarshal(encoded, &rec) != nil {
		return record{}, &storage.DamagedError{Key: recordKey, Err: errors.New("the record of signing keys is not readable JSON")}
	}
	if n := len(rec.Secret); n != 0 && n != secretLength {
		return record{}, &storage.DamagedError{
			Key: recordKey, Err: fmt.Errorf("the record of signing keys has a secret of %d bytes, expected %d", n, secretLength),
		}
	}
	return rec, nil
}

func newSecret() []byte {
	secret := make([]byte, secretLength)
	rand.Read(secret) // never fails, see crypto/rand
	return secret
}

// newKey makes a key that is not in the schedule yet.
func newKey(alg string) (*scheduledKey, error) {
	id, jwk, err := jwt.MakeKey(alg)
	if err != nil {
		return nil, err
	}
	return &scheduledKey{ID: id, Algorithm: alg, JWK: jwk}, nil
}

// nextRecord returns what the record becomes now, and whether that differs from old, which may be nil. It returns a noSpareError if it
// needs a spare key, since making one takes too long to do it with the record locked.
func (r *Ring) nextRecord(old []byte) (rec record, changed bool, err error) {
	if rec, err = readRecord(old); err != nil {
		return record{}, false, err
	}
	if len(rec.Secret) == 0 {
		rec.Secret = newSecret()
		changed = true
	}
	if r.config.File != nil {
		return rec, changed, nil // the keys in the record belong to nodes that have no file yet
	}

	now := r.now()
	kept, missing, moved := plan(rec.Keys, now, r.policy())
	for _, due := range missing {
		spare := r.spares[due.algorithm]
		if spare == nil {
			return record{}, false, noSpareError(due.algorithm)
		}
		made := *spare
		made.Created, made.Signs = now, due.signs
		kept, moved = append(kept, made), true
	}
	if len(missing) > 0 {
		kept, _, _ = plan(kept, now, r.policy())
	}
	rec.Keys = kept
	return rec, changed || moved, nil
}

// lock waits until no other caller reads or writes the record. The wait is limited, so that callers do not queue up behind
// a store that does not answer.
func (r *Ring) lock(ctx context.Context) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	if err := r.updating.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("%w: waiting for another request that reads the signing keys: %w", storage.ErrTimeout, err)
	}
	return func() { r.updating.Release(1) }, nil
}

// refresh brings the record and the keys in memory up to date, unless another caller has done that since this one loaded
// seen.
func (r *Ring) refresh(ctx context.Context, seen *snapshot) error {
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	current := r.current.Load()
	if current != seen {
		return nil
	}
	rec, err := r.updateOrMend(ctx)
	if err != nil {
		return err
	}
	if r.config.File != nil {
		next := *current
		// Another file means another secret: an owner whose keys were stolen replaces the file.
		mac := hmac.New(sha256.New, rec.Secret)
		mac.Write(r.config.File)
		next.secret = mac.Sum(nil)
		r.adopted = &rec
		r.current.Store(&next)
		return nil
	}
	return r.adopt(rec)
}

// updateOrMend brings the record up to date and returns it. If the record is damaged, it writes what is in memory.
func (r *Ring) updateOrMend(ctx context.Context) (record, error) {
	rec, err := r.updateRecord(ctx)
	if !errors.Is(err, storage.ErrDamaged) {
		return rec, err
	}
	if err := r.mend(ctx, err); err != nil {
		return record{}, err
	}
	return r.updateRecord(ctx)
}

// mend writes the keys in memory in the place of a damaged record. Without them, the record stays: with new keys, every JWT would be
// invalid that was issued, and only the owner knows whether there is a backup.
func (r *Ring) mend(ctx context.Context, damage error) error {
	if r.adopted == nil {
		return fmt.Errorf("%w; restore the record %s/%s from a backup, as with caddy oauth import, or delete it: "+
			"then new keys are made, and all JWTs that were issued are invalid", damage, recordKey.Kind, recordKey.ID)
	}
	value, err := json.Marshal(r.adopted)
	if err != nil {
		return err
	}
	err = r.config.Store.Update(ctx, recordKey, func(old []byte) ([]byte, time.Time, error) {
		if _, err := readRecord(old); !errors.Is(err, storage.ErrDamaged) {
			return nil, time.Time{}, cmp.Or(err, storage.ErrKeep) // another node was first
		}
		return value, time.Time{}, nil
	})
	if errors.Is(err, storage.ErrDamaged) { // the store cannot read it
		err = r.config.Store.Put(ctx, recordKey, value, time.Time{})
	}
	if err != nil {
		return err
	}
	r.config.Logger.Error("damaged record of signing keys in the store; written again from memory",
		zap.String("record", string(recordKey.Kind)+"/"+recordKey.ID), zap.Error(damage))
	return nil
}

// updateRecord brings a record up to date that can be read, and returns it. It reads before it locks the record, since there is seldom
// anything to change, and it makes a key without holding that lock, since RSA takes long.
func (r *Ring) updateRecord(ctx context.Context) (record, error) {
	old, err := r.config.Store.Get(ctx, recordKey)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return record{}, err
	}
	rec, changed, err := r.nextRecord(old)
	if err == nil && !changed {
		return rec, nil
	}
	for {
		err := r.config.Store.Update(ctx, recordKey, func(old []byte) (value []byte, never time.Time, err error) {
			rec, changed, err = r.nextRecord(old)
			if err == nil && !changed {
				err = storage.ErrKeep
			}
			if err != nil {
				return nil, never, err
			}
			value, err = json.Marshal(rec)
			return value, never, err
		})
		if errors.Is(err, storage.ErrReadOnly) {
			return r.asStored(old)
		}
		alg, needed := errors.AsType[noSpareError](err)
		if !needed {
			return rec, err
		}
		if _, err := r.unused(string(alg)); err != nil {
			return record{}, err
		}
	}
}

// unused returns a key for an algorithm that is not used yet.
func (r *Ring) unused(alg string) (scheduledKey, error) {
	if r.spares[alg] == nil {
		made, err := newKey(alg)
		if err != nil {
			return scheduledKey{}, err
		}
		r.spares[alg] = made
	}
	return *r.spares[alg], nil
}

// asStored returns the record unchanged, for a node that is read-only while a change is due. The keys in the record go on
// signing and verifying; if there are none, the error is [storage.ErrReadOnly].
func (r *Ring) asStored(encoded []byte) (record, error) {
	rec, err := readRecord(encoded)
	if err != nil {
		return record{}, err
	}
	if len(rec.Secret) == 0 || r.config.File == nil && len(keyLine(rec.Keys, r.config.Algorithm)) == 0 {
		return record{}, storage.ErrReadOnly
	}
	return rec, nil
}

// adopt replaces the keys in memory by those of the record, and reports what is new.
func (r *Ring) adopt(rec record) error {
	var before snapshot
	if current := r.current.Load(); current != nil {
		before = *current
	}
	var keys []*jwt.Key
	for _, scheduled := range rec.Keys {
		if jwt.CheckAlgorithm(scheduled.Algorithm) != nil {
			continue // a later version made it
		}
		key := before.byID[scheduled.ID]
		if key == nil {
			var err error
			if key, err = jwt.ParseKey(scheduled.JWK, scheduled.ID, scheduled.Algorithm); err != nil {
				return fmt.Errorf("signing key %q in the store: %w", scheduled.ID, err)
			}
		}
		keys = append(keys, key)
	}
	for _, alg := range r.config.Kept {
		if len(keyLine(rec.Keys, alg)) > 0 {
			r.use(alg)
		}
	}
	lines := make(map[string][]*scheduledKey)
	for _, alg := range r.algorithms() {
		lines[alg] = keyLine(rec.Keys, alg)
	}
	after := newSnapshot(keys, lines, rec.Secret)
	r.report(&before, after, rec)
	r.adopted = &rec
	r.current.Store(after)
	r.refreshAt.Store(r.now().Add(propagation).Unix())
	return nil
}

// report logs which keys this node has made, which ones are retired and which ones sign.
func (r *Ring) report(before, after *snapshot, rec record) {
	log := r.config.Logger
	for _, scheduled := range rec.Keys {
		if spare := r.spares[scheduled.Algorithm]; spare != nil && spare.ID == scheduled.ID {
			delete(r.spares, scheduled.Algorithm)
			log.Info("signing key made", zap.String("kid", scheduled.ID),
				zap.String("alg", scheduled.Algorithm), zap.Time("signs_from", scheduled.Signs))
			r.config.Changed(Made, scheduled.ID, scheduled.Signs)
		}
	}
	for _, key := range before.keys {
		if after.byID[key.ID] == nil {
			log.Info("signing key retired", zap.String("kid", key.ID))
			r.config.Changed(Retired, key.ID, time.Time{})
		}
	}
	for _, alg := range r.algorithms() {
		key := after.signingKey(alg, r.now())
		if key == nil || key.ID == r.inUse[alg] {
			continue
		}
		r.inUse[alg] = key.ID
		log.Info("signing key in use", zap.String("kid", key.ID), zap.String("alg", alg))
		for _, scheduled := range rec.Keys {
			if scheduled.ID == key.ID {
				r.config.Changed(InUse, key.ID, scheduled.Signs)
			}
		}
	}
}
