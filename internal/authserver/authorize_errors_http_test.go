package authserver

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// An authorization request gets the same response by GET and by POST.
var bothMethods = map[string]func(*testServer, *testing.T, url.Values) answer{
	http.MethodGet: (*testServer).get, http.MethodPost: (*testServer).post,
}

// If client_id or redirect_uri is invalid, the person gets a page, without a redirect.
func TestAuthorizeErrorsWithoutRedirect(t *testing.T) {
	to := func(uri string) url.Values { return asks("webapp", "redirect_uri", uri) }
	native := func(uri string) url.Values { return asks("native", "redirect_uri", uri) }
	tests := []struct {
		name   string
		params url.Values
		error  string
	}{
		{"RFC 6749 §4.1.2.1 no client_id", asks("webapp", "client_id", ""), "invalid_client"},
		{"RFC 6749 §4.1.2.1 unknown client_id", asks("webapp", "client_id", "nobody"), "invalid_client"},
		{"RFC 6749 §4.1.2.1 client_id with NUL", asks("webapp", "client_id", "webapp\x00"), "invalid_client"},
		{"RFC 6749 §4.1.2.1 client_id in another case", asks("webapp", "client_id", "WebApp"), "invalid_client"},
		{"RFC 6749 §4.1.2.1 client without a redirect_uri", merge(asks("webapp"), "client_id", "billing"), "invalid_request"},
		{"RFC 6749 §3.1.2.3 no redirect_uri where several are registered", asks("native", "redirect_uri", ""), "invalid_request"},
		{"RFC 6749 §3.1 repeated client_id", url.Values{"client_id": {"webapp", "webapp"}}, "invalid_request"},
		{"RFC 6749 §3.1 repeated redirect_uri", withValues(asks("webapp"), "redirect_uri", webRedirect, webRedirect), "invalid_request"},
		{"RFC 6749 §3.1.2 fragment", to(webRedirect + "#f"), "invalid_request"},
		{"RFC 6749 §3.1.2 relative", to("/callback"), "invalid_request"},
		{"RFC 9700 §4.1.3 other path", to(webRedirect + "/x"), "invalid_request"},
		{"RFC 9700 §4.1.3 other query", to(webRedirect + "?x=1"), "invalid_request"},
		{"RFC 9700 §4.1.3 other case", to("https://APP.example.com/callback"), "invalid_request"},
		{"RFC 9700 §4.1.3 other port", to("https://app.example.com:443/callback"), "invalid_request"},
		{"RFC 9700 §4.1.3 other scheme", to("http://app.example.com/callback"), "invalid_request"},
		{"RFC 9700 §4.1.3 user information", to("https://app.example.com@evil.example/callback"), "invalid_request"},
		{"RFC 9700 §4.1.3 dot segments", to("https://app.example.com/x/../callback"), "invalid_request"},
		{"RFC 9700 §4.1.3 escaped letter", to("https://app.example.com/c%61llback"), "invalid_request"},
		{"RFC 9700 §4.1.3 trailing NUL", to(webRedirect + "\x00"), "invalid_request"},
		{"RFC 9700 §4.11.2 another client's redirect_uri", to("https://spa.example.com/callback"), "invalid_request"},
		{"RFC 8252 §7.3 other path on a loopback address", native("http://127.0.0.1:4000/other"), "invalid_request"},
		{"RFC 8252 §7.3 other loopback host", native("http://localhost:4000/callback"), "invalid_request"},
		{"RFC 8252 §7.3 https to a loopback address", native("https://127.0.0.1:4000/callback"), "invalid_request"},
		{"RFC 8252 §7.3 loopback address as user name", native("http://127.0.0.1:4000@evil.example/callback"), "invalid_request"},
		{"RFC 8252 §7.3 loopback address as subdomain", native("http://127.0.0.1.evil.example/callback"), "invalid_request"},
		{"RFC 8252 §7.3 loopback address and backslash", native(`http://127.0.0.1\@evil.example/callback`), "invalid_request"},
		{"RFC 8252 §7.3 fragment on a loopback address", native("http://127.0.0.1:4000/callback#"), "invalid_request"},
		{"RFC 8252 §7.1 other path of a private-use scheme", native("com.example.app:/other"), "invalid_request"},
	}
	for _, tt := range tests {
		for method, send := range bothMethods {
			t.Run(tt.name+" by "+method, func(t *testing.T) {
				a := send(newTestServer(t), t, tt.params)
				a.check(t, http.StatusBadRequest, tt.error)
				checkErrorPage(t, a)
			})
		}
	}
}

