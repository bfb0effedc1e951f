package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// errUnsure says that the connection failed, and that what somebody else wrote since hides whether the record was
// written.
var errUnsure = errors.New("the connection failed, and it is not known whether the record was written")

// Update lets change decide on what this process saw last, if it remembers, and writes what comes out if Redis says that
// the record is still that. What change refuses or keeps is believed only when Redis has said so too: others may
// have changed the record since.
func (s *store) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	if err := begin(ctx, key); err != nil {
		return err
	}
	keys := s.keys(key)
	old, remembered := record(""), false
	if cached(key.Kind) {
		old, remembered = s.cache.get(keys[0])
	}
	if !remembered {
		var err error
		if old, err = s.load(ctx, key, keys); err != nil {
			return err
		}
	}
	for losses := 0; ; losses++ {
		if losses > patientLosses && !wait(ctx, lossPause) {
			return fmt.Errorf("redis: writing %s: %w", keys[0], ctx.Err())
		}
		value, expires, verdict := change(old.value())
		if verdict != nil && !remembered {
			return refusal(verdict)
		}
		if verdict != nil {
			now, err := s.load(ctx, key, keys)
			if err != nil {
				return err
			}
			if now.stamp() == old.stamp() {
				return refusal(verdict)
			}
			s.remember(keys[0], key.Kind, now)
			old, remembered = now, false
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
		old, remembered = now, false
	}
}

const (
	// patientLosses is how often in a row an Update tries again at once when others were faster.
	patientLosses = 3
	lossPause     = 5 * time.Millisecond
)

func refusal(verdict error) error {
	if errors.Is(verdict, storage.ErrKeep) {
		return nil
	}
	return verdict
}

// swap writes next, or deletes if it is "", if old is what is there, and else returns what is.
func (s *store) swap(
	ctx context.Context, key storage.Key, keys []string, old, next record,
) (now record, done bool, err error) {
	var answer any
	var written record
	unsure := false
	err = s.attempt(ctx, func(ctx context.Context, sent bool) (err error) {
		var life int64
		unsure = sent
		written, life = alive(next)
		answer, err = s.run(ctx, write, keys, old.stamp(), string(written), strconv.FormatInt(life, 10), key.ID)
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
	if err == nil && !done && unsure {
		if done = now.stamp() == written.stamp(); !done {
			err = errUnsure
		}
	}
	if err != nil {
		s.remember(keys[0], key.Kind, "")
		return "", false, fmt.Errorf("redis: writing %s: %w", keys[0], foreign(err))
	}
	s.remember(keys[0], key.Kind, now)
	return now, done, nil
}
