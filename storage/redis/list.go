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
		var ids []any
		err := s.attempt(ctx, func(ctx context.Context, _ bool) error {
			answer, err := s.run(ctx, list, []string{s.index(kind)})
			ids, _ = answer.([]any)
			return err
		})
		if err != nil {
			yield("", fmt.Errorf("redis: listing %s: %w", s.index(kind), foreign(err)))
			return
		}
		for _, id := range ids {
			if err := ctx.Err(); err != nil {
				yield("", err)
				return
			}
			if id, ok := id.(string); ok && !yield(id, nil) {
				return
			}
		}
	}
}

// scan yields the IDs of a kind that has no index. Redis may come across a key twice.
func (s *store) scan(ctx context.Context, kind storage.Kind, yield func(string, error) bool) {
	prefix := s.keys(storage.Key{Kind: kind})[0]
	masters, err := s.masters(ctx)
	if err != nil {
		yield("", fmt.Errorf("redis: listing %s: %w", prefix, err))
		return
	}
	seed, seen := maphash.MakeSeed(), make(map[uint64]struct{})
	for _, master := range masters {
		for cursor, more := uint64(0), true; more; more = cursor != 0 {
			var keys []string
			err := s.attempt(ctx, func(ctx context.Context, _ bool) (err error) {
				keys, cursor, err = master.Scan(ctx, cursor, prefix+"*", scanCount).Result()
				return err
			})
			if err = errors.Join(ctx.Err(), err); err != nil {
				yield("", fmt.Errorf("redis: listing %s: %w", prefix, err))
				return
			}
			for _, name := range keys {
				id := strings.TrimPrefix(name, prefix)
				sum := maphash.String(seed, id)
				if _, again := seen[sum]; again || (storage.Key{Kind: kind, ID: id}).Check() != nil {
					continue
				}
				seen[sum] = struct{}{}
				if !yield(id, nil) {
					return
				}
			}
		}
	}
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
