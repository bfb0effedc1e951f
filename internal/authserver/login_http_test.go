package authserver

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// returnTo returns the URL to which the login page must return. It must be on this site.
func returnTo(t *testing.T, a answer) *url.URL {
	t.Helper()
	if to, _, _ := strings.Cut(a.Header().Get("Location"), "?"); a.Code != http.StatusSeeOther || to != "/login" {
		t.Fatalf("no redirect to the login page: %d %s", a.Code, a.Header().Get("Location"))
	}
	back := a.location().Get("return_to")
	u, err := url.Parse(back)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(back, "/oauth/authorize?") {
		t.Fatalf("RFC 9700 §4.11.2: the login page would lead back to %q", back)
	}
	return u
}

// visit sends a GET for a path and query.
func (s *testServer) visit(t *testing.T, u *url.URL) answer {
	t.Helper()
	return s.do(t, httptest.NewRequest(http.MethodGet, u.String(), nil))
}

func TestNobodySignedIn(t *testing.T) {
	t.Run("RFC 9110 §15.5.2 a page with 401 where the site has no login page", func(t *testing.T) {
		s := newTestServer(t)
		s.site.user = nil
		a := s.get(t, asks("webapp"))
		a.check(t, http.StatusUnauthorized, "login_required")
		checkErrorPage(t, a)
	})
	for method, send := range bothMethods {
		t.Run("RFC 9700 §4.12 303 to the login page after "+method+", and back to an equal request", func(t *testing.T) {
			s := newTestServer(t, withoutConsent("webapp"))
			s.site.user, s.site.login = nil, "/login"
			params := withValues(asks("webapp", "state", states["form encoding inside"]), "resource", testAPI, testIssuer)
			a := send(s, t, params)
			checkNotFramed(t, a)
			back := returnTo(t, a)
			if back.Query().Encode() != params.Encode() {
				t.Errorf("the login page would lead back to %s, want the query %s", back, params.Encode())
			}
			s.site.user = &User{Subject: "bob"}
			a = s.visit(t, back)
			if got := a.location(); got.Get("code") == "" || got.Get("state") != params.Get("state") {
				t.Errorf("after the login: %d %s", a.Code, a.Header().Get("Location"))
			}
		})
	}
	t.Run("RFC 9700 §4.11.2 no parameter changes where the login page leads to", func(t *testing.T) {
		s := newTestServer(t)
		s.site.user, s.site.login = nil, "/login"
		params := asks("webapp", "return_to", "https://evil.example/", "state", "https://evil.example/", "host", "evil.example")
		r := httptest.NewRequest(http.MethodGet, "//evil.example/oauth/authorize?"+params.Encode(), nil)
		r.URL.Path, r.Host = "/oauth/authorize", "evil.example"
		r.Header.Set("X-Forwarded-Host", "evil.example")
		returnTo(t, s.do(t, r))
	})
	t.Run("RFC 6749 §4.1.2.1 a bad request is refused before the login", func(t *testing.T) {
		s := newTestServer(t)
		s.site.user, s.site.login = nil, "/login"
		s.get(t, asks("webapp", "scope", "magic")).check(t, http.StatusSeeOther, "invalid_scope")
	})
	t.Run("RFC 6749 §10.15 a bad redirect_uri is refused before the login", func(t *testing.T) {
		s := newTestServer(t)
		s.site.user, s.site.login = nil, "/login"
		a := s.get(t, asks("webapp", "redirect_uri", "https://evil.example/"))
		a.check(t, http.StatusBadRequest, "invalid_request")
		checkErrorPage(t, a)
	})
}

func TestPromptNoneShowsNothing(t *testing.T) {
	t.Run("OpenID Connect Core §3.1.2.1 a code where all is approved", func(t *testing.T) {
		s := newTestServer(t)
		s.code(t, asks("webapp"))
		a := s.get(t, asks("webapp", "prompt", "none"))
		if a.location().Get("code") == "" {
			t.Errorf("%d %s", a.Code, a.Header().Get("Location"))
		}
	})
	t.Run("OpenID Connect Core §3.1.2.1 no login page", func(t *testing.T) {
		s := newTestServer(t)
		s.site.user, s.site.login = nil, "/login"
		s.get(t, asks("webapp", "prompt", "none")).check(t, http.StatusSeeOther, "login_required")
	})
	t.Run("RFC 9700 §4.11.2 no code for an app that others can pose as", func(t *testing.T) {
		s := newTestServer(t)
		s.code(t, asks("native"))
		s.get(t, asks("native", "prompt", "none")).check(t, http.StatusSeeOther, "consent_required")
	})
}

