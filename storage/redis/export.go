package redis

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Export implements storage.Exporter. It looks at every key in Redis, a few at a time.
func (s *store) Export(ctx context.Context) iter.Seq2[storage.Record, error] {
	return func(yield func(storage.Record, error) bool) {
		fail := func(err error) { yield(storage.Record{}, fmt.Errorf("redis: reading all of %s: %w", s.issuer, err)) }
		masters, err := s.masters(ctx)
		if err != nil {
			fail(err)
			return
		}
		for _, master := range masters {
			for cursor, more := uint64(0), true; more; more = cursor != 0 {
				var names []string
				err := s.attempt(ctx, func(ctx context.Context, _ bool) (err error) {
					names, cursor, err = master.Scan(ctx, cursor, s.prefix+":*"+s.issuer+":*", scanCount).Result()
					return err
				})
				if err = errors.Join(ctx.Err(), err); err != nil {
					fail(err)
					return
				}
				if !s.exportThese(ctx, names, yield) {
					return
				}
			}
		}
	}
}

// exportThese yields the records at keys, and reports whether to go on.
func (s *store) exportThese(ctx context.Context, names []string, yield func(storage.Record, error) bool) bool {
	const atOnce = 100
	for some := range slices.Chunk(names, atOnce) {
		var keys []storage.Key
		for _, name := range some {
			if key, ok := s.keyOf(name); ok {
				keys = append(keys, key)
			}
		}
		records, errs, err := s.look(ctx, keys)
		if err != nil {
			yield(storage.Record{}, err)
			return false
		}
		for i, record := range records {
			if errors.Is(errs[i], storage.ErrNotFound) {
				continue
			}
			if !yield(record, errs[i]) {
				return false
			}
		}
	}
	return true
}

// keyOf returns the key of the record that a key of Redis is for, and false for what is none of ours.
func (s *store) keyOf(name string) (key storage.Key, ok bool) {
	var kind string
	if rest, many := strings.CutPrefix(name, s.prefix+":"+s.issuer+":"); many {
		kind, key.ID, ok = strings.Cut(rest, ":")
	} else if rest, few := strings.CutPrefix(name, s.prefix+":{"+s.issuer+":"); few {
		kind, key.ID, ok = strings.Cut(rest, "}:")
	}
	key.Kind = storage.Kind(kind)
	return key, ok && key.Check() == nil && s.keys(key)[0] == name
}

// Look implements storage.Exporter.
func (s *store) Look(ctx context.Context, key storage.Key) (storage.Record, error) {
	if err := begin(ctx, key); err != nil {
		return storage.Record{}, err
	}
	records, errs, err := s.look(ctx, []storage.Key{key})
	if err != nil {
		return storage.Record{}, err
	}
	return records[0], errs[0]
}

// look returns the records at keys, each with what is wrong with it, in one round trip.
func (s *store) look(ctx context.Context, keys []storage.Key) (records []storage.Record, errs []error, err error) {
	if len(keys) == 0 {
		return nil, nil, nil
	}
	var values []*goredis.StringCmd
	var lives []*goredis.DurationCmd
	err = s.attempt(ctx, func(ctx context.Context, _ bool) error {
		values, lives = make([]*goredis.StringCmd, 0, len(keys)), make([]*goredis.DurationCmd, 0, len(keys))
		pipe := s.client.Pipeline()
		for _, key := range keys {
			name := s.keys(key)[0]
			values = append(values, pipe.Get(ctx, name))
			lives = append(lives, pipe.PTTL(ctx, name))
		}
		_, err := pipe.Exec(ctx)
		if errors.Is(err, goredis.Nil) || goredis.HasErrorPrefix(err, "WRONGTYPE") { // of one of them
			return nil
		}
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("redis: reading %s: %w", s.keys(keys[0])[0], err)
	}
	now := time.Now()
	for i, key := range keys {
		record, err := looked(key, values[i], lives[i], now)
		records, errs = append(records, record), append(errs, err)
	}
	return records, errs, nil
}

// looked returns the record of two answers that came by now. What Redis knows is how long it lives: the clock here need not
// be that of Redis, and that of where the record goes is another one anyway.
func looked(key storage.Key, value *goredis.StringCmd, life *goredis.DurationCmd, now time.Time) (storage.Record, error) {
	record := storage.Record{Key: key}
	stored, err := value.Result()
	switch {
	case errors.Is(err, goredis.Nil) || life.Val() == -2: // it has gone meanwhile
		return record, storage.ErrNotFound
	case err != nil:
		return record, fmt.Errorf("redis: reading %s/%s: %w", key.Kind, key.ID, foreign(err))
	case life.Err() != nil:
		return record, fmt.Errorf("redis: reading %s/%s: %w", key.Kind, key.ID, life.Err())
	}
	r, err := readRecord(stored)
	if err != nil {
		return record, fmt.Errorf("redis: reading %s/%s: %w", key.Kind, key.ID, err)
	}
	record.Value = r.value()
	if life.Val() >= 0 {
		record.Expires = now.Add(life.Val() + time.Millisecond) // which Redis cuts off
	}
	return record, nil
}

var _ storage.Exporter = (*store)(nil)
