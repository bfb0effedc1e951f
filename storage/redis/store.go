package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// store keeps the records of one issuer at the keys
//
//	<prefix>:<issuer>:<kind>:<id>     of kinds with many records, spread over the nodes of a Cluster
//	<prefix>:{<issuer>:<kind>}:<id>   of all others, a kind on one node, with
//	<prefix>:{<issuer>:<kind>}        as the index of the kind
type store struct {
	*connection
	prefix, issuer string
	log            *zap.Logger
	maxSilence     time.Duration
}

func newStore(c *connection, prefix, issuer string, log *zap.Logger) *store {
	return &store{connection: c, prefix: prefix, issuer: storage.EscapeID(issuer), log: log, maxSilence: maxSilence}
}

// hasIndex is false for kinds that can have millions of records and are listed only to move them to another store. An index would
// cost memory and put all of them on one node.
func hasIndex(kind storage.Kind) bool {
	switch kind {
	case storage.KindFamily, storage.KindAccess, storage.KindConsent, storage.KindOnce, storage.KindDevice, storage.KindUserCode,
		storage.KindPushed, storage.KindSession:
		return false
	}
	return true
}

// isCached is true for kinds whose records are updated again and again.
func isCached(kind storage.Kind) bool { return kind == storage.KindFamily }

func (s *store) index(kind storage.Kind) string {
	return s.prefix + ":{" + s.issuer + ":" + string(kind) + "}"
}

// keys returns the keys for a script about a record: its own and, if it has one, that of its index.
func (s *store) keys(key storage.Key) []string {
	if !hasIndex(key.Kind) {
		return []string{s.prefix + ":" + s.issuer + ":" + string(key.Kind) + ":" + key.ID}
	}
	index := s.index(key.Kind)
	return []string{index + ":" + key.ID, index}
}

// check refuses an unsafe key and a context that has ended.
func check(ctx context.Context, key storage.Key) error { return errors.Join(key.Check(), ctx.Err()) }

// Get implements storage.Store.
func (s *store) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	record, err := s.Look(ctx, key)
	return record.Value, err
}

// Look implements storage.Exporter.
func (s *store) Look(ctx context.Context, key storage.Key) (storage.Record, error) {
	if err := check(ctx, key); err != nil {
		return storage.Record{}, err
	}
	r, err := s.load(ctx, key, s.keys(key))
	if err == nil && r == "" {
		err = storage.ErrNotFound
	}
	if err != nil {
		return storage.Record{}, err
	}
	return storage.Record{Key: key, Value: r.value(), Expires: r.expires()}, nil
}

// Put implements storage.Store.
func (s *store) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	return s.set(ctx, key, newRecord(value, expires))
}

// Delete implements storage.Store.
func (s *store) Delete(ctx context.Context, key storage.Key) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	return s.set(ctx, key, "")
}

// Update lets change decide on the cached record, if there is one, and writes the result if Redis confirms that the record is
// unchanged. If change refuses or keeps a cached record, Redis has to confirm that too, since others may have changed it.
func (s *store) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	keys := s.keys(key)
	old, cached := record(""), false
	if isCached(key.Kind) {
		old, cached = s.cache.get(keys[0])
	}
	if !cached {
		var err error
		if old, err = s.load(ctx, key, keys); err != nil {
			return err
		}
	}
	for losses := 0; ; losses++ {
		if losses > lossesAtOnce && !wait(ctx, lossPause) {
			return fmt.Errorf("redis: writing %s: %w", keys[0], ctx.Err())
		}
		value, expires, refusal := change(old.value())
		if refusal != nil && !cached {
			return unlessKept(refusal)
		}
		if refusal != nil {
			now, err := s.load(ctx, key, keys)
			if err != nil {
				return err
			}
			if now.stamp() == old.stamp() {
				return unlessKept(refusal)
			}
			s.remember(keys[0], key.Kind, now)
			old, cached = now, false
			continue
		}
		var next record
		if value != nil {
			next = newRecord(value, expires)
		}
		now, done, err := s.swap(ctx, key, keys, old, next)
		if err != nil || done {
			return err
		}
		old, cached = now, false
	}
}

