package authserver

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

func TestShapesOfTokenResponses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		shape wire.ResponseShape
		body  string // with A and R for the tokens
	}{
		{"token_type", wire.ResponseShape{TokenType: "bearer"}, `{"access_token":"A","token_type":"bearer","expires_in":600,"refresh_token":"R","scope":"profile orders"}`},
		{"a token_type with quotes in it", wire.ResponseShape{TokenType: `"<x>"`}, `{"access_token":"A","token_type":"\"\u003cx\u003e\"","expires_in":600,"refresh_token":"R","scope":"profile orders"}`},
		{"order", wire.ResponseShape{Members: []string{"scope", "refresh_token", "token_type", "access_token", "expires_in"}}, `{"scope":"profile orders","refresh_token":"R","token_type":"Bearer","access_token":"A","expires_in":600}`},
		{"one member", wire.ResponseShape{Members: []string{"access_token"}}, `{"access_token":"A"}`},
		{"expires_in as a string", wire.ResponseShape{ExpiresText: true}, `{"access_token":"A","token_type":"Bearer","expires_in":"600","refresh_token":"R","scope":"profile orders"}`},
		{"all of them", wire.ResponseShape{TokenType: "token", ExpiresText: true, Members: []string{"expires_in", "access_token", "token_type"}}, `{"expires_in":"600","access_token":"A","token_type":"token"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t, shaped(func(w *wire.Shape) { w.Response = tt.shape }))
			a := s.token(t, redeems(s.code(t, asks("webapp"))))
			checkJSONHeaders(t, a)
			got := regexp.MustCompile(`"(a|r)(ccess|efresh)_token":"[^"]+"`).ReplaceAllStringFunc(a.Body.String(), func(member string) string {
				return map[byte]string{'a': `"access_token":"A"`, 'r': `"refresh_token":"R"`}[member[1]]
			})
			if got != tt.body {
				t.Errorf("got %s, want %s", got, tt.body)
			}
		})
	}
	t.Run("a member without a value is left out, except a scope that was requested", func(t *testing.T) {
		s := newTestServer(t, shaped(func(w *wire.Shape) {
			w.Response.Members = []string{"refresh_token", "scope", "token_type", "access_token"}
		}))
		s.config.Clients["billing"].Scopes = nil
		if got := s.token(t, asBilling()).Body.String(); !strings.HasPrefix(got, `{"scope":"","token_type":`) {
			t.Errorf("got %s", got)
		}
	})
	t.Run("Content-Type", func(t *testing.T) {
		const utf8 = "application/json; charset=utf-8"
		s := newTestServer(t, shaped(func(w *wire.Shape) { w.Response.ContentType = utf8 }))
		a := s.token(t, asBilling())
		if got := a.Header().Get("Content-Type"); got != utf8 || a.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("Content-Type %q, Cache-Control %q", got, a.Header().Get("Cache-Control"))
		}
	})
}

