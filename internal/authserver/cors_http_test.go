package authserver

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// allowsOrigins reports whether scripts of other sites may read a response.
func allowsOrigins(a answer) bool {
	for name := range a.Header() {
		if strings.HasPrefix(name, "Access-Control-") {
			return true
		}
	}
	return false
}

func TestCORS(t *testing.T) {
	origin := header("Origin", "https://spa.example.com")
	preflight := func(r *http.Request) {
		r.Method = http.MethodOptions
		origin(r)
		r.Header.Set("Access-Control-Request-Method", "POST")
		r.Header.Set("Access-Control-Request-Headers", "authorization, x-requested-with, mcp-protocol-version")
	}
	s := newTestServer(t)
	for path, methods := range map[string]string{"/oauth/token": "POST", "/oauth/jwks": "GET, HEAD", wellKnown: "GET, HEAD"} {
		t.Run("RFC 9700 §2.6 preflight for "+path, func(t *testing.T) {
			a := s.fetch(t, path, preflight)
			a.check(t, http.StatusNoContent, "")
			for name, want := range map[string]string{
				"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": methods,
				"Access-Control-Allow-Headers": "authorization, x-requested-with, mcp-protocol-version", "Access-Control-Allow-Credentials": "",
			} {
				if got := a.Header().Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if a.Body.Len() != 0 {
				t.Errorf("body %s", a.Body)
			}
		})
	}
	for name, request := range map[string]*http.Request{
		"a token":    postRequest("/oauth/token", asBilling().Encode()),
		"an error":   postRequest("/oauth/token", "grant_type=magic"),
		"a 405":      httptest.NewRequest(http.MethodGet, "/oauth/token", nil),
		"the keys":   httptest.NewRequest(http.MethodGet, "/oauth/jwks", nil),
		"metadata":   httptest.NewRequest(http.MethodGet, wellKnown, nil),
		"no origin":  postRequest("/oauth/token", asBilling().Encode()),
		"HEAD /jwks": httptest.NewRequest(http.MethodHead, "/oauth/jwks", nil),
	} {
		t.Run("RFC 9700 §2.6 scripts may read "+name, func(t *testing.T) {
			if name != "no origin" {
				origin(request)
			}
			if got := s.do(t, request).Header().Get("Access-Control-Allow-Origin"); got != "*" {
				t.Errorf("Access-Control-Allow-Origin %q", got)
			}
		})
	}

	authorize := "/oauth/authorize?" + asks("webapp").Encode()
	for name, edit := range map[string]func(*http.Request){
		"preflight":    preflight,
		"GET":          origin,
		"a page error": func(r *http.Request) { origin(r); r.URL.RawQuery = "" },
		"POST":         func(r *http.Request) { origin(r); r.Method = http.MethodPost },
	} {
		t.Run("RFC 9700 §2.6 never on authorize: "+name, func(t *testing.T) {
			if a := s.fetch(t, authorize, edit); allowsOrigins(a) {
				t.Errorf("headers %v", a.Header())
			}
		})
	}
}
