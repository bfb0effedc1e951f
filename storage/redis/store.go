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

// store is the records of one issuer. They are at
//
//	<prefix>:<issuer>:<kind>:<id>     of kinds of which there are many, spread over the nodes of a Cluster
//	<prefix>:{<issuer>:<kind>}:<id>   of all others, on one node for each kind, with
//	<prefix>:{<issuer>:<kind>}        as their index
type store struct {
	*link
	prefix, issuer string
	log            *zap.Logger
	silence        time.Duration
}

func newStore(l *link, prefix, issuer string, log *zap.Logger) *store {
	return &store{link: l, prefix: prefix, issuer: storage.EscapeID(issuer), log: log, silence: longSilence}
}

// many tells kinds of which there can be millions, and which are not listed but to move them elsewhere. To keep an index
// of them would cost memory and put all of them on one node.
func many(kind storage.Kind) bool {
	return kind == storage.KindFamily || kind == storage.KindAccess || kind == storage.KindConsent
}

// cached tells kinds that are updated by their value again and again.
func cached(kind storage.Kind) bool { return kind == storage.KindFamily }

func (s *store) index(kind storage.Kind) string {
	return s.prefix + ":{" + s.issuer + ":" + string(kind) + "}"
}

// keys returns the keys that a script about a record takes: its own and, if it has one, that of its index.
func (s *store) keys(key storage.Key) []string {
	if many(key.Kind) {
		return []string{s.prefix + ":" + s.issuer + ":" + string(key.Kind) + ":" + key.ID}
	}
	index := s.index(key.Kind)
	return []string{index + ":" + key.ID, index}
}

// begin refuses what no method may be called with.
func begin(ctx context.Context, key storage.Key) error { return errors.Join(key.Check(), ctx.Err()) }

// Get implements storage.Store.
func (s *store) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	if err := begin(ctx, key); err != nil {
		return nil, err
	}
	r, err := s.load(ctx, key, s.keys(key))
	if err == nil && r == "" {
		err = storage.ErrNotFound
	}
	return r.value(), err
}

// Put implements storage.Store.
func (s *store) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	if err := begin(ctx, key); err != nil {
		return err
	}
	return s.set(ctx, key, newRecord(value, expires))
}

// Delete implements storage.Store.
func (s *store) Delete(ctx context.Context, key storage.Key) error {
	if err := begin(ctx, key); err != nil {
		return err
	}
	return s.set(ctx, key, "")
}

// load returns what is at a key, "" if nothing is.
func (s *store) load(ctx context.Context, key storage.Key, keys []string) (r record, err error) {
	var stored string
	err = s.attempt(ctx, func(ctx context.Context, _ bool) (err error) {
		if many(key.Kind) {
			stored, err = s.client.Get(ctx, keys[0]).Result()
			return err
		}
		answer, err := s.run(ctx, read, keys, key.ID)
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
		return "", fmt.Errorf("redis: reading %s: %w", keys[0], foreign(err))
	}
	return r, nil
}

// foreign returns the error of what is at a key and no string, as no record of ours is, as that of a damaged one.
func foreign(err error) error {
	if goredis.HasErrorPrefix(err, "WRONGTYPE") {
		return storage.ErrDamaged
	}
	return err
}

// set writes a record, or deletes what is there if it is "".
func (s *store) set(ctx context.Context, key storage.Key, r record) error {
	keys := s.keys(key)
	err := s.attempt(ctx, func(ctx context.Context, _ bool) error {
		r, life := alive(r)
		switch {
		case !many(key.Kind):
			_, err := s.run(ctx, write, keys, "*", string(r), strconv.FormatInt(life, 10), key.ID)
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

// remember keeps what is known to be at a key; "" is nothing, or not known.
func (s *store) remember(name string, kind storage.Kind, r record) {
	switch {
	case !cached(kind):
	case r == "":
		s.cache.drop(name)
	default:
		s.cache.put(name, r)
	}
}

// alive returns the record and how many milliseconds it lives, 0 for ever; of one that is late, nothing is left. It is a
// time from now, so that the clocks of this machine and of Redis need not agree.
func alive(r record) (record, int64) {
	if r == "" {
		return "", 0
	}
	expires := r.expires()
	if expires.IsZero() {
		return r, 0
	}
	life := time.Until(expires)
	if life <= 0 {
		return "", 0
	}
	return r, int64((life + time.Millisecond - 1) / time.Millisecond)
}

var _ storage.Store = (*store)(nil)
