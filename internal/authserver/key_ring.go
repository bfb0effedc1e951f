package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// KeyPolicy says which keys sign the tokens of an issuer, and for how long.
type KeyPolicy struct {
	// Algorithm is the alg of the tokens (RFC 7518 §3.1, RFC 8037 §3.1): ES256 (default), ES384,
	// ES512, EdDSA (Ed25519), RS256 … RS512, PS256 … PS512 or HS256 … HS512, whose secret is never
	// published, so that only this server can verify the tokens. With a File and no Algorithm, the
	// first private key in the file decides.
	Algorithm string

	// Rotate is how long a key signs before the next one does; 0: forever.
	Rotate time.Duration

	// Publish is how long a key is in the JWKS before it signs: as long as a verifier may hold on to a
	// JWKS. Shorter than Rotate.
	Publish time.Duration

	// Lifetime is the longest life of a token that is signed here.
	Lifetime time.Duration

	// File is a JWKS of the owner's (RFC 7517 §5). No key is then made or rotated: the first private
	// key for Algorithm signs, all keys verify, and the public halves of the asymmetric ones are
	// published. Keys of use "enc" are passed over.
	File []byte
}

// Keys are the signing keys of an issuer. Nodes that share a store share the keys. Safe for
// concurrent use.
type Keys struct {
	policy KeyPolicy
	store  storage.Store
	logger *zap.Logger
	now    func() time.Time

	state   atomic.Pointer[keyState] // what signs and verifies; nil before the first round
	refresh atomic.Int64             // the Unix time from which state is too old to trust unseen
	unknown *rate.Limiter            // of looks into the store for a kid that nobody may have made

	turn  turn          // held by the one round that runs; guards what follows
	spare *scheduledKey // a key made and not used yet
	inUse string        // the kid last logged as the one that signs

	changed func(event, kid string, signs time.Time) // is told of what is logged
}

// NewKeys returns the keys of the issuer that owns the store, under that policy. It checks the
// policy and reads its File; it does not touch the store. An error names what is wrong in the user's words and
// holds no key.
func NewKeys(policy KeyPolicy, store storage.Store, logger *zap.Logger, now func() time.Time) (*Keys, error) {
	k := &Keys{
		policy: policy,
		store:  store,
		logger: logger,
		// The record has whole seconds, and a monotonic clock does not count the sleep of a machine.
		now:     func() time.Time { return now().UTC().Truncate(time.Second) },
		unknown: rate.NewLimiter(1, 10),
		turn:    newTurn(storeTimeout(store)),
		changed: func(string, string, time.Time) {},
	}
	if policy.File != nil {
		keys, signer, err := jwt.ParsePrivateKeys(policy.File, policy.Algorithm)
		if err != nil {
			return nil, fmt.Errorf("signing keys: %w", err)
		}
		k.state.Store(newKeyState(keys, []*scheduledKey{{ID: signer.ID}}, nil))
		k.refresh.Store(math.MaxInt64)
		return k, nil
	}
	if k.policy.Algorithm == "" {
		k.policy.Algorithm = "ES256"
	}
	if err := jwt.CheckAlgorithm(k.policy.Algorithm); err != nil {
		return nil, fmt.Errorf("signing keys: %w", err)
	}
	switch {
	case policy.Lifetime <= 0:
		return nil, fmt.Errorf("signing keys: the lifetime of tokens is %s, expected more than 0", policy.Lifetime)
	case policy.Rotate < 0 || policy.Publish < 0:
		return nil, errors.New("signing keys: a negative duration")
	case policy.Rotate > 0 && policy.Publish >= policy.Rotate:
		return nil, fmt.Errorf("signing keys: published %s before they sign, expected less than the %s between rotations", policy.Publish, policy.Rotate)
	}
	return k, nil
}

// Maintain makes, rotates and retires keys as the policy asks for now, and picks up what other nodes
// did. Every node calls it at start and once a minute. On an error, the keys in memory go on signing.
func (k *Keys) Maintain(ctx context.Context) error {
	return k.round(ctx, k.state.Load())
}

// Sign returns a JWT of these claims, a JSON object, in compact form (RFC 7515 §3.1) and of type
// at+jwt (RFC 9068 §2.1). The first call makes the first key.
func (k *Keys) Sign(ctx context.Context, claims []byte) (string, error) {
	state, err := k.load(ctx)
	if err != nil {
		return "", err
	}
	return state.signer(k.now()).Sign(claims)
}

// SignAs is Sign for a JWT of another type than an access token.
func (k *Keys) SignAs(ctx context.Context, typ string, claims []byte) (string, error) {
	state, err := k.load(ctx)
	if err != nil {
		return "", err
	}
	return state.signer(k.now()).SignAs(typ, claims)
}

// JWKS returns the public keys of all tokens that are valid now or will be signed soon, as a JWK set
// (RFC 7517 §5), and its entity tag, with quotes. A caller may let it be cached for KeyPolicy.Publish.
func (k *Keys) JWKS(ctx context.Context) (body []byte, etag string, err error) {
	state, err := k.load(ctx)
	if err != nil {
		return nil, "", err
	}
	return slices.Clone(state.jwks), state.etag, nil
}

// Verify returns the claims of a token that one of these keys signed. It looks at nothing but type and
// signature. What is wrong with the token is an [jwt.InvalidToken]; any other
// error is the store's, and leaves open whether the token is good.
func (k *Keys) Verify(ctx context.Context, token string) ([]byte, error) {
	t, err := jwt.Split(token)
	if err != nil {
		return nil, err
	}
	state, err := k.load(ctx)
	if err != nil {
		return nil, err
	}
	key, err := state.find(t)
	if errors.Is(err, jwt.ErrKey) && k.policy.File == nil && k.unknown.AllowN(k.now(), 1) {
		// Another node may have made a key that signs at once.
		if err := k.round(ctx, state); err != nil {
			return nil, err
		}
		key, err = k.state.Load().find(t)
	}
	if err != nil {
		return nil, err
	}
	return t.Verify(key)
}