const (
	// lossesAtOnce is how often in a row an Update retries without a pause when others were faster.
	lossesAtOnce = 3
	lossPause    = 5 * time.Millisecond
)

func unlessKept(refusal error) error {
	if errors.Is(refusal, storage.ErrKeep) {
		return nil
	}
	return refusal
}

// errUncertain says that the connection failed, and that a later write of another process hides whether ours was carried out.
var errUncertain = errors.New("the connection failed, and it is not known whether the record was written")

// swap replaces old by next, or deletes it if next is empty, if old is still stored. Otherwise it returns the stored record.
func (s *store) swap(
	ctx context.Context, key storage.Key, keys []string, old, next record,
) (now record, done bool, err error) {
	var answer any
	var written record
	maybeWritten := false
	err = s.attempt(ctx, func(ctx context.Context, uncertain bool) (err error) {
		var life int64
		maybeWritten = uncertain
		written, life = next.ttl()
		answer, err = s.run(ctx, writeScript, keys, old.stamp(), string(written), strconv.FormatInt(life, 10), key.ID)
		return err
	})
	stored, other := answer.(string)
	switch {
	case errors.Is(err, goredis.Nil):
		err = nil
	case err == nil && other:
		now, err = readRecord(stored)
	default:
		now, done = written, err == nil
	}
	if err == nil && !done && maybeWritten {
		if done = now.stamp() == written.stamp(); !done {
			err = errUncertain
		}
	}
	if err != nil {
		s.remember(keys[0], key.Kind, "")
		return "", false, fmt.Errorf("redis: writing %s: %w", keys[0], damagedIfForeign(err))
	}
	s.remember(keys[0], key.Kind, now)
	return now, done, nil
}

// load returns a stored record, "" if there is none.
func (s *store) load(ctx context.Context, key storage.Key, keys []string) (r record, err error) {
	var stored string
	err = s.attempt(ctx, func(ctx context.Context, _ bool) (err error) {
		if !hasIndex(key.Kind) {
			stored, err = s.client.Get(ctx, keys[0]).Result()
			return err
		}
		answer, err := s.run(ctx, readScript, keys, key.ID)
		stored, _ = answer.(string)
		return err
	})
	switch {
	case errors.Is(err, goredis.Nil):
		err = nil
	case err == nil:
		r, err = readRecord(stored)
	}
	if err != nil {
		return "", fmt.Errorf("redis: reading %s: %w", keys[0], damagedIfForeign(err))
	}
	return r, nil
}

// damagedIfForeign turns the error for a value that is no string into ErrDamaged. All our records are strings.
func damagedIfForeign(err error) error {
	if goredis.HasErrorPrefix(err, "WRONGTYPE") {
		return storage.ErrDamaged
	}
	return err
}

// set writes a record, or deletes the stored one if r is empty.
func (s *store) set(ctx context.Context, key storage.Key, r record) error {
	keys := s.keys(key)
	err := s.attempt(ctx, func(ctx context.Context, _ bool) error {
		r, life := r.ttl()
		switch {
		case hasIndex(key.Kind):
			_, err := s.run(ctx, writeScript, keys, "*", string(r), strconv.FormatInt(life, 10), key.ID)
			return err
		case r == "":
			return s.client.Unlink(ctx, keys[0]).Err()
		}
		return s.client.Set(ctx, keys[0], string(r), time.Duration(life)*time.Millisecond).Err()
	})
	if err != nil {
		s.remember(keys[0], key.Kind, "")
		return fmt.Errorf("redis: writing %s: %w", keys[0], err)
	}
	s.remember(keys[0], key.Kind, r)
	return nil
}

// remember caches what is stored at a key; "" for nothing or unknown.
func (s *store) remember(name string, kind storage.Kind, r record) {
	switch {
	case !isCached(kind):
	case r == "":
		s.cache.drop(name)
	default:
		s.cache.put(name, r)
	}
}

var _ storage.Store = (*store)(nil)
