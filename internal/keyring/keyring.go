// Package keyring keeps the keys that sign an issuer's tokens. It makes them, publishes them, rotates them and retires
// them. Nodes that share a store share the keys, in one record. Two nodes never make two keys for the same time: updateRecord plans the
// keys inside of [storage.Store.Update], and again if another node was first.
//
// A node learns of the keys of other nodes from [Ring.Maintain], which runs every minute and after each change that an owner
// makes. [Ring.Verify] also reads the record when a token names an unknown key.
//
// Start reading at [Ring], and at the drawing in schedule.go, which shows the life of a key. The keys that encrypt records at rest are
// others, storage.EncryptionKeys.
package keyring

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Policy says which keys sign the tokens of an issuer, and for how long.
type Policy struct {
	// Algorithm is the alg of the tokens, one of [jwt.Algorithms]; "" is ES256. The secret of HS256, HS384 and HS512 is
	// never published, so that only this server can verify the tokens. With a File and no Algorithm, the first private
	// key in the file decides.
	Algorithm string

	// Further are the other algorithms that the ring has keys for, see [Ring.LoadFor]. An algorithm that is not among them gets its first
	// key when it is first used.
	Further []string

	// Kept are algorithms that clients can ask for. If there is a key for one of them, the ring goes on with it, although nobody has used it
	// since this node started.
	Kept []string

	// Rotate is how long a key signs before the next one does; 0 is forever.
	Rotate time.Duration

	// Publish is how long a key is in the JWKS before it signs: as long as a verifier may cache a JWKS. It must be
	// shorter than Rotate.
	Publish time.Duration

	// Lifetime is the longest lifetime of a token that is signed here.
	Lifetime time.Duration

	// Type is the typ of the tokens, if it is another than at+jwt.
	Type string

	// File is a JWKS of the owner's (RFC 7517 §5). No key is then made or rotated: the first private key for Algorithm
	// signs, all keys verify, and the public halves of the asymmetric ones are published. Keys of use "enc" are skipped.
	File []byte
}

// Config configures a Ring.
type Config struct {
	Policy
	Store storage.Store // of one issuer only

	// Timeout is how long a caller waits for another one that is reading or writing the record.
	Timeout time.Duration

	// Changed is called when a key is made, starts to sign or is retired; may be nil. signs is when the key starts to
	// sign, zero for Retired.
	Changed func(event, kid string, signs time.Time)

	Logger *zap.Logger
	Now    func() time.Time
}

// The events of Config.Changed.
const (
	Made    = "key_made"
	InUse   = "key_in_use" // a key starts to sign, or is found signing at startup
	Retired = "key_retired"
)

// Ring has the signing keys of an issuer. Safe for concurrent use.
type Ring struct {
	config Config
	now    func() time.Time

	further   atomic.Pointer[[]string] // the further algorithms that are used
	current   atomic.Pointer[snapshot] // nil before the first update
	refreshAt atomic.Int64             // Unix time from which current must be refreshed before use
	unknown   *rate.Limiter            // of reads of the store for a kid that perhaps no node has made

	updating *semaphore.Weighted      // held by the one update that runs; guards the fields below
	spares   map[string]*scheduledKey // keys that were made and are not used yet, by their algorithm
	adopted  *record                  // the record that current is of; nil before the first update
	inUse    map[string]string        // the kids that were last logged as those that sign, by their algorithm
}

