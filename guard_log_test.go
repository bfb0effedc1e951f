package caddyoauth_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
)

// For each request that a guard refuses, the log says what came, what was expected and which setting decides, under the ID that the
// error page shows. It never has the token.
func TestLogExplainsRefusalsOfAGuard(t *testing.T) {
	s := newServer(t)
	e := newRemoteIssuer(t)
	key, other := jwttest.NewKey(t, "ES256"), jwttest.NewKey(t, "ES256")
	e.keys = `{"keys":[` + string(key.Public) + `]}`
	s.run(t, strings.Replace(shop, "store memory", "store memory\nscope admin", 1), `http://shop.localhost:PORT {
		vars person alice
		oauth {
			user {vars.person}
		}
		oauth_guard /api/*
		oauth_guard /admin/* {
			scopes orders admin
		}
		handle_errors {
			respond "{err.id}" {err.status_code}
		}
	}
	http://remote.localhost:PORT {
		oauth_guard `+e.URL+` {
			audience https://api.example
			scopes read write
			leeway 10s
		}
		handle_errors {
			respond "{err.id}" {err.status_code}
		}
	}`)
	const good = `"sub":"bob","client_id":"robot","aud":"https://api.example","scope":"read write","exp":4102444800`
	signed := func(key jwttest.Key, old, replacement string) string {
		return key.Sign(t, []byte(strings.Replace(`{"iss":"`+e.URL+`",`+good+`}`, old, replacement, 1)))
	}
	issued, revoked := s.signIn(t, s.url("shop.localhost")), s.signIn(t, s.url("shop.localhost"))
	s.do(t, http.MethodPost, s.url("shop.localhost")+"/oauth/revoke", "application/x-www-form-urlencoded",
		"client_id=app&client_secret=app-secret&token="+revoked.RefreshToken)
	shopURL, remote := s.url("shop.localhost"), s.url("remote.localhost")
	for _, tt := range []struct {
		name, url, token string
		status           int
		want             map[string]string
	}{
		{"no token", shopURL + "/api/", "", 401, map[string]string{"issuer": "default", "sent": "no access token", "expected": "Authorization: Bearer", "setting": "oauth_guard: optional, token_header"}},
		{"no token of this issuer", shopURL + "/api/", "opaque", 401, map[string]string{"cause": "malformed", "sent": "no JWT, and no opaque token"}},
		{"missing scope", shopURL + "/admin/", issued.AccessToken, 403, map[string]string{
			"cause": "the token lacks admin", "sent": "scope orders", "expected": "orders admin", "setting": "oauth_guard: scopes",
			"client_id": "app", "sub": "alice", "family": ".", "resource": shopURL,
		}},
		{"revoked", shopURL + "/api/", revoked.AccessToken, 401, map[string]string{
			"cause": "revoked", "sent": "the family of the token was revoked", "client_id": "app", "sub": "alice",
		}},
		{"unknown key", shopURL + "/api/", signed(key, "", ""), 401, map[string]string{"cause": "unknown key", "sent": "kid " + key.ID, "expected": "one of ", "setting": "signing"}},
		{"typ", shopURL + "/api/", jwttest.Encode(`{"alg":"ES256","typ":"JWT","kid":"x"}`) + ".e30.AA", 401, map[string]string{"cause": "not of type", "sent": "typ JWT", "expected": "at+jwt"}},

		{"remote: no token", remote, "", 401, map[string]string{"issuer": e.URL, "sent": "no access token"}},
		{"remote: expired", remote, signed(key, "4102444800", "978307200"), 401, map[string]string{
			"cause": "expired", "sent": "expired at 2001-01-01T00:00:00Z", "expected": "10s", "setting": "oauth_guard: leeway", "client_id": "robot", "sub": "bob",
		}},
		{"remote: not yet", remote, signed(key, `"exp"`, `"nbf":4102444000,"exp"`), 401, map[string]string{"cause": "not valid yet", "sent": "valid from 2099-12-31"}},
		{"remote: another issuer", remote, signed(key, e.URL, "https://other.example"), 401, map[string]string{
			"cause": "other issuer", "sent": "iss https://other.example", "expected": e.URL, "setting": "oauth_guard: issuer", "client_id": "robot",
		}},
		{"remote: another audience", remote, signed(key, "api.example", "www.example"), 401, map[string]string{
			"cause": "other audience", "sent": "aud https://www.example", "expected": "https://api.example", "setting": "oauth_guard: audience, resource",
		}},
		{"remote: missing scope", remote, signed(key, "read write", "read"), 403, map[string]string{
			"cause": "the token lacks write", "sent": "scope read", "expected": "read write", "setting": "oauth_guard: scopes", "client_id": "robot",
		}},
		{"remote: unknown key", remote, signed(other, "", ""), 401, map[string]string{"cause": "unknown key", "sent": "kid " + other.ID, "expected": "one of " + key.ID}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var header []string
			if tt.token != "" {
				header = []string{"Authorization", "Bearer " + tt.token}
			}
			answer := s.get(t, tt.url, header...)
			if answer.status != tt.status || len(answer.body) != 8 {
				t.Fatalf("%d %q, want %d and an error ID", answer.status, answer.body, tt.status)
			}
			lines := s.logEntries(t, func(entry map[string]any) bool {
				return entry["error_id"] == answer.body && entry["logger"] == "http.handlers.oauth_guard"
			})
			if len(lines) != 1 || lines[0]["level"] != "info" || lines[0]["msg"] != "request refused" || lines[0]["status"] != float64(tt.status) {
				t.Fatalf("the log has %v", lines)
			}
			for name, want := range tt.want {
				if got := fmt.Sprint(lines[0][name]); !strings.Contains(got, want) {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if text := fmt.Sprint(lines[0]); tt.token != "" && tt.token != "opaque" && strings.Contains(text, tt.token[strings.LastIndex(tt.token, "."):]) {
				t.Errorf("the log has the token: %s", text)
			}
		})
	}
}

// While the keys of a remote issuer are not there, each request that is refused has an error ID in the log too, at debug.
func TestLogOfAGuardWithoutKeys(t *testing.T) {
	s := newServer(t)
	e := newRemoteIssuer(t)
	e.set(true)
	s.run(t, "", `http://remote.localhost:PORT {
		oauth_guard `+e.URL+` {
			audience https://api.example
		}
		handle_errors {
			respond "{err.id}" {err.status_code}
		}
	}`)
	token := jwttest.NewKey(t, "ES256").Sign(t, []byte(`{"sub":"bob"}`))
	answer := s.get(t, s.url("remote.localhost"), "Authorization", "Bearer "+token)
	lines := s.logEntries(t, func(entry map[string]any) bool { return entry["error_id"] == answer.body })
	if answer.status != http.StatusServiceUnavailable || len(lines) != 1 || lines[0]["level"] != "debug" ||
		!strings.Contains(fmt.Sprint(lines[0]["cause"]), "the keys of the issuer") {
		t.Errorf("%d %s, the log has %v", answer.status, answer.body, lines)
	}
}
