package authserver

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// credentials of billing in a body.
func asBilling(pairs ...string) url.Values {
	return merge(url.Values{
		"grant_type": {"client_credentials"}, "client_id": {"billing"}, "client_secret": {webSecret},
	}, pairs...)
}

func TestTokenEndpointRefusesOtherMethods(t *testing.T) {
	for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE", "post", "PROPFIND"} {
		t.Run("RFC 6749 §3.2 refuses "+method+" with 405 and Allow", func(t *testing.T) {
			r := postRequest("/oauth/token?"+asBilling().Encode(), asBilling().Encode())
			r.Method = method
			a := newTestServer(t).do(t, r)
			a.check(t, http.StatusMethodNotAllowed, "invalid_request")
			if allow := a.Header().Get("Allow"); allow != "POST" {
				t.Errorf("Allow %q", allow)
			}
		})
	}
}

func TestTokenRequestBodies(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	good := asBilling().Encode()
	var multipart strings.Builder
	for name, values := range asBilling() {
		fmt.Fprintf(&multipart, "--b\r\nContent-Disposition: form-data; name=%q\r\n\r\n%s\r\n", name, values[0])
	}
	multipart.WriteString("--b--\r\n")
	many := func(n int) string { return good + strings.Repeat("&a", n) }

	tests := []struct {
		name, contentType, body string
		status                  int
		error                   string
	}{
		{"RFC 6749 §3.2 form", form, good, 200, ""},
		{"RFC 6749 §3.2 form with a charset", form + "; charset=UTF-8", good, 200, ""},
		{"RFC 9110 §8.3.1 type in another case", "Application/X-WWW-Form-Urlencoded", good, 200, ""},
		{"RFC 6749 §3.2 unknown parameters are ignored", form, good + "&magic=1&state=x", 200, ""},
		{"RFC 6749 §3.2 empty parameters are absent", form, good + "&scope=&resource=&resource=", 200, ""},
		{"RFC 6749 §3.2 a parameter that is empty but needed", form, asBilling("grant_type", "").Encode() + "&grant_type=", 400, "invalid_request"},
		{"RFC 6749 §3.2 repeated parameter", form, good + "&grant_type=client_credentials", 400, "invalid_request"},
		{"RFC 6749 §3.2 repeated parameter, once empty", form, good + "&grant_type=", 400, "invalid_request"},
		{"RFC 6749 §3.2 repeated unknown parameter", form, good + "&x=1&x=2", 400, "invalid_request"},
		{"RFC 6749 §3.2 repeated scope", form, good + "&scope=orders&scope=profile", 400, "invalid_request"},
		{"RFC 6749 §3.2 JSON", "application/json", `{"grant_type":"client_credentials"}`, 400, "invalid_request"},
		{"RFC 6749 §3.2 form with the Content-Type of JSON", "application/json", good, 400, "invalid_request"},
		{"RFC 6749 §3.2 multipart", "multipart/form-data; boundary=b", multipart.String(), 400, "invalid_request"},
		{"RFC 6749 §3.2 no type", "", good, 400, "invalid_request"},
		{"RFC 6749 §3.2 two types", form + ", application/json", good, 400, "invalid_request"},
		{"RFC 6749 §3.2 empty body", form, "", 401, "invalid_client"},
		{"RFC 6749 appendix B broken escape", form, good + "&x=%zz", 400, "invalid_request"},
		{"RFC 6749 appendix B cut escape", form, good + "&x=%4", 400, "invalid_request"},
		{"RFC 6749 appendix B semicolon", form, good + ";x=1", 400, "invalid_request"},
		{"RFC 6749 appendix B NUL in a value", form, asBilling("scope", "orders\x00").Encode(), 400, "invalid_scope"},
		{"RFC 6749 appendix B NUL in a name", form, good + "&x%00=1", 200, ""},
		{"RFC 6749 appendix B not UTF-8", form, good + "&x=%ff%fe", 200, ""},
		{"too large", form, good + "&x=" + strings.Repeat("a", maxBody), 413, "invalid_request"},
		{"the largest body", form, good + "&x=" + strings.Repeat("a", maxBody-len(good)-3), 200, ""},
		{"10,000 parameters", form, many(10_000), 400, "invalid_request"},
		{"nothing but separators", form, strings.Repeat("&", maxBody), 400, "invalid_request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/oauth/token", strings.NewReader(tt.body))
			header("Content-Type", tt.contentType)(r)
			newTestServer(t).do(t, r).check(t, tt.status, tt.error)
		})
	}
}

