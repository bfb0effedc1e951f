package authserver

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// asks returns a request of webapp's about a token.
func (s *testServer) asks(path string, form url.Values, edits ...func(*http.Request)) *http.Request {
	r := postRequest(path, form.Encode())
	r.SetBasicAuth("webapp", url.QueryEscape(webSecret))
	for _, edit := range edits {
		edit(r)
	}
	return r
}

// introspection returns the answer to a client about a token.
func (s *testServer) introspection(t *testing.T, client string, token any) map[string]any {
	t.Helper()
	r := s.asks("/oauth/introspect", url.Values{"token": {token.(string)}})
	r.SetBasicAuth(client, url.QueryEscape(webSecret))
	a := s.do(t, r)
	a.check(t, http.StatusOK, "")
	if a.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("the answer can be cached: %v", a.Header())
	}
	return a.json(t)
}

// RFC 7662 §2.2: a token that has expired is not active, whatever the leeway of a guard.
func TestIntrospectionHasNoLeeway(t *testing.T) {
	for name, edit := range map[string]func(*Config){"JWT": func(*Config) {}, "opaque": opaque("acc_", 0)} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, edit)
			token := s.tokens(t)["access_token"]
			s.clock.Advance(10*time.Minute - time.Second)
			if answer := s.introspection(t, "webapp", token); answer["active"] != true {
				t.Errorf("before it expires: %v", answer)
			}
			s.clock.Advance(time.Second)
			inactive(t, s.introspection(t, "webapp", token))
		})
	}
}

// inactive checks that the answer has only active: false (RFC 7662 §2.2).
func inactive(t *testing.T, answer map[string]any) {
	t.Helper()
	if len(answer) != 1 || answer["active"] != false {
		t.Errorf("the answer is %v, want that it is not active and nothing else", answer)
	}
}

func TestRFC7662Active(t *testing.T) {
	for name, edit := range map[string]func(*Config){"JWT": func(*Config) {}, "opaque": opaque("acc_", 0)} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, edit)
			answer := s.introspection(t, "webapp", s.tokens(t)["access_token"])
			for member, want := range map[string]any{
				"active": true, "token_type": "Bearer", "scope": "profile orders", "client_id": "webapp", "sub": "alice",
				"username": "alice", "iss": testIssuer, "iat": float64(epoch.Unix()), "exp": float64(epoch.Add(10 * time.Minute).Unix()),
			} {
				if answer[member] != want {
					t.Errorf("%s is %v, want %v", member, answer[member], want)
				}
			}
			if aud, _ := answer["aud"].([]any); len(aud) != 2 || aud[0] != testIssuer {
				t.Errorf("aud is %v", answer["aud"])
			}
			if id, _ := answer["jti"].(string); id == "" {
				t.Errorf("jti is %v", answer["jti"])
			}
		})
	}
}

func TestRFC7662RefreshToken(t *testing.T) {
	s := newTestServer(t)
	first := s.tokens(t)["refresh_token"]
	answer := s.introspection(t, "webapp", first)
	if answer["active"] != true || answer["client_id"] != "webapp" || answer["sub"] != "alice" || answer["scope"] != "profile orders" || answer["exp"] == nil {
		t.Errorf("the refresh token: %v", answer)
	}
	s.token(t, refreshes(first.(string))).check(t, 200, "")
	inactive(t, s.introspection(t, "webapp", first))
	inactive(t, s.introspection(t, "billing", first))
}

func TestRFC7662WhoMaySee(t *testing.T) {
	for _, tt := range []struct {
		name        string
		introspects []string
		active      bool
	}{
		{"§4 a client with no right to", nil, false},
		{"the resource server of the audience", []string{testAPI}, true},
		{"one of another resource", []string{"https://other.example"}, false},
		{"one that may see all", []string{"*"}, true},
		{"RFC 8707 a prefix is no resource", []string{testAPI[:len(testAPI)-1]}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t, client("billing", func(c *storage.Client) { c.Introspects = tt.introspects }))
			answer := s.introspection(t, "billing", s.tokens(t)["access_token"])
			hidden := s.logs.FilterMessage("the token is active, but not for this client to see").FilterField(zap.String("client_id", "billing")).Len()
			if (hidden == 1) == tt.active {
				t.Errorf("the log says %d times that the token is not to be seen", hidden)
			}
			if !tt.active {
				inactive(t, answer)
			} else if answer["active"] != true || answer["sub"] != "alice" {
				t.Errorf("the answer is %v", answer)
			}
		})
	}
}

func TestRFC7662Inactive(t *testing.T) {
	s := newTestServer(t, client("webapp", func(c *storage.Client) { c.Introspects = []string{"*"} }))
	other := newTestServer(t, func(c *Config) { c.URL = "https://other.example" })
	expired := s.tokens(t)["access_token"]
	s.clock.Advance(time.Hour)
	for name, token := range map[string]any{
		"expired": expired, "garbage": "garbage", "a JWT of nobody": foreignToken(t), "of another issuer": other.tokens(t)["access_token"],
		"a code": s.code(t, asks("webapp")), "a refresh token that is made up": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	} {
		t.Run(name, func(t *testing.T) { inactive(t, s.introspection(t, "webapp", token)) })
	}
}

