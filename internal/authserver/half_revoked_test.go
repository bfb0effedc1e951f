package authserver

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// noCutoffs is a store that fails between the two writes of a revocation.
type noCutoffs struct{ storage.Store }

func (s noCutoffs) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	if key.Kind == storage.KindCutoff {
		return errors.New("the store is away")
	}
	return s.Store.Put(ctx, key, value, expires)
}

// RFC 7009 §2.2.1: a client that was told to come back later comes back, and then what it gave back is void.
func TestRevocationAfterAFailure(t *testing.T) {
	for _, kind := range []string{"access_token", "refresh_token"} {
		for _, opaque := range []bool{false, true} {
			s := newTestServer(t, func(c *Config) { c.Wire.AccessToken.Opaque = opaque })
			tokens := s.tokens(t)
			config := s.config
			config.Store = noCutoffs{s.store}
			s.restart(t, config)
			if err := s.revokePresented(t.Context(), s.config.Clients["webapp"], tokens[kind].(string)); err == nil {
				t.Fatal("the failure is not told")
			}
			config.Store = s.store
			another := *s // on which the token was seen before
			another.restart(t, config)
			another.state(t, tokens["access_token"], nil)
			s.restart(t, config)
			s.giveBack(t, tokens[kind])
			if err := another.cutoffs.poll(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := another.AccessToken(t.Context(), tokens["access_token"].(string)); !errors.Is(err, ErrTokenRevoked) {
				t.Errorf("%s, opaque %t: %v, want %v", kind, opaque, err, ErrTokenRevoked)
			}
		}
	}
}
