package authserver

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// For each refusal, the log has the error ID of the answer, what was sent, what was expected, and which setting decides.
func TestLogExplainsRefusals(t *testing.T) {
	slash := webRedirect + "/"
	inBody := header("Authorization", "")
	authorize := func(params url.Values) func(*testing.T, *testServer) answer {
		return func(t *testing.T, s *testServer) answer { t.Helper(); return s.get(t, params) }
	}
	token := func(form url.Values, edits ...func(*http.Request)) func(*testing.T, *testServer) answer {
		return func(t *testing.T, s *testServer) answer { t.Helper(); return s.token(t, form, edits...) }
	}
	at := func(path, body string) func(*testing.T, *testServer) answer {
		return func(t *testing.T, s *testServer) answer { t.Helper(); return s.do(t, postRequest(path, body)) }
	}
	for _, tt := range []struct {
		name                            string
		send                            func(*testing.T, *testServer) answer
		client, sent, expected, setting string
	}{
		{
			"redirect_uri with a slash more", authorize(asks("webapp", "redirect_uri", slash)),
			"webapp", slash, webRedirect, "client webapp: redirect_uris",
		},
		{
			"redirect_uri missing", authorize(asks("native", "redirect_uri", "")),
			"native", "", "com.example.app:/callback", "client native: redirect_uris",
		},
		{"redirect_uri of the exchange is another", func(t *testing.T, s *testServer) answer {
			t.Helper()
			return s.token(t, redeems(s.code(t, asks("webapp")), "redirect_uri", slash))
		}, "webapp", slash, webRedirect, "redirect_uri_rules"},
		{
			"unknown client at the authorize endpoint", authorize(asks("webapp", "client_id", "nobody")),
			"nobody", "nobody", "the ID of a client", "client",
		},
		{
			"scope that the client may not have", authorize(asks("webapp", "scope", "profile admin")),
			"webapp", "admin", "profile orders", "client webapp: scopes",
		},
		{
			"scope at the token endpoint", token(asBilling("scope", "orders magic"), inBody),
			"billing", "magic", "profile orders", "client billing: scopes",
		},
		{
			"resource that the client may not have", authorize(asks("webapp", "resource", "https://other.example")),
			"webapp", "https://other.example", testAPI, "client webapp: audience",
		},
		{
			"resource at the token endpoint", token(asBilling("resource", "https://other.example"), inBody),
			"billing", "https://other.example", testAPI, "client billing: audience",
		},
		{"response_type", authorize(asks("webapp", "response_type", "id_token")), "webapp", "id_token", "code", ""},
		{
			"PKCE of a public client", authorize(asks("spa", "code_challenge", "", "code_challenge_method", "")),
			"spa", "", "PKCE", "client spa: secret",
		},
		{"code_challenge_method", authorize(asks("spa", "code_challenge_method", "plain")), "spa", "plain", "S256", ""},
		{"a repeated parameter", authorize(withValues(asks("webapp"), "scope", "profile", "orders")), "webapp", "scope", "once", ""},

		{"unknown client", token(asBilling("client_id", "nobody"), inBody), "nobody", "nobody", "the ID of a client", "client"},
		{
			"wrong secret", token(asBilling("client_secret", "wrong"), inBody),
			"billing", "client_secret_post: a wrong secret", "the secret", "client billing: secret",
		},
		{
			"wrong secret in Basic", token(redeems("x"), basic("webapp:wrong")),
			"webapp", "client_secret_basic: a wrong secret", "the secret", "client webapp: secret",
		},
		{"secret with a line break", token(redeems("x"), basic("webapp:wrong\n")), "webapp", "line break", "the secret", "client webapp: secret"},
		{"no secret", token(asBilling("client_secret", ""), inBody), "billing", "no secret", "the secret", "client billing: secret"},
		{
			"secret of a public client", token(redeems("x", "client_id", "spa", "client_secret", "wrong"), inBody),
			"spa", "a secret", "public", "client spa: secret",
		},
		{"ID and secret swapped", token(redeems("x"), basic("wrong:billing")), "", "in the place of the secret", "first the client ID", "client billing"},
		{"Basic that is no base64", token(redeems("x"), header("Authorization", "Basic §")), "", "Authorization: Basic", "base64", ""},
		{"Bearer", token(redeems("x"), header("Authorization", "Bearer abc")), "", "Authorization: Bearer", "Authorization: Basic", ""},
		{"two ways", token(asBilling(), basic("billing:x")), "billing", "Authorization: Basic, client_secret_post", "one of them", ""},
		{"no client", token(url.Values{"grant_type": {"refresh_token"}}, inBody), "", "", "client_id", ""},

		{"unknown grant_type", token(asBilling("grant_type", "refresh token"), inBody), "billing", "refresh token", "client_credentials", "grant_alias"},
		{
			"grant_type that the client may not use", token(asBilling("grant_type", "refresh_token"), inBody),
			"billing", "refresh_token", "client_credentials", "client billing: grant_types",
		},
		{"media type of the body", token(asBilling(), header("Content-Type", "text/plain")), "", "text/plain", "application/x-www-form-urlencoded", "request_body"},
		{"method", func(t *testing.T, s *testServer) answer {
			t.Helper()
			return s.do(t, postRequest("/oauth/jwks", ""))
		}, "", "POST", "GET", ""},
		{"a public client that introspects", at("/oauth/introspect", "client_id=spa&token=x"), "spa", "no secret", "a client with a secret", "client spa"},
		{"no token to revoke", at("/oauth/revoke", "client_id=spa"), "spa", "", "token", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t)
			a := tt.send(t, s)
			id := a.location().Get("error_id")
			switch {
			case a.page != nil:
				id = a.page.ID
			case id == "":
				id, _ = a.json(t)["error_id"].(string)
			}
			lines := s.logs.FilterField(zap.String("error_id", id)).All()
			if len(lines) != 1 {
				t.Fatalf("%d lines have the error ID %q", len(lines), id)
			}
			fields := lines[0].ContextMap()
			for name, want := range map[string]string{
				"client_id": tt.client, "sent": tt.sent, "expected": tt.expected, "setting": tt.setting,
			} {
				got, _ := fields[name].(string)
				if (got == "") != (want == "") || !strings.Contains(got, want) {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

// The log says why a code or a refresh token was refused, and whose it was, but the answer to the client does not.
func TestLogExplainsBadCodesAndRefreshTokens(t *testing.T) {
	const badCode = "authorization code is invalid, expired or was used before"
	const badToken = "refresh token is invalid, expired or was revoked"
	code := func(t *testing.T, s *testServer) string { t.Helper(); return s.code(t, asks("webapp")) }
	refreshToken := func(t *testing.T, s *testServer) string { t.Helper(); return s.tokens(t)["refresh_token"].(string) }
	bySPA := header("Authorization", "")
	for _, tt := range []struct {
		name   string
		send   func(*testing.T, *testServer) answer
		answer string
		owned  bool // the log says whose it was
		want   map[string]string
	}{
		{"a code that was never issued", func(t *testing.T, s *testServer) answer {
			t.Helper()
			return s.token(t, redeems("nonsense"))
		}, badCode, false, map[string]string{"cause": "never issued here, or damaged on its way: 8 characters", "client_id": "webapp"}},
		{"a JWT for a code", func(t *testing.T, s *testServer) answer {
			t.Helper()
			return s.token(t, redeems(s.tokens(t)["access_token"].(string)))
		}, badCode, false, map[string]string{"cause": "it is a JWT"}},
		{"a refresh token for a code", func(t *testing.T, s *testServer) answer {
			t.Helper()
			return s.token(t, redeems(refreshToken(t, s)))
		}, badCode, false, map[string]string{"cause": "it is a refresh token"}},
		{"an expired code", func(t *testing.T, s *testServer) answer {
			t.Helper()
			c := code(t, s)
			s.clock.Advance(time.Minute)
			return s.token(t, redeems(c))
		}, badCode, false, map[string]string{"cause": "expired, or issued by another issuer", "family": ""}},
		{"a code that has just expired", func(t *testing.T, s *testServer) answer {
			t.Helper()
			c := code(t, s)
			s.store.Now = func() time.Time { return epoch } // the clock of the store is behind
			s.clock.Advance(time.Minute)
			return s.token(t, redeems(c))
		}, badCode, true, map[string]string{"cause": "expired", "sent": "expired at 20", "setting": "code: lifetime"}},
		{"a used code", func(t *testing.T, s *testServer) answer {
			t.Helper()
			c := code(t, s)
			s.token(t, redeems(c))
			s.clock.Advance(30 * time.Second)
			return s.token(t, redeems(c))
		}, badCode, true, map[string]string{"cause": "authorization code of family", "sent": "used at 20", "expected": "one request"}},
		{"a repeated code", func(t *testing.T, s *testServer) answer {
			t.Helper()
			c := code(t, s)
			s.token(t, redeems(c))
			return s.token(t, redeems(c))
		}, "was used a moment ago", true, map[string]string{"cause": "already used, by the same client", "sent": "used at 20"}},
		{"a revoked code", func(t *testing.T, s *testServer) answer {
			t.Helper()
			c := code(t, s)
			if err := s.revoker.Revoke(t.Context(), "alice", "", "test", ""); err != nil {
				t.Fatal(err)
			}
			return s.token(t, redeems(c))
		}, badCode, true, map[string]string{"cause": "revoked"}},
		{"a code of another client", func(t *testing.T, s *testServer) answer {
			t.Helper()
			return s.token(t, redeems(code(t, s), "client_id", "spa"), bySPA)
		}, badCode, true, map[string]string{
			"cause": "issued to another client", "sent": "client spa", "expected": "client webapp", "client_id": "spa",
		}},
		{"another redirect_uri", func(t *testing.T, s *testServer) answer {
			t.Helper()
			return s.token(t, redeems(code(t, s), "redirect_uri", "https://other.example"))
		}, "redirect_uri is not the one", true, map[string]string{"sent": "https://other.example", "expected": webRedirect}},
		{"another verifier", func(t *testing.T, s *testServer) answer {
			t.Helper()
			return s.token(t, redeems(code(t, s), "code_verifier", strings.Repeat("x", 43)))
		}, "does not match", true, map[string]string{"sent": "a wrong code_verifier", "expected": "that of the code_challenge"}},
		{"no verifier", func(t *testing.T, s *testServer) answer {
			t.Helper()
			return s.token(t, redeems(code(t, s), "code_verifier", ""))
		}, "code_verifier is missing", true, map[string]string{"sent": "no code_verifier"}},

		{"a refresh token that was never issued", func(t *testing.T, s *testServer) answer {
			t.Helper()
			return s.token(t, refreshes("nonsense"))
		}, badToken, false, map[string]string{"cause": "never issued here", "client_id": "webapp"}},
		{"a code for a refresh token", func(t *testing.T, s *testServer) answer {
			t.Helper()
			return s.token(t, refreshes(code(t, s)))
		}, badToken, false, map[string]string{"cause": "it is an authorization code"}},
		{"an expired refresh token", func(t *testing.T, s *testServer) answer {
			t.Helper()
			token := refreshToken(t, s)
			s.clock.Advance(40 * 24 * time.Hour)
			return s.token(t, refreshes(token))
		}, badToken, false, map[string]string{"cause": "expired"}},
		{"an old refresh token", func(t *testing.T, s *testServer) answer {
			t.Helper()
			token := refreshToken(t, s)
			s.token(t, refreshes(token))
			s.clock.Advance(time.Minute)
			return s.token(t, refreshes(token))
		}, badToken, true, map[string]string{
			"cause": "refresh token of family", "sent": "an old refresh token", "expected": "the newest", "setting": "client webapp: refresh_token retry",
		}},
		{"a revoked refresh token", func(t *testing.T, s *testServer) answer {
			t.Helper()
			token := refreshToken(t, s)
			s.do(t, postRequest("/oauth/revoke", url.Values{"token": {token}, "client_id": {"webapp"}, "client_secret": {webSecret}}.Encode()))
			return s.token(t, refreshes(token))
		}, badToken, true, map[string]string{"cause": "was revoked at 20"}},
		{"a refresh token of another client", func(t *testing.T, s *testServer) answer {
			t.Helper()
			return s.token(t, refreshes(refreshToken(t, s), "client_id", "spa"), bySPA)
		}, badToken, true, map[string]string{"cause": "issued to another client", "expected": "client webapp", "client_id": "spa"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t)
			a := tt.send(t, s)
			a.check(t, http.StatusBadRequest, "invalid_grant")
			body := a.json(t)
			if !strings.Contains(body["error_description"].(string), tt.answer) || len(body) != 3 {
				t.Errorf("the answer is %v", body)
			}
			lines := s.logs.FilterField(zap.Any("error_id", body["error_id"])).FilterField(zap.String("endpoint", "token")).All()
			if len(lines) != 1 {
				t.Fatalf("%d lines have the error ID", len(lines))
			}
			fields := lines[0].ContextMap()
			if tt.owned {
				tt.want["sub"], tt.want["family"] = "alice", "." // which the ID of every record has
			}
			for name, want := range tt.want {
				if got := fmt.Sprint(fields[name]); !strings.Contains(got, want) {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

// The length of a log line is limited, whatever the request contains.
func TestLogOfARefusalIsShort(t *testing.T) {
	long := strings.Repeat("x", maxBody/2)
	s := newTestServer(t, client("webapp", func(c *storage.Client) { c.SecretHashes = nil }))
	for _, name := range []string{"client_id", "redirect_uri", "scope", "resource", "response_type", "response_mode", "prompt"} {
		s.get(t, asks("webapp", name, long))
	}
	for _, name := range []string{"client_id", "grant_type", "scope", "resource"} {
		s.token(t, asBilling(name, long), header("Authorization", ""))
	}
	for _, entry := range s.logs.All() {
		for name, value := range entry.ContextMap() {
			if text, ok := value.(string); ok && len(text) > 1000 {
				t.Errorf("%s has %d bytes in %q", name, len(text), entry.Message)
			}
		}
	}
}