func TestPromptLogin(t *testing.T) {
	// start sends alice, who is signed in, to the login page, and returns the URL to which that returns.
	start := func(t *testing.T, params url.Values) (*testServer, *url.URL) {
		t.Helper()
		s := newTestServer(t, withoutConsent("webapp"))
		s.site.login = "/login"
		return s, returnTo(t, s.get(t, params))
	}
	login := asks("webapp", "prompt", "login")

	t.Run("OpenID Connect Core §3.1.2.1 no code for who comes back without signing in", func(t *testing.T) {
		s, back := start(t, login)
		s.visit(t, back).check(t, http.StatusSeeOther, "login_required")
	})
	t.Run("OpenID Connect Core §3.1.2.1 a code for who signs in, as nobody was", func(t *testing.T) {
		s, back := start(t, login)
		alice := s.site.user
		s.site.user = nil
		back = returnTo(t, s.visit(t, back))
		s.site.user = alice
		if a := s.visit(t, back); a.location().Get("code") == "" {
			t.Errorf("after the login: %d %s", a.Code, a.Header().Get("Location"))
		}
	})
	t.Run("OpenID Connect Core §3.1.2.1 a code for who signs in as somebody else", func(t *testing.T) {
		s, back := start(t, login)
		s.site.user = &User{Subject: "bob"}
		if a := s.visit(t, back); a.location().Get("code") == "" {
			t.Errorf("after the login: %d %s", a.Code, a.Header().Get("Location"))
		}
	})
	t.Run("OpenID Connect Core §3.1.2.1 the consent page comes after the login", func(t *testing.T) {
		s, back := start(t, asks("webapp", "prompt", "login consent"))
		s.site.user = &User{Subject: "bob"}
		a := s.decide(t, s.visit(t, back), "allow")
		if a.location().Get("code") == "" {
			t.Errorf("after consent: %d %s", a.Code, a.Header().Get("Location"))
		}
	})
	t.Run("nobody is signed in after the login page", func(t *testing.T) {
		s, back := start(t, login)
		s.site.user = nil
		returnTo(t, s.visit(t, back))
	})
	t.Run("login_required where the site has no login page", func(t *testing.T) {
		newTestServer(t).get(t, login).check(t, http.StatusSeeOther, "login_required")
	})

	// Without proof that this request was at the login page, the person is sent there again.
	_, stale := start(t, login)
	for name, forge := range map[string]func(*testServer, url.Values){
		"by hand":            func(_ *testServer, q url.Values) { q.Set("after_login", "1") },
		"of another server":  func(_ *testServer, q url.Values) { q.Set("after_login", stale.Query().Get("after_login")) },
		"of another request": func(_ *testServer, q url.Values) { q.Set("state", "other") },
		"of another client":  func(_ *testServer, q url.Values) { q.Set("client_id", "spa"); q.Del("redirect_uri") },
		"of more scopes":     func(_ *testServer, q url.Values) { q.Set("scope", "orders") },
		"changed":            func(_ *testServer, q url.Values) { q.Set("after_login", flip(q.Get("after_login"))) },
		"expired":            func(s *testServer, _ url.Values) { s.clock.Advance(maxLogin) },
		"of a consent page": func(s *testServer, q url.Values) {
			s.config.Clients["webapp"].Consent = "always"
			s.site.user = &User{Subject: "bob"}
			a := s.visit(t, &url.URL{Path: "/oauth/authorize", RawQuery: q.Encode()})
			q.Set("after_login", a.sealed(t))
		},
	} {
		t.Run("a proof "+name+" proves nothing", func(t *testing.T) {
			s, back := start(t, login)
			q := back.Query()
			forge(s, q)
			back.RawQuery = q.Encode()
			again := returnTo(t, s.visit(t, back)).Query()
			if again.Get("after_login") == "" || again.Get("after_login") == q.Get("after_login") {
				t.Errorf("the way back has the proof %q", again.Get("after_login"))
			}
		})
	}
	t.Run("a proof is valid until it expires", func(t *testing.T) {
		s, back := start(t, login)
		s.clock.Advance(maxLogin - time.Second)
		s.site.user = &User{Subject: "bob"}
		if a := s.visit(t, back); a.location().Get("code") == "" {
			t.Errorf("%d %s", a.Code, a.Header().Get("Location"))
		}
	})
	t.Run("a proof that is not asked for is not passed on", func(t *testing.T) {
		s := newTestServer(t)
		s.site.user, s.site.login = nil, "/login"
		if back := returnTo(t, s.get(t, asks("webapp", "after_login", "1"))); back.Query().Has("after_login") {
			t.Errorf("the login page would lead back to %s", back)
		}
	})
	t.Run("the store fails", func(t *testing.T) {
		s := newTestServer(t)
		s.site.login, s.store.Err = "/login", errors.New("down")
		s.get(t, login).check(t, http.StatusSeeOther, "temporarily_unavailable")
	})
}

// flip changes one character in the middle of a sealed text.
func flip(sealed string) string {
	i := len(sealed) / 2
	other := "A"
	if sealed[i] == 'A' {
		other = "B"
	}
	return sealed[:i] + other + sealed[i+1:]
}
