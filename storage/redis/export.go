package redis

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Export implements storage.Exporter. It looks at every key in Redis, which takes a while and holds up nobody.
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
				case errors.Is(err, goredis.Nil): // gone meanwhile
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

// parse returns which record of this issuer is at a key, and false if none is.
func (s *store) parse(name string) (storage.Key, bool) {
	parts := strings.Split(strings.TrimPrefix(name, s.prefix+":"), ":")
	if len(parts) != 3 {
		return storage.Key{}, false
	}
	key := storage.Key{Kind: storage.Kind(strings.TrimSuffix(parts[1], "}")), ID: parts[2]}
	return key, key.Check() == nil && s.keys(key)[0] == name
}

// values asks for what is at keys, all at once.
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
		err = nil // one of them is gone meanwhile
	}
	return values, err
}

// exported returns a record with the key alone if it is damaged.
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
		return storage.Record{Key: key}, fmt.Errorf("redis: reading %s/%s: %w", key.Kind, key.ID, foreign(err))
	}
	return storage.Record{Key: key, Value: r.value(), Expires: r.expires()}, nil
}

// Look implements storage.Exporter.
func (s *store) Look(ctx context.Context, key storage.Key) (storage.Record, error) {
	if err := begin(ctx, key); err != nil {
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

var _ storage.Exporter = (*store)(nil)
