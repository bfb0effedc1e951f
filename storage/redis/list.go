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

// scanCount is about how many keys Redis looks at in one step of a scan. It answers nobody else meanwhile.
const scanCount = 1000

// List implements storage.Store. It asks the index of the kind. Kinds that have none are found by looking at every key in
// Redis, which takes a while and holds up nobody.
func (s *store) List(ctx context.Context, kind storage.Kind) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := begin(ctx, storage.Key{Kind: kind, ID: "any"}); err != nil {
			yield("", err)
			return
		}
		if many(kind) {
			s.scan(ctx, kind, yield)
			return
		}
		ids, err := s.indexed(ctx, s.index(kind))
		if err != nil {
			yield("", fmt.Errorf("redis: listing %s: %w", s.index(kind), foreign(err)))
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

// indexed returns the IDs in an index. They are asked for by a command of their own, since a script takes ten times as
// long to hand them on; the script before it is so short that it is sent whole.
func (s *store) indexed(ctx context.Context, index string) (ids []string, err error) {
	err = s.attempt(ctx, func(ctx context.Context, _ bool) error {
		pipe := s.client.Pipeline()
		pipe.Eval(ctx, trim.source, []string{index})
		listed := pipe.ZRange(ctx, index, 0, -1)
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, goredis.Nil) {
			return err
		}
		ids = listed.Val()
		return nil
	})
	return ids, err
}

// scan yields the IDs of a kind that has no index. Redis may come across a key twice.
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

// walk calls visit with the keys that match a pattern, some at a time and some perhaps twice, as long as there are more
// and visit wants them.
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

// masters returns the nodes that have the keys.
func (l *link) masters(ctx context.Context) (masters []goredis.Cmdable, err error) {
	cluster, ok := l.client.(*goredis.ClusterClient)
	if !ok {
		return []goredis.Cmdable{l.client}, nil
	}
	var mu sync.Mutex
	err = l.attempt(ctx, func(ctx context.Context, _ bool) error {
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
