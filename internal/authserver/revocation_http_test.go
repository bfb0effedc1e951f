package authserver

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// RFC 9700 §4.14.2: after reuse, the tokens of both the thief and the client are void, JWTs included.
func TestReplayVoidsAccessTokens(t *testing.T) {
	for name, edit := range map[string]func(*Config){"JWT": func(*Config) {}, "opaque": opaque("acc_", 0)} {
		t.Run("refresh token "+name, func(t *testing.T) {
			s := newTestServer(t, edit)
			first := s.tokens(t)
			second := s.token(t, refreshes(first["refresh_token"].(string))).json(t)
			s.token(t, refreshes(second["refresh_token"].(string))).check(t, http.StatusOK, "")
			s.state(t, second["access_token"], nil)
			s.token(t, refreshes(first["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
			s.state(t, first["access_token"], jwt.ErrRevoked)
			s.state(t, second["access_token"], jwt.ErrRevoked)
		})
		t.Run("code "+name, func(t *testing.T) { // RFC 6749 §4.1.2
			s := newTestServer(t, edit)
			code := s.code(t, asks("webapp"))
			token := s.token(t, redeems(code)).json(t)["access_token"]
			s.state(t, token, nil)
			s.clock.Advance(10 * time.Second)
			s.token(t, redeems(code)).check(t, http.StatusBadRequest, "invalid_grant")
			s.state(t, token, jwt.ErrRevoked)
		})
	}
}

func TestCutoffs(t *testing.T) {
	for _, tt := range []struct {
		name            string
		subject, client string
		void            bool // whether alice's token of webapp is void
	}{
		{"user", "alice", "", true},
		{"client", "", "webapp", true},
		{"user at the client", "alice", "webapp", true},
		{"another user", "bob", "", false},
		{"another client", "", "spa", false},
		{"the user at another client", "alice", "spa", false},
		{"another user at the client", "bob", "webapp", false},
		{"a user named like the client", "webapp", "", false},
	} {
		for name, edit := range map[string]func(*Config){"JWT": func(*Config) {}, "opaque": opaque("acc_", 0)} {
			t.Run(tt.name+" "+name, func(t *testing.T) {
				s := newTestServer(t, edit)
				before, code := s.tokens(t), s.code(t, asks("webapp"))
				s.state(t, before["access_token"], nil)
				if err := s.revoker.Revoke(t.Context(), tt.subject, tt.client, "test", ""); err != nil {
					t.Fatal(err)
				}
				want, status, refused := error(nil), http.StatusOK, ""
				if tt.void {
					want, status, refused = jwt.ErrRevoked, http.StatusBadRequest, "invalid_grant"
				}
				s.state(t, before["access_token"], want)
				s.token(t, refreshes(before["refresh_token"].(string))).check(t, status, refused)
				s.token(t, redeems(code)).check(t, status, refused)

				after := s.tokens(t)
				s.state(t, after["access_token"], nil)
				s.token(t, refreshes(after["refresh_token"].(string))).check(t, http.StatusOK, "")

				s.restart(t, s.config) // revoked tokens stay revoked
				s.state(t, before["access_token"], want)
				s.state(t, after["access_token"], nil)
			})
		}
	}
}

func TestRevokeOfNothing(t *testing.T) {
	if err := newTestServer(t).revoker.Revoke(t.Context(), "", "", "test", ""); err == nil {
		t.Error("all tokens of everybody could be revoked by mistake")
	}
}

// The payload-only API: after a revocation, the client needs the consent of the user again.
func TestRevokeForgetsConsent(t *testing.T) {
	for name, client := range map[string]string{"at the client": "webapp", "everywhere": ""} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t)
			s.tokens(t)
			if a := s.get(t, asks("webapp")); a.Code != http.StatusSeeOther {
				t.Fatalf("the user is asked twice: %d", a.Code)
			}
			if err := s.revoker.Revoke(t.Context(), "alice", client, "test", ""); err != nil {
				t.Fatal(err)
			}
			if a := s.get(t, asks("webapp")); a.Code != http.StatusOK {
				t.Errorf("the user is not asked again: %d %v", a.Code, a.Header())
			}
		})
	}
}

func TestCutoffOfAnotherNode(t *testing.T) {
	a := newTestServer(t)
	tokens := a.tokens(t)
	b := newTestServer(t, func(c *Config) { c.Store, c.Now = a.store, a.clock.Now })
	b.state(t, tokens["access_token"], nil)
	a.revokeToken(t, tokens["refresh_token"])
	a.state(t, tokens["access_token"], jwt.ErrRevoked)
	if err := b.cutoffs.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.state(t, tokens["access_token"], jwt.ErrRevoked)
}

// brokenList is a store that cannot list and has no journal.
type brokenList struct{ storage.Store }

func (brokenList) List(context.Context, storage.Kind) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield("", errors.New("the store is away")) }
}

func (s brokenList) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	if key.Kind == storage.KindJournal {
		return nil, storage.ErrNotFound
	}
	return s.Store.Get(ctx, key)
}

// A failed poll undoes no revocation.
func TestPollWithoutAStore(t *testing.T) {
	s := newTestServer(t)
	tokens := s.tokens(t)
	s.state(t, tokens["access_token"], nil)
	s.revokeToken(t, tokens["access_token"])
	s.cutoffs.Store = brokenList{s.store}
	if err := s.cutoffs.Poll(t.Context()); err == nil {
		t.Error("expected the error of the store")
	}
	s.state(t, tokens["access_token"], jwt.ErrRevoked)
}