// checkErrorPage checks the status and the content of an error page.
func checkErrorPage(t *testing.T, a answer) {
	t.Helper()
	if a.page == nil || a.Header().Get("Location") != "" {
		t.Fatalf("no page: %d, Location %q", a.Code, a.Header().Get("Location"))
	}
	if !strings.Contains(a.Body.String(), a.page.ID) || a.page.ID == "" {
		t.Errorf("the page lacks the error ID %q", a.page.ID)
	}
	checkNotFramed(t, a)
}

// checkNotFramed checks both headers against framing.
func checkNotFramed(t *testing.T, a answer) {
	t.Helper()
	h := a.Header()
	if h.Get("X-Frame-Options") != "DENY" || !strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Errorf("X-Frame-Options %q, Content-Security-Policy %q", h.Get("X-Frame-Options"), h.Get("Content-Security-Policy"))
	}
	if h.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control %q", h.Get("Cache-Control"))
	}
}

// withValues returns params with a repeated parameter.
func withValues(params url.Values, name string, values ...string) url.Values {
	params[name] = values
	return params
}

// If client_id and redirect_uri are valid, the client gets every other error.
func TestAuthorizeErrorsRedirect(t *testing.T) {
	tests := []struct {
		name   string
		params url.Values
		error  string
		edit   func(*testServer)
	}{
		{name: "RFC 6749 §4.1.2.1 no response_type", params: asks("webapp", "response_type", ""), error: "invalid_request"},
		{name: "RFC 6749 §4.1.2.1 unknown response_type", params: asks("webapp", "response_type", "magic"), error: "unsupported_response_type"},
		{name: "RFC 9700 §2.1.2 implicit", params: asks("webapp", "response_type", "token"), error: "unsupported_response_type"},
		{name: "RFC 9700 §2.1.2 hybrid", params: asks("webapp", "response_type", "code token"), error: "unsupported_response_type"},
		{name: "RFC 6749 §4.1.2.1 client without authorization_code", params: asks("spa"), error: "unauthorized_client", edit: func(s *testServer) {
			s.config.Clients["spa"].GrantTypes = []string{"refresh_token"}
		}},
		{name: "RFC 6749 §4.1.2.1 unknown scope", params: asks("webapp", "scope", "profile magic"), error: "invalid_scope"},
		{name: "RFC 6749 §4.1.2.1 scope of others", params: asks("webapp", "scope", "admin"), error: "invalid_scope"},
		{name: "RFC 6749 §3.3 malformed scope", params: asks("webapp", "scope", `pro"file`), error: "invalid_scope"},
		{name: "RFC 6749 §3.3 scope with NUL", params: asks("webapp", "scope", "profile\x00"), error: "invalid_scope"},
		{name: "RFC 6749 §3.1 repeated scope", params: withValues(asks("webapp"), "scope", "profile", "orders"), error: "invalid_request"},
		{name: "RFC 6749 §3.1 repeated unknown parameter", params: withValues(asks("webapp"), "x", "1", "2"), error: "invalid_request"},
		{name: "RFC 7636 §4.4.1 public client without code_challenge", params: asks("spa", "code_challenge", "", "code_challenge_method", ""), error: "invalid_request"},
		{name: "RFC 8252 §8.1 native client without code_challenge", params: asks("native", "code_challenge", "", "code_challenge_method", ""), error: "invalid_request"},
		{name: "RFC 7636 §4.4.1 plain", params: asks("webapp", "code_challenge_method", "plain"), error: "invalid_request"},
		{name: "RFC 7636 §4.4.1 no method, which means plain", params: asks("webapp", "code_challenge_method", ""), error: "invalid_request"},
		{name: "RFC 7636 §4.4.1 method in another case", params: asks("webapp", "code_challenge_method", "s256"), error: "invalid_request"},
		{name: "RFC 7636 §4.4.1 method without challenge", params: asks("webapp", "code_challenge", ""), error: "invalid_request"},
		{name: "RFC 7636 §4.2 short challenge", params: asks("webapp", "code_challenge", "abc"), error: "invalid_request"},
		{name: "RFC 7636 §4.2 padded challenge", params: asks("webapp", "code_challenge", s256(testVerifier)+"="), error: "invalid_request"},
		{name: "RFC 8707 §2 relative resource", params: asks("webapp", "resource", "/api"), error: "invalid_target"},
		{name: "RFC 8707 §2 resource with fragment", params: asks("webapp", "resource", testAPI+"#f"), error: "invalid_target"},
		{name: "RFC 8707 §2 resource of others", params: asks("webapp", "resource", "https://other.example"), error: "invalid_target"},
		{name: "RFC 8707 §2 one good resource and one bad", params: withValues(asks("webapp"), "resource", testAPI, "https://other.example"), error: "invalid_target"},
		{name: "RFC 9101 §5 request object", params: asks("webapp", "request", "e30.e30."), error: "request_not_supported"},
		{name: "RFC 9101 §5 request_uri", params: asks("webapp", "request_uri", "https://app.example.com/r"), error: "request_uri_not_supported"},
		{name: "unknown response_mode", params: asks("webapp", "response_mode", "fragment"), error: "invalid_request"},
		{name: "form_post to a private-use scheme", params: asks("native", "response_mode", "form_post"), error: "invalid_request"},
		{name: "OpenID Connect Core §3.1.2.1 prompt=none and more", params: asks("webapp", "prompt", "none login"), error: "invalid_request"},
		{name: "OpenID Connect Core §3.1.2.6 prompt=none and nobody signed in", params: asks("webapp", "prompt", "none"), error: "login_required", edit: func(s *testServer) { s.site.user = nil }},
		{name: "OpenID Connect Core §3.1.2.6 prompt=none and no consent", params: asks("webapp", "prompt", "none"), error: "consent_required"},
		{name: "RFC 6749 §4.1.2.1 the store fails", params: asks("webapp"), error: "temporarily_unavailable", edit: func(s *testServer) { s.store.Err = errors.New("down") }},
		{name: "RFC 6749 §4.1.2.1 the site fails", params: asks("webapp"), error: "temporarily_unavailable", edit: func(s *testServer) { s.site.err = errors.New("down") }},
		{name: "RFC 6749 §4.1.2.1 the user cannot have tokens", params: asks("webapp"), error: "access_denied", edit: func(s *testServer) { s.site.user.Subject = "billing" }},
	}
	for _, tt := range tests {
		for method, send := range bothMethods {
			t.Run(tt.name+" by "+method, func(t *testing.T) {
				s := newTestServer(t)
				if tt.edit != nil {
					tt.edit(s)
				}
				a := send(s, t, tt.params)
				a.check(t, http.StatusSeeOther, tt.error)
				if to, _, _ := strings.Cut(a.Header().Get("Location"), "?"); to != tt.params.Get("redirect_uri") {
					t.Errorf("the redirect goes to %q", to)
				}
				if got := a.location(); got.Get("state") != "xyz" || got.Get("iss") != testIssuer || got.Has("code") {
					t.Errorf("RFC 6749 §4.1.2.1, RFC 9207 §2: state %q, iss %q, code %q", got.Get("state"), got.Get("iss"), got.Get("code"))
				}
				checkNotFramed(t, a)
			})
		}
	}
}

