package authserver

import (
	"errors"
	"net/http"
	"net/url"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// revokeToken revokes a token as a client, by default webapp, and checks that the answer is 200 (RFC 7009 §2.2).
func (s *testServer) revokeToken(t *testing.T, token any, edits ...func(*http.Request)) {
	t.Helper()
	a := s.do(t, s.asks("/oauth/revoke", url.Values{"token": {token.(string)}}, edits...))
	if a.Code != http.StatusOK || a.Body.Len() != 0 || a.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("revocation: %d %v %s", a.Code, a.Header(), a.Body)
	}
}

func TestRFC7009AccessToken(t *testing.T) {
	for name, edit := range map[string]func(*Config){"JWT": func(*Config) {}, "opaque": opaque("acc_", 0)} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, edit)
			tokens := s.tokens(t)
			s.state(t, tokens["access_token"], nil)
			s.revokeToken(t, tokens["access_token"])
			s.state(t, tokens["access_token"], jwt.ErrRevoked)
			inactive(t, s.introspection(t, "webapp", tokens["access_token"]))
			s.revokeToken(t, tokens["access_token"])

			a := s.token(t, refreshes(tokens["refresh_token"].(string)))
			a.check(t, http.StatusOK, "") // §2.1: that is left to the server
			s.state(t, a.json(t)["access_token"], nil)
		})
	}
}

func TestRFC7009RefreshToken(t *testing.T) {
	for name, edit := range map[string]func(*Config){"JWT": func(*Config) {}, "opaque": opaque("acc_", 0)} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, edit)
			first, others := s.tokens(t), s.tokens(t)
			second := s.token(t, refreshes(first["refresh_token"].(string))).json(t)
			s.revokeToken(t, second["refresh_token"])
			s.state(t, first["access_token"], jwt.ErrRevoked)
			s.state(t, second["access_token"], jwt.ErrRevoked)
			s.token(t, refreshes(second["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
			inactive(t, s.introspection(t, "webapp", second["refresh_token"]))
			s.state(t, others["access_token"], nil)
			s.token(t, refreshes(others["refresh_token"].(string))).check(t, http.StatusOK, "")
		})
	}
}

// §2.1: a refresh token that was used already still revokes its family.
func TestRFC7009UsedRefreshToken(t *testing.T) {
	s := newTestServer(t)
	first := s.tokens(t)
	second := s.token(t, refreshes(first["refresh_token"].(string))).json(t)
	s.revokeToken(t, first["refresh_token"])
	s.state(t, second["access_token"], jwt.ErrRevoked)
	s.token(t, refreshes(second["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
}

func TestRFC7009NothingHappens(t *testing.T) {
	s := newTestServer(t)
	tokens := s.tokens(t)
	another := basic("billing:" + url.QueryEscape(webSecret))
	s.revokeToken(t, tokens["access_token"], another) // §2.1
	s.revokeToken(t, tokens["refresh_token"], another)
	for _, unknown := range []string{"garbage", foreignToken(t), "a.b.c", "../../keys"} { // §2.2
		s.revokeToken(t, unknown)
	}
	s.revokeToken(t, s.code(t, asks("webapp"))) // no token
	s.state(t, tokens["access_token"], nil)
	s.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusOK, "")
}

func TestRFC7009Caller(t *testing.T) {
	s := newTestServer(t)
	spa := s.code(t, asks("spa"))
	a := s.token(t, redeems(spa, "client_id", "spa", "redirect_uri", "https://spa.example.com/callback"))
	public := a.json(t)
	for _, tt := range []struct {
		name   string
		form   url.Values
		edit   func(*http.Request)
		status int
		code   string
	}{
		{"§2.1 nobody", url.Values{"token": {"x"}}, header("Authorization", ""), 401, "invalid_client"},
		{"§2.1 a wrong secret", url.Values{"token": {"x"}}, basic("webapp:wrong"), 401, "invalid_client"},
		{"§2.1 no token", url.Values{}, header("X", "x"), 400, "invalid_request"},
		{"§2.1 two tokens", url.Values{"token": {"a", "b"}}, header("X", "x"), 400, "invalid_request"},
		{"§2.1 JSON", url.Values{"token": {"x"}}, header("Content-Type", "application/json"), 400, "invalid_request"},
		{"§2.1 a hint that is wrong", url.Values{"token": {"x"}, "token_type_hint": {"pizza"}}, header("X", "x"), 200, ""},
		{"§5 a public client names itself", url.Values{"token": {public["refresh_token"].(string)}, "client_id": {"spa"}}, header("Authorization", ""), 200, ""},
	} {
		t.Run(tt.name, func(t *testing.T) { s.do(t, s.asks("/oauth/revoke", tt.form, tt.edit)).check(t, tt.status, tt.code) })
	}
	s.state(t, public["access_token"], jwt.ErrRevoked)

	r := s.asks("/oauth/revoke", url.Values{})
	r.Method = http.MethodGet
	if a := s.do(t, r); a.Code != http.StatusMethodNotAllowed || a.Header().Get("Allow") != "POST" {
		t.Errorf("GET gives %d %v", a.Code, a.Header())
	}
}

// RFC 7009 §2.2.1: a client must not think that a token is dead which other nodes may accept. The node that was asked refuses it at
// once, and the others when the store can be written.
func TestRFC7009WithoutAStore(t *testing.T) {
	s := newTestServer(t)
	tokens := s.tokens(t)
	s.state(t, tokens["access_token"], nil)
	s.store.Err = errors.New("the store is away")
	for _, kind := range []string{"access_token", "refresh_token"} {
		a := s.do(t, s.asks("/oauth/revoke", url.Values{"token": {tokens[kind].(string)}}))
		a.check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
		if a.Header().Get("Retry-After") == "" {
			t.Error("503 without Retry-After")
		}
	}
	s.store.Err = nil
	s.state(t, tokens["access_token"], jwt.ErrRevoked)
	other := s.node(t)
	other.state(t, tokens["access_token"], nil)
	for _, node := range []*testServer{s, other} {
		if err := node.upkeep.poll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	other.state(t, tokens["access_token"], jwt.ErrRevoked)
}