func TestRFC7662Caller(t *testing.T) {
	s := newTestServer(t)
	token := url.Values{"token": {s.tokens(t)["access_token"].(string)}}
	for _, tt := range []struct {
		name   string
		form   url.Values
		edit   func(*http.Request)
		status int
		code   string
	}{
		{"§2.1 nobody", token, header("Authorization", ""), 401, "invalid_client"},
		{"§2.1 a wrong secret", token, basic("webapp:wrong"), 401, "invalid_client"},
		{"§2.1 a public client", merge(token, "client_id", "spa"), header("Authorization", ""), 401, "invalid_client"},
		{"§2.1 a token as credentials", token, header("Authorization", "Bearer "+token.Get("token")), 401, "invalid_client"},
		{"§2.1 no token", url.Values{}, header("X", "x"), 400, "invalid_request"},
		{"RFC 6749 §3.1 two tokens", url.Values{"token": {"a", "b"}}, header("X", "x"), 400, "invalid_request"},
		{"§2.1 client_secret_post", merge(token, "client_id", "webapp", "client_secret", webSecret), header("Authorization", ""), 200, ""},
		{"§2.1 token_type_hint has nothing to add", merge(token, "token_type_hint", "refresh_token"), header("X", "x"), 200, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.do(t, s.asks("/oauth/introspect", tt.form, tt.edit))
			a.check(t, tt.status, tt.code)
			if tt.status == 401 && a.Header().Get("WWW-Authenticate") == "" {
				t.Error("401 without a challenge")
			}
		})
	}
	r := s.asks("/oauth/introspect?token="+token.Get("token"), token)
	r.Method = http.MethodGet
	if a := s.do(t, r); a.Code != http.StatusMethodNotAllowed || a.Header().Get("Allow") != "POST" {
		t.Errorf("GET gives %d %v", a.Code, a.Header())
	}
}

func TestIntrospectionWithoutAStore(t *testing.T) {
	s := newTestServer(t)
	r := s.asks("/oauth/introspect", url.Values{"token": {s.tokens(t)["access_token"].(string)}})
	s.restart(t, s.config)
	s.store.Err = errors.New("the store is away")
	s.do(t, r).check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
}

func TestRFC9701JWTAnswer(t *testing.T) {
	s := newTestServer(t)
	token := s.tokens(t)["access_token"].(string)
	for name, about := range map[string]string{"active": token, "inactive": "garbage"} {
		t.Run(name, func(t *testing.T) {
			a := s.do(t, s.asks("/oauth/introspect", url.Values{"token": {about}}, header("Accept", "application/token-introspection+jwt")))
			if a.Code != 200 || a.Header().Get("Content-Type") != "application/token-introspection+jwt" {
				t.Fatalf("%d %v %s", a.Code, a.Header(), a.Body)
			}
			split, err := jwt.Split(a.Body.String())
			if err != nil {
				t.Fatal(err)
			}
			h, err := split.ParseHeader()
			if err != nil || h.Type != introspectionType {
				t.Errorf("typ is %q, %v", h.Type, err)
			}
			jwks, err := s.keys.JWKS(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			keys, err := jwt.ParsePublicKeys(jwks)
			if err != nil || len(keys) != 1 || keys[0].ID != h.KeyID {
				t.Fatalf("the keys are %v, %v; want one, %q", keys, err, h.KeyID)
			}
			payload, err := split.Verify(keys[0])
			if err != nil {
				t.Fatal(err)
			}
			var claims struct {
				Issuer   string         `json:"iss"`
				Audience string         `json:"aud"`
				Answer   map[string]any `json:"token_introspection"`
			}
			if err := json.Unmarshal(payload, &claims); err != nil || claims.Issuer != testIssuer || claims.Audience != "webapp" {
				t.Errorf("%v in %s", err, payload)
			}
			if active := claims.Answer["active"]; active != (name == "active") {
				t.Errorf("the answer is %v", claims.Answer)
			}
			s.state(t, a.Body.String(), jwt.ErrType)
		})
	}
}

// Nobody but this server could verify a JWT that a shared secret signs, and the metadata names no algorithm.
func TestNoJWTAnswerBySharedSecret(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.Keys.Algorithm = "HS256" })
	token := s.tokens(t)["access_token"].(string)
	a := s.do(t, s.asks("/oauth/introspect", url.Values{"token": {token}}, header("Accept", "application/token-introspection+jwt")))
	if a.Code != 200 || a.Header().Get("Content-Type") != "application/json" || a.json(t)["active"] != true {
		t.Errorf("%d %v %s", a.Code, a.Header(), a.Body)
	}
}

// FAPI 2.0 Security Profile §5.4.1: nothing for such a client is signed by RS256.
func TestNoJWTAnswerByRS256UnderFAPI(t *testing.T) {
	for want, profile := range map[string]bool{"application/json": true, "application/token-introspection+jwt": false} {
		s := newTestServer(t, func(c *Config) { c.Keys.Algorithm = "RS256" }, client("webapp", func(c *storage.Client) { c.FAPI = profile }))
		a := s.do(t, s.asks("/oauth/introspect", url.Values{"token": {"garbage"}}, header("Accept", "application/token-introspection+jwt")))
		if a.Code != http.StatusOK || a.Header().Get("Content-Type") != want {
			t.Errorf("with the profile %v: %d %v %s", profile, a.Code, a.Header(), a.Body)
		}
	}
}

func TestLogSaysWhyATokenIsNotForAClientToSee(t *testing.T) {
	s := newTestServer(t)
	inactive(t, s.introspection(t, "billing", s.tokens(t)["access_token"]))
	lines := s.logs.FilterMessage("the token is active, but not for this client to see").All()
	if len(lines) != 1 || lines[0].ContextMap()["setting"] != "client billing: introspects" {
		t.Errorf("%v", lines)
	}
}
