package authserver

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

func everyClient(change func(*storage.Client)) func(*Config) {
	return func(c *Config) {
		for _, client := range c.Clients {
			change(client)
		}
	}
}

// A code can live longer than any access token. It is void with the user all its life.
func TestRevocationOutlivesCodes(t *testing.T) {
	s := newTestServer(t, everyClient(func(c *storage.Client) {
		if c.ID != "billing" {
			c.GrantTypes = []string{"authorization_code"}
		}
		c.CodeLifetime, c.AccessTokenLifetime = 10*time.Minute, time.Minute
	}), func(c *Config) { c.Keys.Lifetime = time.Minute })
	code := s.code(t, asks("webapp"))
	if err := s.revoker.Revoke(t.Context(), "alice", "", "test", ""); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(5 * time.Minute)
	s.restart(t, s.config)
	s.token(t, redeems(code)).check(t, http.StatusBadRequest, "invalid_grant")
}

// A cutoff is kept for the new, shorter lifetime. When it expires, families that were approved under a longer lifetime stay void.
func TestRevocationOutlivesTheLifetimeOfBefore(t *testing.T) {
	s := newTestServer(t)
	tokens := s.tokens(t)
	everyClient(func(c *storage.Client) { c.RefreshToken.Lifetime = time.Hour })(&s.config)
	s.restart(t, s.config)
	if err := s.revoker.Revoke(t.Context(), "alice", "", "test", ""); err != nil {
		t.Fatal(err)
	}
	s.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
	s.clock.Advance(3 * time.Hour)
	s.restart(t, s.config)
	s.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
}

// lifetimes returns an edit that sets how long tokens of all clients live.
func lifetimes(access, family time.Duration) func(*Config) {
	return func(c *Config) {
		everyClient(func(c *storage.Client) {
			c.AccessTokenLifetime, c.RefreshToken.Lifetime, c.RefreshToken.Idle = access, family, 0
		})(c)
		c.Keys.Lifetime = access
	}
}

// A revocation is kept for tokens that were issued under longer lifetimes than this node has now, and comes back under none: by a
// configuration of before, or by another node.
func TestRevocationOutlivesShorterLifetimes(t *testing.T) {
	const month = 30 * 24 * time.Hour
	for _, format := range []string{"jwt", "opaque"} {
		long := func(c *Config) { lifetimes(24*time.Hour, month)(c); c.AccessToken.Opaque = format == "opaque" }
		short := func(c *Config) { lifetimes(time.Minute, 5*time.Minute)(c); c.AccessToken.Opaque = format == "opaque" }
		for name, revoke := range map[string]func(t *testing.T, s *testServer, tokens map[string]any){
			"the user": func(t *testing.T, s *testServer, _ map[string]any) {
				t.Helper()
				s.revoke(t, "alice", "")
			},
			"the client": func(t *testing.T, s *testServer, _ map[string]any) {
				t.Helper()
				s.revoke(t, "", "webapp")
			},
			"the user's app": func(t *testing.T, s *testServer, _ map[string]any) {
				t.Helper()
				s.revoke(t, "alice", "webapp")
			},
			"the family by itself": func(t *testing.T, s *testServer, tokens map[string]any) {
				t.Helper()
				s.revokeToken(t, tokens["refresh_token"])
			},
		} {
			t.Run(format+" "+name+" by a later configuration", func(t *testing.T) {
				s := newTestServer(t, long)
				config := s.config
				tokens := s.tokens(t)
				config.Clients = testClients()
				short(&config)
				s.restart(t, config)
				revoke(t, s, tokens)
				config.Clients = testClients()
				long(&config)
				for range 20 { // the record would be gone in between
					s.clock.Advance(time.Hour)
					s.restart(t, config)
					s.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
					s.state(t, tokens["access_token"], jwt.ErrRevoked)
				}
			})
			t.Run(format+" "+name+" by another node", func(t *testing.T) {
				a := newTestServer(t, long)
				tokens := a.tokens(t)
				b := newTestServer(t, short, func(c *Config) { c.Store, c.Now = a.store, a.clock.Now })
				revoke(t, b, tokens)
				for range 20 {
					a.clock.Advance(time.Hour)
					if err := a.upkeep.poll(t.Context()); err != nil {
						t.Fatal(err)
					}
					a.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
					a.state(t, tokens["access_token"], jwt.ErrRevoked)
				}
			})
		}
	}
}

// The clocks of two nodes differ. What a person got before a revocation is void, wherever it began, and what the person gets
// afterwards is not, wherever that is.
func TestRevocationBetweenNodesWhoseClocksDiffer(t *testing.T) {
	for _, ahead := range []time.Duration{-10 * time.Second, 5 * time.Second, 10 * time.Second} {
		for _, edit := range []func(*Config){
			func(*Config) {}, func(c *Config) { c.AccessToken.Minimal = true }, opaque("acc_", 0),
		} {
			t.Run(ahead.String(), func(t *testing.T) {
				a := newTestServer(t, edit)
				b := newTestServer(t, edit, func(c *Config) {
					c.Store, c.Now = a.store, func() time.Time { return a.clock.Now().Add(ahead) }
				})
				for round := range 4 {
					revoker, other := a, b
					if round%2 == 1 {
						revoker, other = b, a
					}
					for _, began := range []*testServer{a, b} {
						tokens, code := began.tokens(t), began.code(t, asks("webapp"))
						a.clock.Advance(time.Second)
						a.state(t, tokens["access_token"], nil)
						b.state(t, tokens["access_token"], nil)
						revoker.revoke(t, "alice", "webapp")
						if err := other.upkeep.poll(t.Context()); err != nil {
							t.Fatal(err)
						}
						for _, node := range []*testServer{a, b} {
							node.state(t, tokens["access_token"], jwt.ErrRevoked)
							node.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
							node.token(t, redeems(code)).check(t, http.StatusBadRequest, "invalid_grant")
						}
					}
				}
			})
		}
	}
}

// A person who signs in again right after a revocation at another node, of which this node has not heard by itself, has tokens
// that are valid.
func TestSigningInAgainAfterARevocationAtAnotherNode(t *testing.T) {
	a := newTestServer(t)
	a.tokens(t)
	b := newTestServer(t, func(c *Config) { c.Store, c.Now = a.store, a.clock.Now })
	b.tokens(t)
	a.revoke(t, "alice", "")
	tokens := b.tokens(t)
	for _, node := range []*testServer{a, b} {
		if err := node.upkeep.poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		node.state(t, tokens["access_token"], nil)
	}
	b.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusOK, "")
}

// Whoever empties the store brings nothing back that was revoked.
func TestRevocationsOutliveTheStore(t *testing.T) {
	s := newTestServer(t)
	tokens := s.tokens(t)
	if err := s.upkeep.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.revoke(t, "alice", "webapp")
	for _, kind := range []storage.Kind{storage.KindCutoff, storage.KindJournal} {
		for id, err := range s.store.List(t.Context(), kind) {
			if err != nil {
				t.Fatal(err)
			}
			if err := s.store.Delete(t.Context(), storage.Key{Kind: kind, ID: id}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.upkeep.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.state(t, tokens["access_token"], jwt.ErrRevoked)
	other := s.node(t)
	other.state(t, tokens["access_token"], jwt.ErrRevoked)
	other.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
}
