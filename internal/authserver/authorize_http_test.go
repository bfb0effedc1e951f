package authserver

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// withoutConsent lets a client get codes without the consent page.
func withoutConsent(id string) func(*Config) {
	return client(id, func(c *storage.Client) { c.Consent = storage.ConsentNever })
}

func TestAuthorizeAnswersWithCode(t *testing.T) {
	twoScopes, twoResources := []any{"profile orders"}, []any{testIssuer, testAPI}
	tests := []struct {
		name   string
		params url.Values
		to     string
		scope  any
		aud    any
	}{
		{"RFC 6749 §4.1.2 code", asks("webapp"), webRedirect + "?", twoScopes[0], twoResources},
		{"RFC 6749 §3.1 unknown parameters are ignored", asks("webapp", "magic", "1", "decision", "allow"), webRedirect + "?", twoScopes[0], twoResources},
		{"RFC 6749 §3.1 empty parameters are absent", withValues(withValues(asks("webapp"), "scope", ""), "request", ""), webRedirect + "?", twoScopes[0], twoResources},
		{"RFC 6749 §3.3 a scope", asks("webapp", "scope", "orders"), webRedirect + "?", "orders", twoResources},
		{"RFC 6749 §3.3 the order of scopes does not matter, nor repeating one", asks("webapp", "scope", "orders profile orders"), webRedirect + "?", "orders profile", twoResources},
		{"RFC 8707 §2 a resource", asks("webapp", "resource", testAPI), webRedirect + "?", twoScopes[0], testAPI},
		{"RFC 8707 §2 several resources", withValues(asks("webapp"), "resource", testAPI, testIssuer), webRedirect + "?", twoScopes[0], []any{testAPI, testIssuer}},
		{"RFC 6749 §3.1.2.3 the only redirect_uri may be left out", asks("webapp", "redirect_uri", ""), webRedirect + "?", twoScopes[0], twoResources},
		{"RFC 9700 §2.1.1 a confidential client without PKCE", asks("webapp", "code_challenge", "", "code_challenge_method", ""), webRedirect + "?", twoScopes[0], twoResources},
		{"response_mode query", asks("webapp", "response_mode", "query"), webRedirect + "?", twoScopes[0], twoResources},
	}
	for _, tt := range tests {
		for method, send := range bothMethods {
			t.Run(tt.name+" by "+method, func(t *testing.T) {
				s := newTestServer(t, withoutConsent("webapp"))
				a := send(s, t, tt.params)
				a.check(t, http.StatusSeeOther, "")
				if to := a.Header().Get("Location"); !strings.HasPrefix(to, tt.to) {
					t.Fatalf("the redirect goes to %q", to)
				}
				if got := a.location(); got.Get("state") != "xyz" || got.Get("iss") != testIssuer {
					t.Errorf("RFC 6749 §4.1.2, RFC 9207 §2: state %q, iss %q", got.Get("state"), got.Get("iss"))
				}
				checkNotFramed(t, a)
				form := redeems(a.location().Get("code"))
				if !tt.params.Has("redirect_uri") {
					form.Del("redirect_uri")
				}
				if !tt.params.Has("code_challenge") {
					form.Del("code_verifier")
				}
				body := s.token(t, form).json(t)
				if body["scope"] != tt.scope {
					t.Fatalf("RFC 6749 §5.1: scope %q, want %q: %v", body["scope"], tt.scope, body)
				}
				if aud := s.claims(t, body["access_token"])["aud"]; !equalJSON(aud, tt.aud) {
					t.Errorf("aud %v, want %v", aud, tt.aud)
				}
			})
		}
	}
}

// equalJSON compares JSON strings and arrays of strings.
func equalJSON(a, b any) bool {
	listA, okA := a.([]any)
	listB, okB := b.([]any)
	if okA || okB {
		return slices.Equal(listA, listB)
	}
	return a == b
}

func TestRedirectURIsOfNativeApps(t *testing.T) {
	for _, tt := range []struct{ name, uri, want string }{
		{"RFC 8252 §7.1 private-use scheme", "com.example.app:/callback", "com.example.app:/callback?code="},
		{"RFC 8252 §7.3 IPv4 loopback", "http://127.0.0.1/callback", "http://127.0.0.1/callback?code="},
		{"RFC 8252 §7.3 IPv4 loopback on any port", "http://127.0.0.1:49152/callback", "http://127.0.0.1:49152/callback?code="},
		{"RFC 8252 §7.3 IPv6 loopback on any port", "http://[::1]:49152/callback", "http://[::1]:49152/callback?code="},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t)
			a := s.decide(t, s.get(t, asks("native", "redirect_uri", tt.uri)), "allow")
			a.check(t, http.StatusSeeOther, "")
			if to := a.Header().Get("Location"); !strings.HasPrefix(to, tt.want) {
				t.Fatalf("the redirect goes to %q", to)
			}
			form := url.Values{
				"grant_type": {"authorization_code"}, "client_id": {"native"}, "code": {a.location().Get("code")},
				"code_verifier": {testVerifier}, "redirect_uri": {tt.uri},
			}
			s.token(t, form).check(t, http.StatusOK, "")
		})
	}
}