// New returns the keys of the issuer that owns the store. It checks the policy and reads its File, but does not touch the
// store. An error names what is wrong in the user's words and contains no key.
func New(config Config) (*Ring, error) {
	if config.Changed == nil {
		config.Changed = func(string, string, time.Time) {}
	}
	r := &Ring{
		config: config,
		// The record has whole seconds, and a monotonic clock does not count the time a machine is suspended.
		now:      func() time.Time { return config.Now().UTC().Truncate(time.Second) },
		unknown:  rate.NewLimiter(1, 10),
		updating: semaphore.NewWeighted(1),
		spares:   make(map[string]*scheduledKey),
		inUse:    make(map[string]string),
	}
	r.further.Store(&config.Further)
	if config.File != nil {
		keys, signer, err := jwt.ParsePrivateKeys(config.File, config.Algorithm)
		if err != nil {
			return nil, fmt.Errorf("signing keys: %w", err)
		}
		r.config.Algorithm = signer.Algorithm
		lines := map[string][]*scheduledKey{signer.Algorithm: {{ID: signer.ID, Algorithm: signer.Algorithm}}}
		for _, alg := range config.Further {
			key, err := fileKey(keys, alg)
			if err != nil {
				return nil, err
			}
			lines[alg] = []*scheduledKey{{ID: key.ID, Algorithm: alg}}
		}
		r.current.Store(newSnapshot(keys, lines, nil))
		r.refreshAt.Store(math.MaxInt64)
		return r, nil
	}
	if r.config.Algorithm == "" {
		r.config.Algorithm = "ES256"
	}
	for _, alg := range r.algorithms() {
		if err := jwt.CheckAlgorithm(alg); err != nil {
			return nil, fmt.Errorf("signing keys: %w", err)
		}
	}
	switch {
	case config.Lifetime <= 0:
		return nil, fmt.Errorf("signing keys: the lifetime of tokens is %s, expected more than 0", config.Lifetime)
	case config.Rotate < 0 || config.Publish < 0:
		return nil, errors.New("signing keys: a negative duration")
	case config.Rotate > 0 && config.Publish >= config.Rotate:
		return nil, fmt.Errorf("signing keys: published %s before they sign, expected less than the %s between rotations", config.Publish, config.Rotate)
	}
	return r, nil
}

// policy returns the policy with all algorithms that are used.
func (r *Ring) policy() Policy {
	p := r.config.Policy
	p.Further = *r.further.Load()
	return p
}

// algorithms are the algorithms that the ring has keys for.
func (r *Ring) algorithms() []string {
	p := r.policy()
	return p.algorithms()
}

func (p *Policy) algorithms() []string {
	all := []string{p.Algorithm}
	for _, alg := range p.Further {
		if !slices.Contains(all, alg) {
			all = append(all, alg)
		}
	}
	return all
}

// fileKey returns the first key of the owner's file that signs with an algorithm.
func fileKey(keys []*jwt.Key, alg string) (*jwt.Key, error) {
	for _, key := range keys {
		if key.Algorithm == alg && key.CanSign() {
			return key, nil
		}
	}
	return nil, fmt.Errorf("signing keys: the file has no private key for %s", alg)
}

// Maintain makes, rotates and retires keys according to the policy, and picks up changes by other nodes. Every node calls
// it at startup and once a minute. After an error, the keys in memory continue to sign.
func (r *Ring) Maintain(ctx context.Context) error {
	return r.refresh(ctx, r.current.Load())
}

// Load returns the keys in memory. The first call makes the first key.
func (r *Ring) Load(ctx context.Context) (Signer, error) {
	keys, err := r.load(ctx)
	return r.signer(keys), err
}

// LoadFor is Load with a key for an algorithm, see [Signer.SignWith]. The first call for an algorithm makes its first key, unless the keys are
// in a file.
func (r *Ring) LoadFor(ctx context.Context, alg string) (Signer, error) {
	keys, err := r.loadFor(ctx, alg)
	return r.signer(keys), err
}

// signer returns a Signer with these keys.
func (r *Ring) signer(keys *snapshot) Signer {
	return Signer{keys, r.config.Algorithm, r.config.Type, r.now()}
}

// loadFor returns the keys in memory with a key for the algorithm.
func (r *Ring) loadFor(ctx context.Context, alg string) (*snapshot, error) {
	keys, err := r.load(ctx)
	if err != nil || keys.signingKey(alg, r.now()) != nil {
		return keys, err
	}
	if r.config.File != nil || !jwt.Asymmetric(alg) {
		return nil, fmt.Errorf("no signing key for %s", alg)
	}
	r.use(alg)
	if err := r.refresh(ctx, keys); err != nil {
		return nil, fmt.Errorf("making a signing key for %s: %w", alg, err)
	}
	if keys = r.current.Load(); keys.signingKey(alg, r.now()) == nil { // another caller updated them before it knew the algorithm
		if err := r.refresh(ctx, keys); err != nil {
			return nil, err
		}
		keys = r.current.Load()
	}
	if keys.signingKey(alg, r.now()) == nil {
		return nil, fmt.Errorf("no signing key for %s, and none can be made: %w", alg, storage.ErrReadOnly)
	}
	return keys, nil
}

// use adds an algorithm to those that the ring has keys for.
func (r *Ring) use(alg string) {
	for {
		further := r.further.Load()
		all := append(slices.Clone(*further), alg)
		if slices.Contains(*further, alg) || r.further.CompareAndSwap(further, &all) {
			return
		}
	}
}