func TestTokenResponse(t *testing.T) {
	s := newTestServer(t)
	a := s.token(t, redeems(s.code(t, asks("webapp"))))

	t.Run("RFC 6749 §5.1 200, JSON, and no cache keeps it", func(t *testing.T) {
		a.check(t, http.StatusOK, "")
		checkJSONHeaders(t, a)
	})
	t.Run("RFC 6749 §5.1 members and their types", func(t *testing.T) {
		body := a.json(t)
		for name, want := range map[string]any{"token_type": "Bearer", "expires_in": 600.0, "scope": "profile orders"} {
			if body[name] != want {
				t.Errorf("%s is %#v, want %#v", name, body[name], want)
			}
		}
		for _, name := range []string{"access_token", "refresh_token"} {
			if token, _ := body[name].(string); len(token) < 64 {
				t.Errorf("%s is %#v", name, body[name])
			}
		}
		if len(body) != 5 {
			t.Errorf("%d members: %v", len(body), body)
		}
	})
	t.Run("RFC 6749 §5.1 error responses have the same headers", func(t *testing.T) {
		a := s.token(t, redeems("nonsense"))
		a.check(t, http.StatusBadRequest, "invalid_grant")
		checkJSONHeaders(t, a)
	})
	t.Run("RFC 6749 §3.3 scope of the client's configuration where the request names none", func(t *testing.T) {
		if scope := s.token(t, asBilling()).json(t)["scope"]; scope != "profile orders" {
			t.Errorf("scope %q", scope)
		}
	})
	t.Run("a lifetime of parts of a second is a whole number", func(t *testing.T) {
		s := newTestServer(t, client("billing", func(c *storage.Client) { c.AccessTokenLifetime = 90_500_000_000 }))
		if got := s.token(t, asBilling()).json(t)["expires_in"]; got != 90.0 {
			t.Errorf("expires_in %v", got)
		}
	})
}

// checkJSONHeaders checks the headers of every answer of the token endpoint, and that the answer is written at once.
func checkJSONHeaders(t *testing.T, a answer) {
	t.Helper()
	for name, want := range map[string]string{
		"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache",
		"Content-Length": strconv.Itoa(a.Body.Len()), "Set-Cookie": "",
	} {
		if got := a.Header().Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if a.writes != 1 {
		t.Errorf("%d writes", a.writes)
	}
}

func TestGrantTypes(t *testing.T) {
	tests := []struct {
		name, grantType string
		status          int
		error           string
	}{
		{"RFC 6749 §5.2 no grant_type", "", 400, "invalid_request"},
		{"RFC 6749 §5.2 unknown grant_type", "magic", 400, "unsupported_grant_type"},
		{"RFC 6749 §5.2 grant_type in another case", "Client_Credentials", 400, "unsupported_grant_type"},
		{"RFC 6749 §5.2 grant_type with NUL", "client_credentials\x00", 400, "unsupported_grant_type"},
		{"RFC 9700 §2.4 password", "password", 400, "unsupported_grant_type"},
		{"RFC 6749 §5.2 known but not this client's: client_credentials", "client_credentials", 400, "unauthorized_client"},
		{"RFC 6749 §5.2 this client's, but without its parameters", "authorization_code", 400, "invalid_request"},
		{"RFC 6749 §6 without refresh_token", "refresh_token", 400, "invalid_request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			form := merge(url.Values{"x": {"1"}}, "grant_type", tt.grantType)
			newTestServer(t).token(t, form).check(t, tt.status, tt.error)
		})
	}
	t.Run("RFC 6749 §5.2 known but not this client's: refresh_token", func(t *testing.T) {
		s := newTestServer(t)
		token := s.tokens(t)["refresh_token"].(string)
		s.config.Clients["webapp"].GrantTypes = []string{"authorization_code"}
		s.token(t, refreshes(token)).check(t, http.StatusBadRequest, "unauthorized_client")
	})
}