// A redirect_uri keeps its query (RFC 6749 §3.1.2).
func TestRedirectURIKeepsItsQuery(t *testing.T) {
	const uri = webRedirect + "?tenant=a%20b&x="
	s := newTestServer(t, withoutConsent("webapp"), client("webapp", func(c *storage.Client) { c.RedirectURIs = []string{uri} }))
	a := s.get(t, asks("webapp", "redirect_uri", uri))
	if to := a.Header().Get("Location"); !strings.HasPrefix(to, uri+"&code=") {
		t.Errorf("RFC 6749 §3.1.2: the redirect goes to %q", to)
	}
}

// states are values that a client may send (RFC 6749 appendix A.5), and some it should not.
var states = map[string]string{
	"every printable ASCII character": func() string {
		var b strings.Builder
		for c := byte(0x20); c < 0x7f; c++ {
			b.WriteByte(c)
		}
		return b.String()
	}(),
	"1 kB":                 strings.Repeat("0123456789abcdef", 64),
	"markup":               `"><script>alert(1)</script>&amp;&#39;`,
	"form encoding inside": "a=b&state=c%26%2B+%zz;d",
	"letters of the world": "ü≠日本🔑\u202eabc",
}

func TestRFC6749StateComesBackUnchanged(t *testing.T) {
	modes := map[string]func(*testing.T, answer) url.Values{
		"query":     func(_ *testing.T, a answer) url.Values { return a.location() },
		"form_post": formPost,
	}
	for name, state := range states {
		for mode, read := range modes {
			t.Run("§4.1.2 "+name+" by "+mode, func(t *testing.T) {
				s := newTestServer(t, withoutConsent("webapp"))
				if got := read(t, s.get(t, asks("webapp", "state", state, "response_mode", mode))); got.Get("state") != state || got.Get("code") == "" {
					t.Errorf("state %q, code %q", got.Get("state"), got.Get("code"))
				}
				if got := read(t, s.get(t, asks("webapp", "state", state, "response_mode", mode, "scope", "magic"))); got.Get("state") != state {
					t.Errorf("§4.1.2.1: state %q with error %q", got.Get("state"), got.Get("error"))
				}
			})
			t.Run("§4.1.2 "+name+" through consent by "+mode, func(t *testing.T) {
				s := newTestServer(t)
				a := s.decide(t, s.get(t, asks("webapp", "state", state, "response_mode", mode)), "deny")
				if got := read(t, a); got.Get("state") != state || got.Get("error") != "access_denied" {
					t.Errorf("state %q, error %q", got.Get("state"), got.Get("error"))
				}
			})
		}
	}
}

// formPost returns the parameters that a form_post page posts to the client (OAuth 2.0 Form Post Response Mode §2).
func formPost(t *testing.T, a answer) url.Values {
	t.Helper()
	if a.Code != http.StatusOK || a.Header().Get("Location") != "" {
		t.Fatalf("status %d, Location %q", a.Code, a.Header().Get("Location"))
	}
	params := url.Values{}
	tags, _ := pagestest.Parts(a.Body)
	for _, tag := range tags {
		attrs := map[string]string{}
		for _, attr := range tag.Attr {
			attrs[attr.Key] = attr.Val
		}
		switch {
		case tag.Data == "form" && (attrs["method"] != "post" || attrs["action"] != webRedirect):
			t.Errorf("the form has method %q and action %q", attrs["method"], attrs["action"])
		case tag.Data == "input":
			params.Add(attrs["name"], attrs["value"])
		}
	}
	return params
}

func TestFormPost(t *testing.T) {
	s := newTestServer(t, withoutConsent("webapp"))
	for method, send := range bothMethods {
		t.Run("RFC 9207 §2 code and iss after "+method, func(t *testing.T) {
			a := send(s, t, asks("webapp", "response_mode", "form_post"))
			checkNotFramed(t, a)
			got := formPost(t, a)
			if got.Get("iss") != testIssuer || len(got) != 3 {
				t.Errorf("the form has %v", got)
			}
			s.seen = append(s.seen, got.Get("code"))
			s.token(t, redeems(got.Get("code"))).check(t, http.StatusOK, "")
		})
		t.Run("RFC 9207 §2 error and iss after "+method, func(t *testing.T) {
			got := formPost(t, send(s, t, asks("webapp", "response_mode", "form_post", "scope", "magic")))
			if got.Get("error") != "invalid_scope" || got.Get("iss") != testIssuer || got.Get("state") != "xyz" || got.Has("code") {
				t.Errorf("the form has %v", got)
			}
		})
	}
}

func TestEveryCodeIsAnother(t *testing.T) {
	s := newTestServer(t, withoutConsent("webapp"))
	codes := map[string]bool{}
	for range 50 {
		s.clock.Advance(10 * time.Second) // so many at once are refused
		codes[s.code(t, asks("webapp"))] = true
	}
	if len(codes) != 50 {
		t.Errorf("50 requests led to %d codes", len(codes))
	}
}