func TestAuthorizeRequestsThatCannotBeRead(t *testing.T) {
	form := "application/x-www-form-urlencoded"
	tests := []struct {
		name, method, query, contentType, body string
		status                                 int
	}{
		{name: "broken escape", method: "GET", query: "client_id=%zz", status: 400},
		{name: "query too large", method: "GET", query: "state=" + strings.Repeat("a", maxBody), status: 414},
		{name: "body too large", method: "POST", contentType: form, body: "state=" + strings.Repeat("a", maxBody), status: 413},
		{name: "body of another type", method: "POST", contentType: "application/json", body: "{}", status: 400},
		{name: "body without a type", method: "POST", body: asks("webapp").Encode(), status: 400},
		{name: "parameters of a POST in the query", method: "POST", query: asks("webapp").Encode(), contentType: form, status: 400},
		{name: "PUT", method: "PUT", status: 405},
		{name: "DELETE", method: "DELETE", query: asks("webapp").Encode(), status: 405},
		{name: "OPTIONS", method: "OPTIONS", query: asks("webapp").Encode(), status: 405},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, "/oauth/authorize?"+tt.query, strings.NewReader(tt.body))
			r.Header.Set("Content-Type", tt.contentType)
			a := newTestServer(t).do(t, r)
			if a.Code != tt.status {
				t.Errorf("status %d, want %d", a.Code, tt.status)
			}
			checkErrorPage(t, a)
			if allow := a.Header().Get("Allow"); tt.status == 405 && allow != "GET, HEAD, POST" {
				t.Errorf("Allow %q", allow)
			}
		})
	}
}

func TestRepeatedStateIsNotSentBack(t *testing.T) {
	a := newTestServer(t).get(t, withValues(asks("webapp"), "state", "a", "b"))
	a.check(t, http.StatusSeeOther, "invalid_request")
	if a.location().Has("state") {
		t.Errorf("one of two states is sent back: %s", a.Header().Get("Location"))
	}
}

func TestUnfitClientIsNeverRedirectedTo(t *testing.T) {
	s := newTestServer(t, client("webapp", func(c *storage.Client) { c.RedirectURIs = nil }))
	a := s.get(t, asks("webapp"))
	a.check(t, http.StatusBadRequest, "invalid_request")
	checkErrorPage(t, a)
}