func TestClientCredentials(t *testing.T) {
	t.Run("RFC 9068 §2.2 sub is the client", func(t *testing.T) {
		s := newTestServer(t)
		claims := s.claims(t, s.token(t, asBilling()).json(t)["access_token"])
		if claims["sub"] != "billing" || claims["client_id"] != "billing" {
			t.Errorf("sub %v, client_id %v", claims["sub"], claims["client_id"])
		}
	})
	t.Run("RFC 6749 §4.4.3 no refresh token", func(t *testing.T) {
		s := newTestServer(t, client("billing", func(c *storage.Client) { c.GrantTypes = append(c.GrantTypes, "refresh_token") }))
		if token, ok := s.token(t, asBilling()).json(t)["refresh_token"]; ok {
			t.Errorf("refresh_token %v", token)
		}
	})
	t.Run("RFC 6749 §4.4 not for a public client, whatever its configuration says", func(t *testing.T) {
		s := newTestServer(t, client("billing", func(c *storage.Client) { c.SecretHashes = nil }))
		s.token(t, asBilling("client_secret", "")).check(t, http.StatusBadRequest, "unauthorized_client")
	})
	t.Run("a configured client costs no access to the store", func(t *testing.T) {
		s := newTestServer(t)
		s.token(t, asBilling()).check(t, http.StatusOK, "")
		s.store.Err = errDown
		s.token(t, asBilling()).check(t, http.StatusOK, "")
	})
	for _, tt := range []struct {
		name, parameter, value string
		error                  string
	}{
		{"RFC 6749 §3.3 scope", "scope", "orders", ""},
		{"RFC 6749 §5.2 scope that is not the client's", "scope", "admin", "invalid_scope"},
		{"RFC 6749 §3.3 malformed scope", "scope", "orders\tprofile", "invalid_scope"},
		{"RFC 8707 §2 resource", "resource", testAPI, ""},
		{"RFC 8707 §2 resource that is not the client's", "resource", "https://other.example", "invalid_target"},
		{"RFC 8707 §2 relative resource", "resource", "api", "invalid_target"},
		{"RFC 8707 §2 resource with fragment", "resource", testAPI + "#", "invalid_target"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t)
			a := s.token(t, asBilling(tt.parameter, tt.value))
			if tt.error != "" {
				a.check(t, http.StatusBadRequest, tt.error)
				return
			}
			claims := s.claims(t, a.json(t)["access_token"])
			if tt.parameter == "scope" && claims["scope"] != tt.value || tt.parameter == "resource" && claims["aud"] != tt.value {
				t.Errorf("RFC 9700 §2.3: scope %v, aud %v", claims["scope"], claims["aud"])
			}
		})
	}
}

// nobody is a grant that forgets to name the subject.
type nobody struct{}

func (nobody) Type() string { return "password" }

func (nobody) Exchange(context.Context, *grants.Request) (*grants.Authorization, error) {
	return &grants.Authorization{Scopes: []string{"orders"}, Offline: true}, nil
}

func TestGrantThatNamesNoSubject(t *testing.T) {
	s := newTestServer(t, func(c *Config) {
		c.Grants = append(c.Grants, nobody{})
		c.Clients["billing"].GrantTypes = []string{"password", "refresh_token"}
	})
	s.token(t, asBilling("grant_type", "password")).check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
	if n := s.store.Count(t, storage.KindFamily); n != 0 {
		t.Errorf("%d families", n)
	}
}

// slowAlice is aliceOnly with a site that takes long to check a password.
type slowAlice struct {
	aliceOnly

	wait func()
}

func (a slowAlice) ProvideVerifier() grants.Verifier { return a }

func (a slowAlice) Verify(ctx context.Context, username, password string) (*grants.Person, error) {
	a.wait()
	return a.aliceOnly.Verify(ctx, username, password)
}

// RFC 6749 §5.1: expires_in counts from when the response is made.
func TestTokenIsIssuedWhenTheSiteHasAnswered(t *testing.T) {
	var s *testServer
	s = newTestServer(t, func(c *Config) {
		c.Clients["billing"].GrantTypes = []string{"password"}
		c.Grants = append(c.Grants, slowAlice{wait: func() { s.clock.Advance(40 * time.Second) }})
	})
	a := s.token(t, asBilling("grant_type", "password", "username", "alice", "password", "right"))
	a.check(t, http.StatusOK, "")
	answered := float64(s.clock.Now().Unix())
	claims := s.claims(t, a.json(t)["access_token"])
	if claims["iat"] != answered || claims["exp"] != answered+a.json(t)["expires_in"].(float64) {
		t.Errorf("%v, the site had answered at %v", claims, answered)
	}
}