func TestTextsOfErrors(t *testing.T) {
	situations := map[string]wire.ErrorText{
		grants.BadClient:       {Code: "client_error", Description: "the client is bad"},
		grants.BadCode:         {Code: "invalid_code", Description: "the code is bad", Status: 401},
		grants.BadRefreshToken: {Code: "invalid_token", Description: "the token is bad"},
		grants.BadUser:         {Code: "invalid_grant", Description: "Invalid credentials given.", Status: 422},
		grants.InvalidScope:    {Code: "bad_scope"},
		grants.InvalidGrant:    {Code: "never_said", Description: "where the situation has its own text"},
	}
	for _, tt := range []struct {
		name   string
		ask    func(*testing.T, *testServer) answer
		status int
		error  string
		text   any // nil for no description
	}{
		{"bad_client", func(t *testing.T, s *testServer) answer {
			t.Helper()
			return s.token(t, asBilling("client_secret", "x"))
		}, 401, "client_error", "the client is bad"},
		{"no client", func(t *testing.T, s *testServer) answer { t.Helper(); return s.token(t, asBilling("client_id", "x")) }, 401, "client_error", "the client is bad"},
		{"bad_code", func(t *testing.T, s *testServer) answer { t.Helper(); return s.token(t, redeems("x")) }, 401, "invalid_code", "the code is bad"},
		{"a code used before", func(t *testing.T, s *testServer) answer {
			t.Helper()
			code := s.code(t, asks("webapp"))
			s.token(t, redeems(code)).check(t, http.StatusOK, "")
			return s.token(t, redeems(code))
		}, 401, "invalid_code", "the code is bad"},
		{"bad_refresh_token", func(t *testing.T, s *testServer) answer { t.Helper(); return s.token(t, refreshes("x")) }, 400, "invalid_token", "the token is bad"},
		{"bad_user", func(t *testing.T, s *testServer) answer { t.Helper(); return s.login(t, here, "hatter", "x") }, 422, "invalid_grant", "Invalid credentials given."},
		{"a code of its own, without a text", func(t *testing.T, s *testServer) answer { t.Helper(); return s.token(t, asBilling("scope", "admin")) }, 400, "bad_scope", nil},
		{"RFC 7636 §4.6 invalid_grant in another situation", func(t *testing.T, s *testServer) answer {
			t.Helper()
			return s.token(t, redeems(s.code(t, asks("webapp")), "code_verifier", strings.Repeat("x", 43)))
		}, 400, "never_said", "where the situation has its own text"},
		{"an error without a text of its own", func(t *testing.T, s *testServer) answer {
			t.Helper()
			return s.token(t, refreshes("x", "grant_type", "magic"))
		}, 400, "unsupported_grant_type", "grant_type is not supported"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newPasswordServer(t, new(testPasswords), shaped(func(w *wire.Shape) { w.Errors.Texts = situations }))
			a := tt.ask(t, s)
			a.check(t, tt.status, tt.error)
			checkJSONHeaders(t, a)
			if got := a.json(t)["error_description"]; got != tt.text {
				t.Errorf("error_description %v, want %v", got, tt.text)
			}
			if got := a.Header().Get("WWW-Authenticate"); (got != "") != (tt.status == http.StatusUnauthorized) {
				t.Errorf("RFC 9110 §11.6.1: WWW-Authenticate %q with %d", got, tt.status)
			}
		})
	}
	t.Run("another status has the headers of that status", func(t *testing.T) {
		s := newTestServer(t, shaped(func(w *wire.Shape) {
			w.Errors.Texts = map[string]wire.ErrorText{grants.InvalidClient: {Code: "invalid_client", Status: 400}, grants.InvalidScope: {Code: "later", Status: 503}}
		}))
		a := s.token(t, asBilling("client_secret", "x"))
		if a.check(t, http.StatusBadRequest, "invalid_client"); a.Header().Get("WWW-Authenticate") != "" {
			t.Errorf("header %v", a.Header())
		}
		a = s.token(t, asBilling("scope", "admin"))
		if a.check(t, http.StatusServiceUnavailable, "later"); a.Header().Get("Retry-After") != "2" {
			t.Errorf("header %v", a.Header())
		}
	})
	t.Run("RFC 6749 §4.1.2.1 errors that go to the client by the browser stay as they are", func(t *testing.T) {
		s := newTestServer(t, shaped(func(w *wire.Shape) { w.Errors.Problem, w.Errors.Texts = true, situations }))
		s.get(t, asks("webapp", "scope", "admin")).check(t, http.StatusSeeOther, "invalid_scope")
	})
}

// problemOf returns the problem details (RFC 9457) in a response, with ID for the error ID.
func problemOf(t *testing.T, a answer) string {
	t.Helper()
	if got := a.Header().Get("Content-Type"); got != "application/problem+json" || a.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("Content-Type %q, Cache-Control %q", got, a.Header().Get("Cache-Control"))
	}
	return regexp.MustCompile(`"error_id":"[a-z2-9]{8}"`).ReplaceAllString(a.Body.String(), `"error_id":"ID"`)
}

