package authserver

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// noCutoffs is a store that fails between the two writes of a revocation.
type noCutoffs struct{ storage.Store }

func (s noCutoffs) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	if key.Kind == storage.KindCutoff || key.Kind == storage.KindJournal {
		return errors.New("the store is away")
	}
	return s.Store.Update(ctx, key, change)
}

func (s noCutoffs) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	if key.Kind == storage.KindCutoff {
		return errors.New("the store is away")
	}
	return s.Store.Put(ctx, key, value, expires)
}

// RFC 7009 §2.2.1: the revocation of a client that got 503 works when the client repeats it.
func TestRevocationAfterAFailure(t *testing.T) {
	for _, kind := range []string{"access_token", "refresh_token"} {
		for _, opaque := range []bool{false, true} {
			s := newTestServer(t, func(c *Config) { c.AccessToken.Opaque = opaque })
			tokens := s.tokens(t)
			config := s.config
			config.Store = noCutoffs{s.store}
			s.restart(t, config)
			c := &call{ctx: t.Context(), client: s.config.Clients["webapp"]}
			if err := (&revokeEndpoint{s.core}).revokePresented(c, tokens[kind].(string)); err == nil {
				t.Fatal("expected the error of the store")
			}
			config.Store = s.store
			another := *s // on which the token was seen before
			another.restart(t, config)
			another.state(t, tokens["access_token"], nil)
			s.restart(t, config)
			s.revokeToken(t, tokens[kind])
			if err := another.cutoffs.Poll(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := another.AccessToken(t.Context(), tokens["access_token"].(string), jwt.Leeway); !errors.Is(err, jwt.ErrRevoked) {
				t.Errorf("%s, opaque %t: %v, want %v", kind, opaque, err, jwt.ErrRevoked)
			}
		}
	}
}

// RFC 6749 §4.1.2: a node dies while it revokes the tokens of a code that was used again. Another use of the code at the next node
// completes the revocation.
func TestReuseAfterANodeDied(t *testing.T) {
	for name, dying := range map[string]func(storage.Store) storage.Store{
		"before the access tokens": func(store storage.Store) storage.Store { return noCutoffs{store} },
		"before the family":        func(store storage.Store) storage.Store { return noTombstones{store} },
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t)
			code := s.code(t, asks("webapp"))
			tokens := s.token(t, redeems(code)).json(t)
			s.state(t, tokens["access_token"], nil)
			s.clock.Advance(10 * time.Second)
			config := s.config
			config.Store = dying(s.store)
			s.restart(t, config)
			s.token(t, redeems(code)).check(t, http.StatusBadRequest, "invalid_grant")

			config.Store = s.store
			s.restart(t, config)
			s.token(t, redeems(code)).check(t, http.StatusBadRequest, "invalid_grant")
			s.state(t, tokens["access_token"], jwt.ErrRevoked)
			s.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
		})
	}
}

// noTombstones is a store that fails to revoke a family.
type noTombstones struct{ storage.Store }

func (s noTombstones) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	return s.Store.Update(ctx, key, func(old []byte) ([]byte, time.Time, error) {
		value, expires, err := change(old)
		if err == nil && key.Kind == storage.KindFamily {
			if f, err := storage.DecodeFamily(value); err != nil || !f.Revoked.IsZero() {
				return nil, time.Time{}, errors.New("the store is away")
			}
		}
		return value, expires, err
	})
}
