package authserver

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

func asSPA(pairs ...string) func(*testing.T, *testServer, string) answer {
	return func(t *testing.T, s *testServer, code string) answer {
		t.Helper()
		return s.token(t, redeems(code, append([]string{"client_id", "spa", "redirect_uri", "https://spa.example.com/callback"}, pairs...)...))
	}
}

func asWebapp(pairs ...string) func(*testing.T, *testServer, string) answer {
	return func(t *testing.T, s *testServer, code string) answer {
		t.Helper()
		return s.token(t, redeems(code, pairs...))
	}
}

// Every refusal leaves the code as it is: the right request still works afterwards.
func TestCodeIsBoundToItsRequest(t *testing.T) {
	withoutPKCE := []string{"code_challenge", "", "code_challenge_method", ""}
	tests := []struct {
		name    string
		request url.Values
		wrong   func(*testing.T, *testServer, string) answer
		error   string
		right   func(*testing.T, *testServer, string) answer
	}{
		{"RFC 6749 §4.1.3 another client", asks("webapp"), asSPA(), "invalid_grant", asWebapp()},
		{"RFC 6749 §4.1.3 another client with the right redirect_uri", asks("webapp"), asSPA("redirect_uri", webRedirect), "invalid_grant", asWebapp()},
		{"RFC 6749 §4.1.3 another redirect_uri", asks("webapp"), asWebapp("redirect_uri", "https://app.example.com/other"), "invalid_grant", asWebapp()},
		{"RFC 6749 §4.1.3 no redirect_uri though the request had one", asks("webapp"), asWebapp("redirect_uri", ""), "invalid_request", asWebapp()},
		{"RFC 6749 §4.1.3 a wrong redirect_uri though the request had none", asks("webapp", "redirect_uri", ""), asWebapp("redirect_uri", "https://evil.example/"), "invalid_grant", asWebapp("redirect_uri", "")},
		{"RFC 7636 §4.6 wrong code_verifier", asks("webapp"), asWebapp("code_verifier", strings.Repeat("x", 43)), "invalid_grant", asWebapp()},
		{"RFC 7636 §4.6 no code_verifier", asks("webapp"), asWebapp("code_verifier", ""), "invalid_grant", asWebapp()},
		{"RFC 7636 §4.6 wrong code_verifier of a public client", asks("spa"), asSPA("code_verifier", strings.Repeat("x", 43)), "invalid_grant", asSPA()},
		{"RFC 7636 §4.6 no code_verifier of a public client", asks("spa"), asSPA("code_verifier", ""), "invalid_grant", asSPA()},
		{"RFC 7636 §4.6 the challenge as the verifier", asks("webapp"), asWebapp("code_verifier", s256(testVerifier)), "invalid_grant", asWebapp()},
		{"RFC 7636 §4.1 verifier of 42 characters", asks("webapp", "code_challenge", s256(testVerifier[:42])), asWebapp("code_verifier", testVerifier[:42]), "invalid_grant", nil},
		{"RFC 7636 §4.1 verifier of 129 characters", asks("webapp", "code_challenge", s256(strings.Repeat("v", 129))), asWebapp("code_verifier", strings.Repeat("v", 129)), "invalid_grant", nil},
		{"RFC 7636 §4.1 verifier with other characters", asks("webapp", "code_challenge", s256(strings.Repeat("ü", 43))), asWebapp("code_verifier", strings.Repeat("ü", 43)), "invalid_grant", nil},
		{"RFC 9700 §2.1.1 code_verifier though there was no challenge", asks("webapp", withoutPKCE...), asWebapp(), "invalid_grant", asWebapp("code_verifier", "")},
		{"RFC 8707 §2.2 resource that was not granted", asks("webapp", "resource", testAPI), asWebapp("resource", testIssuer), "invalid_target", asWebapp("resource", testAPI)},
		{"RFC 6749 §4.1.3 no code", asks("webapp"), asWebapp("code", ""), "invalid_request", asWebapp()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t)
			code := s.code(t, tt.request)
			tt.wrong(t, s, code).check(t, http.StatusBadRequest, tt.error)
			if tt.right != nil {
				tt.right(t, s, code).check(t, http.StatusOK, "")
			}
		})
	}
}

func TestCodesThatNeverWere(t *testing.T) {
	s := newTestServer(t)
	good := s.code(t, asks("webapp"))
	for name, code := range map[string]string{
		"nonsense": "x", "NUL": "\x00", "cut": good[:len(good)-1], "longer": good + "A", "with a space": good + " ",
		"other secret": flip(good), "other case": strings.ToUpper(good), "no selector": strings.Repeat("\x00", len(good)),
		"a path": strings.Repeat("../", len(good)/3), "10 kB": strings.Repeat("a", 10<<10),
	} {
		t.Run("RFC 6749 §5.2 "+name, func(t *testing.T) {
			s.token(t, redeems(code)).check(t, http.StatusBadRequest, "invalid_grant")
		})
	}
	s.token(t, redeems(good)).check(t, http.StatusOK, "")
}

func TestPKCES256(t *testing.T) {
	for _, verifier := range []string{
		"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", // RFC 7636 appendix B
		strings.Repeat("-._~", 11)[:43], strings.Repeat("Az09-._~", 16),
	} {
		t.Run("RFC 7636 §4.6 "+verifier, func(t *testing.T) {
			s := newTestServer(t)
			code := s.code(t, asks("spa", "code_challenge", s256(verifier)))
			asSPA("code_verifier", verifier)(t, s, code).check(t, http.StatusOK, "")
		})
	}
}