func TestProblems(t *testing.T) {
	const text = "Invalid grant: authorization code is invalid"
	for _, tt := range []struct {
		name   string
		shape  wire.ErrorShape
		status int
		body   string
	}{
		{"RFC 9457 §3.1", wire.ErrorShape{}, 400, `{"status":400,"title":"Bad Request","detail":"authorization code is invalid, expired or was used before","error_id":"ID"}`},
		{"documentation", wire.ErrorShape{DocumentationURL: "https://docs.example?a=b&c", DocumentationType: "text/html"}, 400, `{"status":400,"title":"Bad Request","detail":"authorization code is invalid, expired or was used before","error_id":"ID","_links":{"documentation":{"href":"https://docs.example?a=b\u0026c","type":"text/html"}}}`},
		{"its own text", wire.ErrorShape{Texts: map[string]wire.ErrorText{grants.BadCode: {Code: "x", Description: text}}}, 400, `{"status":400,"title":"Bad Request","detail":"` + text + `","error_id":"ID"}`},
		{"its own status", wire.ErrorShape{Texts: map[string]wire.ErrorText{grants.BadCode: {Code: "x", Description: text, Status: 403}}}, 403, `{"status":403,"title":"Forbidden","detail":"` + text + `","error_id":"ID"}`},
		{"the id in the header", wire.ErrorShape{IDHeader: true}, 400, `{"status":400,"title":"Bad Request","detail":"authorization code is invalid, expired or was used before"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.shape.Problem = true
			s := newTestServer(t, shaped(func(w *wire.Shape) { w.Errors = tt.shape }))
			a := s.token(t, redeems("nonsense"))
			if got := problemOf(t, a); got != tt.body || a.Code != tt.status {
				t.Errorf("%d %s, want %s", a.Code, got, tt.body)
			}
			if id := a.Header().Get("Error-Id"); (id != "") != tt.shape.IDHeader {
				t.Errorf("Error-Id %q", id)
			}
		})
	}
	s := newTestServer(t, shaped(func(w *wire.Shape) { w.Errors.Problem = true }))
	for name, tt := range map[string]struct {
		a      answer
		status string
		header string
	}{
		"a bad client":   {s.token(t, asBilling("client_secret", "x")), `{"status":401,"title":"Unauthorized",`, "WWW-Authenticate"},
		"another method": {s.fetch(t, "/oauth/token", func(*http.Request) {}), `{"status":405,"title":"Method Not Allowed",`, "Allow"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := problemOf(t, tt.a); !strings.HasPrefix(got, tt.status) || tt.a.Header().Get(tt.header) == "" {
				t.Errorf("%s with headers %v", got, tt.a.Header())
			}
		})
	}
}

// The error ID leads from the response to the log, in the header as in the body.
func TestErrorIDInTheHeader(t *testing.T) {
	for _, problem := range []bool{false, true} {
		s := newTestServer(t, shaped(func(w *wire.Shape) { w.Errors = wire.ErrorShape{Problem: problem, IDHeader: true} }))
		a := s.token(t, redeems("nonsense"))
		id := a.Header().Get("Error-Id")
		if _, ok := a.json(t)["error_id"]; ok || len(id) != 8 {
			t.Errorf("Error-Id %q, body %s", id, a.Body)
		}
		if logged := s.logs.All()[s.logs.Len()-1].ContextMap()["error_id"]; logged != id {
			t.Errorf("Error-Id %q, but %v in the log", id, logged)
		}
	}
}

// All settings at once.
func TestAllShapesTogether(t *testing.T) {
	s := newPasswordServer(t, new(testPasswords), func(c *Config) {
		c.AccessToken = AccessTokenShape{Opaque: true, Prefix: "access_", Length: 30}
		c.Wire = wire.Shape{
			Bodies: []string{"json"}, SecretHeader: "X-Api-Key", GrantAliases: map[string]string{"refresh token": "refresh_token"},
			Response: wire.ResponseShape{TokenType: "bearer", Members: []string{"refresh_token", "access_token", "expires_in"}, ExpiresText: true, ContentType: "text/json"},
			Errors:   wire.ErrorShape{Problem: true, IDHeader: true, Texts: map[string]wire.ErrorText{grants.BadRefreshToken: {Code: "x", Description: "no", Status: 410}}},
		}
	}, client("webapp", func(c *storage.Client) { c.RefreshToken.Prefix, c.RefreshToken.Length = "refresh_", 30 }))
	post := func(grantType, name, value string) answer {
		t.Helper()
		r := postRequest("/oauth/token", `{"client_id":"webapp","grant_type":"`+grantType+`","`+name+`":"`+value+`","username":"alice"}`)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Api-Key", webSecret)
		return s.do(t, r)
	}
	a := post("password", "password", wonderland)
	for range 2 {
		if !regexp.MustCompile(`^{"refresh_token":"refresh_\w{30}","access_token":"access_\w{30}","expires_in":"600"}$`).MatchString(a.Body.String()) || a.Code != http.StatusOK || a.Header().Get("Content-Type") != "text/json" {
			t.Fatalf("%d %v %s", a.Code, a.Header(), a.Body)
		}
		a = post("refresh token", "refresh_token", a.json(t)["refresh_token"].(string))
	}
	a = post("refresh token", "refresh_token", "refresh_nonsense")
	if got := problemOf(t, a); got != `{"status":410,"title":"Gone","detail":"no"}` || a.Code != http.StatusGone {
		t.Errorf("%d %s", a.Code, got)
	}
}
