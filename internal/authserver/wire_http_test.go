package authserver

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// shaped returns an edit of the shape of requests and responses.
func shaped(change func(*wire.Shape)) func(*Config) {
	return func(c *Config) { change(&c.Wire) }
}

// Without settings, responses are byte for byte as the RFCs have them.
func TestUnshapedAnswers(t *testing.T) {
	s := newTestServer(t)
	body := s.tokens(t)
	for name, tt := range map[string]struct {
		answer answer
		body   string
	}{
		"RFC 6749 §5.1 tokens": {
			s.token(t, refreshes(body["refresh_token"].(string))),
			`{"access_token":"ACCESS","token_type":"Bearer","expires_in":600,"refresh_token":"REFRESH","scope":"profile orders"}`,
		},
		"RFC 6749 §5.1 no refresh token": {
			s.token(t, asBilling("scope", "orders")),
			`{"access_token":"ACCESS","token_type":"Bearer","expires_in":600,"scope":"orders"}`,
		},
		"RFC 6749 §5.2 a bad code": {
			s.token(t, redeems("nonsense")),
			`{"error":"invalid_grant","error_description":"authorization code is invalid, expired or was used before","error_id":"ID"}`,
		},
		"RFC 6749 §5.2 a bad client": {
			s.token(t, asBilling("client_secret", "wrong")),
			`{"error":"invalid_client","error_description":"client authentication failed","error_id":"ID"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			checkJSONHeaders(t, tt.answer)
			var values struct {
				Access  string `json:"access_token"`
				Refresh string `json:"refresh_token"`
				ID      string `json:"error_id"`
			}
			if err := json.Unmarshal(tt.answer.Body.Bytes(), &values); err != nil {
				t.Fatal(err)
			}
			got := tt.answer.Body.String()
			for value, word := range map[string]string{values.Access: "ACCESS", values.Refresh: "REFRESH", values.ID: "ID"} {
				if value != "" {
					got = strings.Replace(got, `"`+value+`"`, `"`+word+`"`, 1)
				}
			}
			if got != tt.body {
				t.Errorf("got %s, want %s", got, tt.body)
			}
			if id := tt.answer.Header().Get("Error-Id"); id != "" {
				t.Errorf("Error-Id: %q", id)
			}
		})
	}
}

func TestRequestBodies(t *testing.T) {
	const form, plain = "application/x-www-form-urlencoded", "application/json"
	inForm := asBilling("scope", "orders").Encode()
	inJSON := `{"grant_type":"client_credentials","client_id":"billing","client_secret":"` + webSecret + `","scope":"orders"}`
	for _, tt := range []struct {
		name, contentType, body string
		kinds                   string
		error                   string
	}{
		{"a form", form, inForm, "form json", ""},
		{"JSON", plain, inJSON, "form json", ""},
		{"JSON with a charset", plain + "; charset=utf-8", inJSON, "json", ""},
		{"JSON alone", plain, inJSON, "json", ""},
		{"RFC 6749 §3.2 empty members are absent", plain, strings.Replace(inJSON, `"scope"`, `"code":"","resource":null,"scope"`, 1), "json", ""},
		{"RFC 8707 §2 resources", plain, strings.Replace(inJSON, `"scope"`, `"resource":["`+testAPI+`","`+testIssuer+`"],"scope"`, 1), "json", ""},
		{"a form where JSON alone is", form, inForm, "json", "invalid_request"},
		{"JSON where a form alone is", plain, inJSON, "form", "invalid_request"},
		{"JSON with the Content-Type of a form", form, inJSON, "form json", "invalid_client"},
		{"a form with the Content-Type of JSON", plain, inForm, "form json", "invalid_request"},
		{"another type", "text/plain", inJSON, "form json", "invalid_request"},
		{"a type of JSON that is none of ours", "application/vnd.api+json", inJSON, "form json", "invalid_request"},
		{"no type", "", inJSON, "form json", "invalid_request"},
		{"RFC 6749 §3.2 a repeated member", plain, strings.Replace(inJSON, `"scope"`, `"scope":"orders","scope"`, 1), "json", "invalid_request"},
		{"RFC 6749 §3.2 a repeated member, written otherwise", plain, strings.Replace(inJSON, `"scope"`, `"sc\u006fpe":"orders","scope"`, 1), "json", "invalid_request"},
		{"resource as two members", plain, strings.Replace(inJSON, `"scope"`, `"resource":"`+testAPI+`","resource":"`+testAPI+`","scope"`, 1), "json", "invalid_request"},
		{"an object for a scope", plain, strings.Replace(inJSON, `"orders"`, `{"0":"orders"}`, 1), "json", "invalid_request"},
		{"a list for a scope", plain, strings.Replace(inJSON, `"orders"`, `["orders"]`, 1), "json", "invalid_request"},
		{"a number for a scope", plain, strings.Replace(inJSON, `"orders"`, `17`, 1), "json", "invalid_scope"},
		{"members are case-sensitive", plain, strings.Replace(inJSON, `"client_id"`, `"Client_ID"`, 1), "json", "invalid_client"},
		{"a list", plain, "[" + inJSON + "]", "json", "invalid_request"},
		{"deep nesting", plain, strings.Repeat(`{"a":`, 10_000), "json", "invalid_request"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t, shaped(func(w *wire.Shape) { w.Bodies = strings.Fields(tt.kinds) }))
			r := postRequest("/oauth/token", tt.body)
			header("Content-Type", tt.contentType)(r)
			a := s.do(t, r)
			if tt.error != "" {
				if got := a.json(t)["error"]; got != tt.error {
					t.Errorf("%d %s, want %s", a.Code, a.Body, tt.error)
				}
				return
			}
			a.check(t, http.StatusOK, "")
			if scope := a.json(t)["scope"]; scope != "orders" {
				t.Errorf("scope %v", scope)
			}
		})
	}
	t.Run("the authorization endpoint accepts only forms", func(t *testing.T) {
		s := newTestServer(t, shaped(func(w *wire.Shape) { w.Bodies = []string{"json"} }))
		r := postRequest("/oauth/authorize", `{"client_id":"webapp"}`)
		header("Content-Type", plain)(r)
		s.do(t, r).check(t, http.StatusBadRequest, "invalid_request")
	})
}

func TestSecretHeaderOverHTTP(t *testing.T) {
	named := shaped(func(w *wire.Shape) { w.SecretHeader = "X-Api-Key" })
	form := asBilling("client_secret", "")
	key := header("X-API-key", webSecret)
	twice := func(r *http.Request) { r.Header["X-Api-Key"] = []string{webSecret, webSecret} }
	for _, tt := range []struct {
		name   string
		form   url.Values
		edit   func(*http.Request)
		status int
		error  string
	}{
		{"the secret", form, key, 200, ""},
		{"another secret", form, header("X-API-Key", "wrong"), 401, "invalid_client"},
		{"an empty one", form, func(r *http.Request) { r.Header["X-Api-Key"] = []string{""} }, 401, "invalid_client"},
		{"RFC 6749 §2.3.1 it need not be there", asBilling(), header("X-API-Key", ""), 200, ""},
		{"RFC 6749 §2.3 twice", form, twice, 400, "invalid_request"},
		{"RFC 6749 §2.3 and in the body", asBilling(), key, 400, "invalid_request"},
		{"no client_id", asBilling("client_secret", "", "client_id", ""), func(r *http.Request) { key(r); r.Header.Del("Authorization") }, 401, "invalid_client"},
		{"RFC 6749 §2.3 and Basic", form, func(r *http.Request) { key(r); r.SetBasicAuth("billing", webSecret) }, 400, "invalid_request"},
		{"a public client with a secret", asBilling("client_secret", "", "client_id", "spa"), key, 401, "invalid_client"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			newTestServer(t, named).token(t, tt.form, tt.edit).check(t, tt.status, tt.error)
		})
	}
	t.Run("without the setting it is a header like any other", func(t *testing.T) {
		newTestServer(t).token(t, form, key).check(t, http.StatusUnauthorized, "invalid_client")
		newTestServer(t).token(t, asBilling(), key).check(t, http.StatusOK, "")
	})
	t.Run("Fetch standard: the preflight names it", func(t *testing.T) {
		a := newTestServer(t, named).fetch(t, "/oauth/token", func(r *http.Request) {
			r.Method = http.MethodOptions
			r.Header.Set("Access-Control-Request-Headers", "x-api-key")
		})
		if got := a.Header().Get("Access-Control-Allow-Headers"); got != "x-api-key" {
			t.Errorf("Access-Control-Allow-Headers: %s", got)
		}
	})
}

func TestGrantAliases(t *testing.T) {
	s := newTestServer(t, shaped(func(w *wire.Shape) {
		w.GrantAliases = map[string]string{"refresh token": "refresh_token", "code": "authorization_code", "cc": "client_credentials"}
	}))
	body := s.token(t, redeems(s.code(t, asks("webapp")), "grant_type", "code")).json(t)
	for _, name := range []string{"refresh token", "refresh_token", "refresh token"} {
		a := s.token(t, refreshes(body["refresh_token"].(string), "grant_type", name))
		a.check(t, http.StatusOK, "")
		body = a.json(t)
	}
	s.token(t, refreshes("x", "grant_type", "Refresh Token")).check(t, http.StatusBadRequest, "unsupported_grant_type")
	s.token(t, refreshes("x", "grant_type", "cc")).check(t, http.StatusBadRequest, "unauthorized_client")
	t.Run("RFC 8414 §2 the metadata names grant types, not aliases", func(t *testing.T) {
		if got := s.fetch(t, wellKnown, func(*http.Request) {}).Body.String(); strings.Contains(got, "refresh token") || strings.Contains(got, `"cc"`) {
			t.Errorf("metadata %s", got)
		}
	})
}

func TestRedirectRulesOfAuthorize(t *testing.T) {
	strict := client("webapp", func(c *storage.Client) { c.RedirectRules.Authorize = true })
	without := asks("webapp", "redirect_uri", "")
	a := newTestServer(t, strict).get(t, without)
	a.check(t, http.StatusBadRequest, "invalid_request")
	if to := a.Header().Get("Location"); to != "" {
		t.Errorf("RFC 6749 §4.1.2.1: redirected to %s", to)
	}
	s := newTestServer(t, strict)
	s.token(t, redeems(s.code(t, asks("webapp")))).check(t, http.StatusOK, "")

	s = newTestServer(t) // RFC 6749 §3.1.2.3
	code := s.code(t, without)
	s.token(t, redeems(code, "redirect_uri", "")).check(t, http.StatusOK, "")
}

func TestPKCERequiredOfAConfidentialClient(t *testing.T) {
	s := newTestServer(t, client("webapp", func(c *storage.Client) { c.RequirePKCE = true }))
	a := s.get(t, asks("webapp", "code_challenge", "", "code_challenge_method", ""))
	a.check(t, http.StatusSeeOther, "invalid_request")
	s.get(t, asks("webapp", "code_challenge_method", "plain")).check(t, http.StatusSeeOther, "invalid_request")
	code := s.code(t, asks("webapp"))
	s.token(t, redeems(code, "code_verifier", "")).check(t, http.StatusBadRequest, "invalid_grant")
	s.token(t, redeems(code)).check(t, http.StatusOK, "")
}

func TestPrefixesOfCodesAndRefreshTokens(t *testing.T) {
	prefixed := func(code, refresh string) func(*Config) {
		return client("webapp", func(c *storage.Client) { c.CodePrefix, c.RefreshToken.Prefix = code, refresh })
	}
	s := newTestServer(t, prefixed("auth_", "refresh_"))
	code := s.code(t, asks("webapp"))
	for _, bad := range []string{strings.TrimPrefix(code, "auth_"), "refresh_" + code[5:], "auth_" + code, "AUTH_" + code[5:], "auth_", " " + code} {
		s.token(t, redeems(bad)).check(t, http.StatusBadRequest, "invalid_grant")
	}
	refresh := s.token(t, redeems(code)).json(t)["refresh_token"].(string)
	for range 3 {
		for _, bad := range []string{strings.TrimPrefix(refresh, "refresh_"), "auth_" + refresh[8:], "refresh_" + refresh, "refresh_"} {
			s.token(t, refreshes(bad)).check(t, http.StatusBadRequest, "invalid_grant")
		}
		a := s.token(t, refreshes(refresh))
		a.check(t, http.StatusOK, "")
		if refresh = a.json(t)["refresh_token"].(string); !strings.HasPrefix(refresh, "refresh_") || len(refresh) != 8+91 {
			t.Fatalf("refresh token %q", refresh)
		}
	}
	t.Run("a token that stays keeps its prefix", func(t *testing.T) {
		s := newTestServer(t, prefixed("", "r-"), client("webapp", func(c *storage.Client) { c.RefreshToken.Keep = true }))
		token := s.tokens(t)["refresh_token"]
		if again := s.token(t, refreshes(token.(string))).json(t)["refresh_token"]; again != token {
			t.Errorf("got %v, want %v", again, token)
		}
	})
}

// When the owner changes the length of tokens, the old ones stay valid until they expire, and their reuse is detected.
func TestLengthChangesBetween(t *testing.T) {
	lengths := []int{0, 30, 90, 91, 128}
	for _, before := range lengths {
		for _, after := range lengths {
			s := newTestServer(t)
			set := func(n int) { s.config.Clients["webapp"].RefreshToken.Length = n }
			set(before)
			code := s.code(t, asks("webapp"))
			first := s.tokens(t)["refresh_token"].(string)
			set(after)
			a := s.token(t, redeems(code))
			a.check(t, http.StatusOK, "")
			for _, token := range []string{first, a.json(t)["refresh_token"].(string)} {
				if want := map[bool]int{true: 91, false: before}[before == 0]; len(token) != want {
					t.Errorf("%d, then %d: a refresh token of %d characters", before, after, len(token))
				}
				second := s.token(t, refreshes(token))
				second.check(t, http.StatusOK, "")
				next := second.json(t)["refresh_token"].(string)
				third := s.token(t, refreshes(next))
				third.check(t, http.StatusOK, "")
				s.token(t, refreshes(token)).check(t, http.StatusBadRequest, grants.InvalidGrant) // RFC 9700 §4.14.2
				s.token(t, refreshes(third.json(t)["refresh_token"].(string))).check(t, http.StatusBadRequest, grants.InvalidGrant)
			}
		}
	}
}