func TestCodeLifetime(t *testing.T) {
	for name, tt := range map[string]struct {
		after  time.Duration
		status int
		error  string
	}{
		"RFC 6749 §4.1.2 good until it expires": {59 * time.Second, 200, ""},
		"RFC 6749 §4.1.2 expired":               {time.Minute, 400, "invalid_grant"},
		"RFC 6749 §4.1.2 long expired":          {24 * time.Hour, 400, "invalid_grant"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t)
			code := s.code(t, asks("webapp"))
			s.clock.Advance(tt.after)
			s.token(t, redeems(code)).check(t, tt.status, tt.error)
		})
	}
}

func TestCodeReplay(t *testing.T) {
	t.Run("RFC 6749 §4.1.2 a code works once", func(t *testing.T) {
		s := newTestServer(t)
		code := s.code(t, asks("webapp"))
		s.token(t, redeems(code)).check(t, http.StatusOK, "")
		s.token(t, redeems(code)).check(t, http.StatusBadRequest, "invalid_grant")
	})
	t.Run("RFC 6749 §4.1.2 the second use revokes the tokens of the first", func(t *testing.T) {
		s := newTestServer(t)
		code := s.code(t, asks("webapp"))
		refresh := s.token(t, redeems(code)).json(t)["refresh_token"].(string)
		s.clock.Advance(10 * time.Second)
		s.token(t, redeems(code)).check(t, http.StatusBadRequest, "invalid_grant")
		s.token(t, refreshes(refresh)).check(t, http.StatusBadRequest, "invalid_grant")
		if s.logs.FilterLevelExact(zap.WarnLevel).FilterMessageSnippet("family revoked").Len() != 1 {
			t.Error("the log does not have the reuse exactly once")
		}
	})
	t.Run("RFC 6749 §4.1.2 who has no right to the code revokes nothing with it", func(t *testing.T) {
		s := newTestServer(t)
		code := s.code(t, asks("webapp"))
		refresh := s.token(t, redeems(code)).json(t)["refresh_token"].(string)
		asSPA()(t, s, code).check(t, http.StatusBadRequest, "invalid_grant")
		s.token(t, refreshes(refresh)).check(t, http.StatusOK, "")
	})
}

// React's StrictMode runs an effect twice, and some libraries send a POST again when a connection breaks.
func TestCodeExchangedTwiceAtOnce(t *testing.T) {
	t.Run("by an app that proves itself with its verifier", func(t *testing.T) {
		s := newTestServer(t)
		code := s.code(t, asks("spa"))
		tokens := asSPA()(t, s, code).json(t)
		again := asSPA()(t, s, code)
		again.check(t, http.StatusBadRequest, "invalid_grant")
		s.state(t, tokens["access_token"], nil)
		s.refresh(t, tokens["refresh_token"].(string), "client_id", "spa")
		if s.logs.FilterMessageSnippet("revoked").Len() > 0 {
			t.Error("the log has a revocation")
		}
		refusal := s.logs.FilterField(zap.String("error_id", again.json(t)["error_id"].(string)))
		if refusal.FilterField(zap.String("client_id", "spa")).Len() != 1 {
			t.Errorf("the log does not have the cause of the second refusal: %v", refusal.All())
		}
		asSPA()(t, s, code).check(t, http.StatusBadRequest, "invalid_grant") // now a refresh token was used
		s.state(t, tokens["access_token"], jwt.ErrRevoked)
	})
	t.Run("by an app whose verifier is wrong the second time", func(t *testing.T) {
		s := newTestServer(t)
		code := s.code(t, asks("spa"))
		tokens := asSPA()(t, s, code).json(t)
		asSPA("code_verifier", strings.Repeat("v", 43))(t, s, code).check(t, http.StatusBadRequest, "invalid_grant")
		s.state(t, tokens["access_token"], jwt.ErrRevoked)
	})
	t.Run("by a client that authenticates", func(t *testing.T) {
		s := newTestServer(t)
		code := s.code(t, asks("webapp"))
		tokens := s.token(t, redeems(code)).json(t)
		s.token(t, redeems(code)).check(t, http.StatusBadRequest, "invalid_grant")
		s.state(t, tokens["access_token"], nil)
		s.refresh(t, tokens["refresh_token"].(string))
	})
}

func TestNoRefreshTokenUnlessConfigured(t *testing.T) {
	s := newTestServer(t, client("webapp", func(c *storage.Client) { c.GrantTypes = []string{"authorization_code"} }))
	if token, ok := s.tokens(t)["refresh_token"]; ok {
		t.Errorf("refresh_token %v", token)
	}
}

func TestResourcesNarrow(t *testing.T) {
	s := newTestServer(t)
	a := s.token(t, redeems(s.code(t, asks("webapp")), "resource", testAPI))
	body := a.json(t)
	if aud := s.claims(t, body["access_token"])["aud"]; aud != testAPI {
		t.Errorf("RFC 8707 §2.2: aud %v", aud)
	}
	// The refresh token keeps what the person granted (RFC 8707 §2.2).
	body = s.token(t, refreshes(body["refresh_token"].(string), "resource", testIssuer)).json(t)
	if aud := s.claims(t, body["access_token"])["aud"]; aud != testIssuer {
		t.Errorf("RFC 8707 §2.2: aud %v", aud)
	}
	s.token(t, refreshes(body["refresh_token"].(string), "resource", "https://other.example")).check(t, http.StatusBadRequest, "invalid_target")
}