// Verify returns the payload of a token that one of these keys signed. It checks type and signature only. If the token is
// wrong, the error is a [jwt.InvalidToken]; with any other error the store failed, and the token may be valid.
func (r *Ring) Verify(ctx context.Context, token string) ([]byte, error) {
	t, err := jwt.Split(token)
	if err != nil {
		return nil, err
	}
	keys, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	key, err := keys.find(t, r.config.Type)
	if errors.Is(err, jwt.ErrKey) && r.config.File == nil && r.unknown.AllowN(r.now(), 1) {
		// Another node may have made a key that signs at once.
		if err := r.refreshForAll(ctx, keys); err != nil {
			return nil, err
		}
		key, err = r.current.Load().find(t, r.config.Type)
	}
	if err != nil {
		return nil, err
	}
	return t.Verify(key)
}

// VerifyAs is Verify for a JWT of another type than an access token.
func (r *Ring) VerifyAs(ctx context.Context, typ, token string) ([]byte, error) {
	t, err := jwt.Split(token)
	if err != nil {
		return nil, err
	}
	keys, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	key, err := keys.findAs(t, typ)
	if err != nil {
		return nil, err
	}
	return t.Verify(key)
}

// Has reports whether the key that a token's header names is still on the ring. It does not check the signature.
func (r *Ring) Has(token string) bool {
	keys := r.current.Load()
	if keys == nil {
		return false
	}
	header, _, _ := strings.Cut(token, ".")
	_, err := keys.find(jwt.Token{Header: header}, r.config.Type)
	return err == nil
}

// JWKS returns the public keys of all tokens that are valid now or will be signed soon, as a JWK set (RFC 7517 §5). It may
// be cached for Policy.Publish.
func (r *Ring) JWKS(ctx context.Context) ([]byte, error) {
	keys, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Clone(keys.jwks), nil
}

// Published reports whether the JWKS has keys: not if all keys are shared secrets.
func (r *Ring) Published() bool {
	if r.config.File != nil {
		return slices.ContainsFunc(r.current.Load().keys, func(key *jwt.Key) bool { return key.Public != nil })
	}
	return slices.ContainsFunc(r.algorithms(), jwt.Asymmetric)
}

// Algorithm returns the algorithm of the key that signs.
func (r *Ring) Algorithm() string { return r.config.Algorithm }

// Secret returns a secret of this issuer for MACs and encryption. It is the same on all nodes, and is renewed when a key is
// retired by hand or, with keys in a file, when the file changes. Derive a key from it for each purpose.
func (r *Ring) Secret(ctx context.Context) ([secretLength]byte, error) {
	keys, err := r.load(ctx)
	if err != nil {
		return [secretLength]byte{}, err
	}
	if keys.secret == nil { // the keys are from a file
		if err := r.refresh(ctx, keys); err != nil {
			return [secretLength]byte{}, err
		}
		keys = r.current.Load()
	}
	return [secretLength]byte(keys.secret), nil
}

const (
	refreshInterval = time.Minute
	refreshTimeout  = 2 * time.Second
)

// load returns the keys in memory, after a first update if there are none. If Maintain has not run for long, as after the
// machine was suspended, one caller refreshes the keys, for all of them. If the store fails then, the keys in memory stay.
func (r *Ring) load(ctx context.Context) (*snapshot, error) {
	keys := r.current.Load()
	if keys == nil {
		if err := r.refresh(ctx, nil); err != nil {
			return nil, fmt.Errorf("loading the signing keys: %w", err)
		}
		return r.current.Load(), nil
	}
	now, due := r.now(), r.refreshAt.Load()
	if now.Unix() < due || !r.refreshAt.CompareAndSwap(due, now.Add(refreshInterval).Unix()) {
		return keys, nil
	}
	if err := r.refreshForAll(ctx, keys); err != nil {
		r.config.Logger.Warn("signing keys not refreshed", zap.Error(err))
	}
	return r.current.Load(), nil
}

// refreshForAll is refresh for a caller that takes the turn of others: it goes on if the request of this caller ends, since none of them
// would read the store then.
func (r *Ring) refreshForAll(ctx context.Context, seen *snapshot) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(r.config.Timeout, refreshTimeout))
	defer cancel()
	return r.refresh(ctx, seen)
}