// Seal returns a secret of this issuer for MACs and encryption, the same on all nodes and for good.
// Derive a key from it for each purpose.
func (k *Keys) Seal(ctx context.Context) ([sealLength]byte, error) {
	state, err := k.load(ctx)
	if err != nil {
		return [sealLength]byte{}, err
	}
	if state.seal == nil { // keys from a file
		if err := k.round(ctx, state); err != nil {
			return [sealLength]byte{}, err
		}
		state = k.state.Load()
	}
	return [sealLength]byte(state.seal), nil
}

const (
	retryAfter     = time.Minute
	refreshTimeout = 2 * time.Second
)

// load returns the keys in memory, after a first round if there are none. Where Maintain has not come
// round for long, as when the machine slept, one caller looks for what it missed; without a store
// the keys in memory stay.
func (k *Keys) load(ctx context.Context) (*keyState, error) {
	state := k.state.Load()
	if state == nil {
		if err := k.round(ctx, nil); err != nil {
			return nil, fmt.Errorf("loading the signing keys: %w", err)
		}
		return k.state.Load(), nil
	}
	now, due := k.now(), k.refresh.Load()
	if now.Unix() < due || !k.refresh.CompareAndSwap(due, now.Add(retryAfter).Unix()) {
		return state, nil
	}
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	if err := k.round(ctx, state); err != nil {
		k.logger.Warn("signing keys not refreshed", zap.Error(err))
	}
	return k.state.Load(), nil
}

// round brings record and memory up to date, unless somebody else did so after the caller saw the
// state.
func (k *Keys) round(ctx context.Context, seen *keyState) error {
	release, err := k.turn.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	state := k.state.Load()
	if state != seen {
		return nil
	}
	rec, err := k.updateRecord(ctx)
	if err != nil {
		return err
	}
	if k.policy.File != nil {
		next := *state
		next.seal = rec.Seal
		k.state.Store(&next)
		return nil
	}
	return k.adopt(state, rec)
}

// updateRecord brings the record up to date and returns it. It looks before it locks, since most rounds
// find nothing to do, and makes a key outside of the lock, since RSA takes its time.
func (k *Keys) updateRecord(ctx context.Context) (keyRecord, error) {
	old, err := k.store.Get(ctx, keysRecord)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return keyRecord{}, err
	}
	rec, changed, err := k.advance(old, k.spare)
	if err == nil && !changed {
		return rec, nil
	}
	for {
		err := k.store.Update(ctx, keysRecord, func(old []byte) (value []byte, never time.Time, err error) {
			rec, changed, err = k.advance(old, k.spare)
			if err == nil && !changed {
				err = storage.ErrKeep
			}
			if err != nil {
				return nil, never, err
			}
			value, err = json.Marshal(rec)
			return value, never, err
		})
		switch {
		case errors.Is(err, storage.ErrReadOnly):
			return k.asStored(old)
		case !errors.Is(err, errNoSpare):
			return rec, err
		}
		if k.spare, err = makeKey(k.policy.Algorithm); err != nil {
			return keyRecord{}, err
		}
	}
}

// asStored returns the record as it is, for a node that cannot write what is due. Keys that are there go on signing and
// verifying; without any, the error is that nothing can be written.
func (k *Keys) asStored(old []byte) (keyRecord, error) {
	rec, err := readKeyRecord(old)
	if err != nil {
		return keyRecord{}, err
	}
	if len(rec.Seal) == 0 || k.policy.File == nil && len(keyLine(rec.Keys, k.policy.Algorithm)) == 0 {
		return keyRecord{}, storage.ErrReadOnly
	}
	return rec, nil
}

// adopt makes the keys of the record the ones in memory, and logs what is new.
func (k *Keys) adopt(old *keyState, rec keyRecord) error {
	var keys []*jwt.Key
	for _, scheduled := range rec.Keys {
		if jwt.CheckAlgorithm(scheduled.Algorithm) != nil {
			continue // a later version's
		}
		key := old.key(scheduled.ID)
		if key == nil {
			var err error
			if key, err = jwt.ParseKey(scheduled.JWK, scheduled.ID, scheduled.Algorithm); err != nil {
				return fmt.Errorf("signing key %q in the store: %w", scheduled.ID, err)
			}
		}
		keys = append(keys, key)
		if k.spare != nil && k.spare.ID == scheduled.ID {
			k.spare = nil
			k.logger.Info("signing key made", zap.String("kid", scheduled.ID),
				zap.String("alg", scheduled.Algorithm), zap.Time("signs_from", scheduled.Signs))
			k.changed(KeyMade, scheduled.ID, scheduled.Signs)
		}
	}
	state := newKeyState(keys, keyLine(rec.Keys, k.policy.Algorithm), rec.Seal)
	for _, key := range old.all() {
		if state.key(key.ID) == nil {
			k.logger.Info("signing key retired", zap.String("kid", key.ID))
			k.changed(KeyRetired, key.ID, time.Time{})
		}
	}
	now := k.now()
	if signer := state.signer(now); signer.ID != k.inUse {
		k.inUse = signer.ID
		k.logger.Info("signing key in use", zap.String("kid", signer.ID), zap.String("alg", signer.Algorithm))
		for _, scheduled := range rec.Keys {
			if scheduled.ID == signer.ID {
				k.changed(KeyInUse, signer.ID, scheduled.Signs)
			}
		}
	}
	k.state.Store(state)
	k.refresh.Store(now.Add(newsDelay).Unix())
	return nil
}
