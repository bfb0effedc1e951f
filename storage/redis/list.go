package redis

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"strings"
	"sync"

	goredis "github.com/redis/go-redis/v9"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// scanCount is about how many keys Redis looks at in one step of a scan, during which it serves nobody else.
const scanCount = 1000

// List implements storage.Store. It reads the index of the kind. Kinds without an index are found by a scan of all keys in Redis,
// which takes a while but delays nobody.
func (s *store) List(ctx context.Context, kind storage.Kind) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := check(ctx, storage.Key{Kind: kind, ID: "any"}); err != nil {
			yield("", err)
			return
		}
		if !hasIndex(kind) {
			s.scan(ctx, kind, yield)
			return
		}
		ids, err := s.readIndex(ctx, s.index(kind))
		if err != nil {
			yield("", fmt.Errorf("redis: listing %s: %w", s.index(kind), damagedIfForeign(err)))
			return
		}
		for _, id := range ids {
			if err := ctx.Err(); err != nil {
				yield("", err)
				return
			}
			if !yield(id, nil) {
				return
			}
		}
	}
}

// readIndex returns the IDs in an index. A command of its own reads them, because a script takes ten times as long to return them.
// The script before it is so short that it is sent in full.
func (s *store) readIndex(ctx context.Context, index string) (ids []string, err error) {
	err = s.attempt(ctx, func(ctx context.Context, _ bool) error {
		pipe := s.client.Pipeline()
		pipe.Eval(ctx, trimScript.source, []string{index})
		listed := pipe.ZRange(ctx, index, 0, -1)
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, goredis.Nil) {
			return err
		}
		ids = listed.Val()
		return nil
	})
	return ids, err
}

// scan yields the IDs of a kind without an index, each once: Redis may return a key twice.
func (s *store) scan(ctx context.Context, kind storage.Kind, yield func(string, error) bool) {
	prefix := s.keys(storage.Key{Kind: kind})[0]
	seed, seen := maphash.MakeSeed(), make(map[uint64]struct{})
	err := s.walk(ctx, prefix+"*", func(names []string) (more bool, err error) {
		for _, name := range names {
			id := strings.TrimPrefix(name, prefix)
			sum := maphash.String(seed, id)
			if _, again := seen[sum]; again || (storage.Key{Kind: kind, ID: id}).Check() != nil {
				continue
			}
			seen[sum] = struct{}{}
			if !yield(id, nil) {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		yield("", fmt.Errorf("redis: listing %s: %w", prefix, err))
	}
}

// walk calls visit with the keys that match a pattern, some at a time and some perhaps twice, until there are no more or visit wants
// no more.
func (s *store) walk(ctx context.Context, pattern string, visit func(names []string) (more bool, err error)) error {
	masters, err := s.masters(ctx)
	if err != nil {
		return err
	}
	for _, node := range masters {
		for cursor, first := uint64(0), true; first || cursor != 0; first = false {
			var names []string
			err := s.attempt(ctx, func(ctx context.Context, _ bool) (err error) {
				var next uint64
				if names, next, err = node.Scan(ctx, cursor, pattern, scanCount).Result(); err == nil {
					cursor = next
				}
				return err
			})
			if err := errors.Join(ctx.Err(), err); err != nil {
				return err
			}
			if more, err := visit(names); err != nil || !more {
				return err
			}
		}
	}
	return nil
}

// masters returns the nodes that hold the keys.
func (c *connection) masters(ctx context.Context) (masters []goredis.Cmdable, err error) {
	cluster, ok := c.client.(*goredis.ClusterClient)
	if !ok {
		return []goredis.Cmdable{c.client}, nil
	}
	var mu sync.Mutex
	err = c.attempt(ctx, func(ctx context.Context, _ bool) error {
		masters = nil
		return cluster.ForEachMaster(ctx, func(_ context.Context, node *goredis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			masters = append(masters, node)
			return nil
		})
	})
	return masters, err
}

// Export implements storage.Exporter. It scans all keys in Redis, which takes a while but delays nobody.
func (s *store) Export(ctx context.Context) iter.Seq2[storage.Record, error] {
	return func(yield func(storage.Record, error) bool) {
		err := s.walk(ctx, s.prefix+":*"+s.issuer+":*", func(names []string) (more bool, err error) {
			var keys []storage.Key
			for _, name := range names {
				if key, ok := s.parse(name); ok {
					keys = append(keys, key)
				}
			}
			values, err := s.values(ctx, keys)
			if err != nil {
				return false, err
			}
			for i, value := range values {
				record, err := exported(keys[i], value)
				switch {
				case errors.Is(err, goredis.Nil): // expired or deleted meanwhile
					continue
				case err != nil && !errors.Is(err, storage.ErrDamaged):
					return false, err
				case !yield(record, err):
					return false, nil
				}
			}
			return true, nil
		})
		if err != nil {
			yield(storage.Record{}, fmt.Errorf("redis: reading all of %s: %w", s.issuer, err))
		}
	}
}

// parse returns which record of this issuer belongs to a key of Redis, and false if none does.
func (s *store) parse(name string) (storage.Key, bool) {
	parts := strings.Split(strings.TrimPrefix(name, s.prefix+":"), ":")
	if len(parts) != 3 {
		return storage.Key{}, false
	}
	key := storage.Key{Kind: storage.Kind(strings.TrimSuffix(parts[1], "}")), ID: parts[2]}
	return key, key.Check() == nil && s.keys(key)[0] == name
}

// values reads several keys in one round trip.
func (s *store) values(ctx context.Context, keys []storage.Key) (values []*goredis.StringCmd, err error) {
	if len(keys) == 0 {
		return nil, nil
	}
	err = s.attempt(ctx, func(ctx context.Context, _ bool) error {
		values = make([]*goredis.StringCmd, len(keys))
		pipe := s.client.Pipeline()
		for i, key := range keys {
			values[i] = pipe.Get(ctx, s.keys(key)[0])
		}
		_, err := pipe.Exec(ctx)
		if goredis.HasErrorPrefix(err, "WRONGTYPE") {
			return nil // one of them is damaged
		}
		return err
	})
	if errors.Is(err, goredis.Nil) {
		err = nil // one of them is gone
	}
	return values, err
}

// exported returns a record, of a damaged one only its key.
func exported(key storage.Key, value *goredis.StringCmd) (storage.Record, error) {
	stored, err := value.Result()
	var r record
	if err == nil {
		r, err = readRecord(stored)
	}
	switch {
	case errors.Is(err, goredis.Nil):
		return storage.Record{}, err
	case err != nil:
		return storage.Record{Key: key}, fmt.Errorf("redis: reading %s/%s: %w", key.Kind, key.ID, damagedIfForeign(err))
	}
	return storage.Record{Key: key, Value: r.value(), Expires: r.expires()}, nil
}

var _ storage.Exporter = (*store)(nil)
