package authserver

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// asked reports whether an authorization request leads to the consent page instead of a code.
func (s *testServer) asked(t *testing.T, params url.Values) bool {
	t.Helper()
	a := s.get(t, params)
	switch {
	case a.Code == http.StatusOK:
		return a.sealed(t) != ""
	case a.location().Get("code") == "":
		t.Fatalf("neither page nor code: %d %s", a.Code, a.Header().Get("Location"))
	}
	return false
}

func TestConsentPageSaysWhoAsksForWhat(t *testing.T) {
	s := newTestServer(t)
	s.site.user.Claims = map[string]any{"name": "Alice Doe"}
	a := s.get(t, asks("webapp"))
	a.check(t, http.StatusOK, "")
	checkNotFramed(t, a)
	_, text := pagestest.Parts(strings.NewReader(a.Body.String()))
	for _, want := range []string{
		"The app webapp", "your name", "your orders", testAPI, "Alice Doe (alice)", "app.example.com", "example.com",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q: %s", want, text)
		}
	}
	if strings.Contains(text, "new") {
		t.Errorf("everything is new, so the page must not mark scopes as new: %s", text)
	}
}

func TestConsentIsRemembered(t *testing.T) {
	wide := asks("webapp")
	narrow := merge(wide, "scope", "profile", "resource", testIssuer)
	other := func(s *testServer) { s.site.user = &User{Subject: "bob"} }
	tests := []struct {
		name     string
		edit     func(*Config)
		approved url.Values
		then     func(*testServer)
		request  url.Values
		asked    bool
	}{
		{name: "the same again", approved: wide, request: wide},
		{name: "fewer scopes", approved: wide, request: narrow},
		{name: "more scopes", approved: narrow, request: merge(narrow, "scope", "profile orders"), asked: true},
		{name: "more audience", approved: narrow, request: withValues(maps.Clone(narrow), "resource", testIssuer, testAPI), asked: true},
		{name: "other audience", approved: narrow, request: merge(narrow, "resource", testAPI), asked: true},
		{name: "a year later", approved: wide, request: wide, then: func(s *testServer) { s.clock.Advance(365 * 24 * time.Hour) }},
		{name: "OpenID Connect Core §3.1.2.1 prompt=consent", approved: wide, request: merge(wide, "prompt", "consent"), asked: true},
		{name: "another user", approved: wide, request: wide, then: other, asked: true},
		{name: "another client", approved: wide, request: asks("spa"), asked: true},
		{name: "consent always", edit: client("webapp", consent(storage.ConsentAlways)), approved: wide, request: wide, asked: true},
		{name: "consent never", edit: client("webapp", consent(storage.ConsentNever)), request: wide},
		{name: "consent never, but prompt=consent", edit: client("webapp", consent(storage.ConsentNever)), request: merge(wide, "prompt", "consent"), asked: true},
		{name: "public client with an https redirect", approved: asks("spa"), request: asks("spa")},
		{name: "RFC 8252 §8.6 public client with a private-use scheme", approved: asks("native"), request: asks("native"), asked: true},
		{name: "RFC 8252 §8.6 public client on a loopback address", approved: asks("native", "redirect_uri", "http://127.0.0.1:4000/callback"), request: asks("native", "redirect_uri", "http://127.0.0.1:4000/callback"), asked: true},
		{name: "RFC 8252 §8.6 public client with a private-use scheme, consent once", edit: client("native", consent(storage.ConsentOnce)), approved: asks("native"), request: asks("native")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t)
			if tt.edit != nil {
				tt.edit(&s.config)
			}
			if tt.approved != nil {
				s.code(t, tt.approved)
			}
			if tt.then != nil {
				tt.then(s)
			}
			if got := s.asked(t, tt.request); got != tt.asked {
				t.Errorf("asked is %t, want %t", got, tt.asked)
			}
		})
	}
	t.Run("approvals add up", func(t *testing.T) {
		s := newTestServer(t)
		s.code(t, merge(wide, "scope", "profile"))
		s.code(t, merge(wide, "scope", "orders"))
		if s.asked(t, wide) {
			t.Error("asked for scopes that were approved in two steps")
		}
	})
	t.Run("new scopes are marked", func(t *testing.T) {
		s := newTestServer(t)
		s.code(t, merge(wide, "scope", "profile"))
		_, text := pagestest.Parts(s.get(t, wide).Body)
		if strings.Count(text, "new") != 1 {
			t.Errorf("one scope is new: %s", text)
		}
	})
	t.Run("a denial is not remembered", func(t *testing.T) {
		s := newTestServer(t)
		s.decide(t, s.get(t, wide), "deny").check(t, http.StatusSeeOther, "access_denied")
		if !s.asked(t, wide) {
			t.Error("a code after a denial")
		}
	})
	t.Run("a denial removes no consent", func(t *testing.T) {
		s := newTestServer(t)
		s.code(t, wide)
		s.decide(t, s.get(t, merge(wide, "prompt", "consent")), "deny").check(t, http.StatusSeeOther, "access_denied")
		if s.asked(t, wide) {
			t.Error("asked again for scopes that were approved before")
		}
	})
}

func consent(mode storage.ConsentMode) func(*storage.Client) {
	return func(c *storage.Client) { c.Consent = mode }
}

func TestConsentAnswer(t *testing.T) {
	t.Run("RFC 9700 §4.12 allow leads to the client with 303", func(t *testing.T) {
		s := newTestServer(t)
		a := s.decide(t, s.get(t, asks("webapp")), "allow")
		a.check(t, http.StatusSeeOther, "")
		checkNotFramed(t, a)
		s.token(t, redeems(a.location().Get("code"))).check(t, http.StatusOK, "")
	})
	for _, decision := range []string{"deny", "ALLOW", "yes", "allow "} {
		t.Run("RFC 6749 §4.1.2.1 decision "+decision+" denies", func(t *testing.T) {
			s := newTestServer(t)
			a := s.decide(t, s.get(t, asks("webapp")), decision)
			a.check(t, http.StatusSeeOther, "access_denied")
			if got := a.location(); got.Get("state") != "xyz" || got.Get("iss") != testIssuer || got.Has("code") {
				t.Errorf("RFC 9207 §2: the redirect has %v", got)
			}
		})
	}
	t.Run("posting twice returns two codes, each of which works once", func(t *testing.T) {
		s := newTestServer(t)
		page := s.get(t, asks("webapp"))
		first, second := s.decide(t, page, "allow").location().Get("code"), s.decide(t, page, "allow").location().Get("code")
		if first == second {
			t.Fatal("the same code twice")
		}
		for _, code := range []string{first, second} {
			s.token(t, redeems(code)).check(t, http.StatusOK, "")
			s.token(t, redeems(code)).check(t, http.StatusBadRequest, "invalid_grant")
		}
	})
	t.Run("the page is valid until it expires", func(t *testing.T) {
		s := newTestServer(t)
		page := s.get(t, asks("webapp"))
		s.clock.Advance(maxAsk - time.Second)
		s.decide(t, page, "allow").check(t, http.StatusSeeOther, "")
	})
	t.Run("another node on the same store accepts it", func(t *testing.T) {
		s := newTestServer(t)
		page := s.get(t, asks("webapp"))
		s.restart(t, s.config)
		s.decide(t, page, "allow").check(t, http.StatusSeeOther, "")
	})
	t.Run("the store fails", func(t *testing.T) {
		s := newTestServer(t)
		page := s.get(t, asks("webapp"))
		s.store.Err = errors.New("down")
		s.decide(t, page, "allow").check(t, http.StatusSeeOther, "temporarily_unavailable")
	})
}

// A post that does not come from a page of this person approves nothing and redirects nowhere.
func TestConsentAnswerIsRefused(t *testing.T) {
	set := func(name, value string) func(*testServer, url.Values) {
		return func(_ *testServer, form url.Values) { form.Set(name, value) }
	}
	change := func(edit func(*storage.Client)) func(*testServer, url.Values) {
		return func(s *testServer, _ url.Values) { edit(s.config.Clients["webapp"]) }
	}
	for name, spoil := range map[string]func(*testServer, url.Values){
		"RFC 9700 §4.16 tampered with": func(_ *testServer, form url.Values) { form.Set("request", flip(form.Get("request"))) },
		"RFC 9700 §4.16 cut off":       func(_ *testServer, form url.Values) { form.Set("request", form.Get("request")[:20]) },
		"RFC 9700 §4.16 made up":       set("request", asks("webapp").Encode()),
		"RFC 9700 §4.16 not base64url": set("request", "§"),
		"RFC 9700 §4.16 expired":       func(s *testServer, _ url.Values) { s.clock.Advance(maxAsk) },
		"RFC 9700 §4.16 of another":    func(s *testServer, _ url.Values) { s.site.user = &User{Subject: "bob"} },
		"RFC 9700 §4.16 of nobody":     func(s *testServer, _ url.Values) { s.site.user = nil },
		"RFC 9700 §4.16 twice":         func(_ *testServer, form url.Values) { form["request"] = append(form["request"], "x") },
		"RFC 9700 §4.16 two decisions": func(_ *testServer, form url.Values) { form["decision"] = []string{"deny", "allow"} },
		"RFC 6749 §10.12 no request":   func(_ *testServer, form url.Values) { form.Del("request") },
		"RFC 6749 §10.12 no decision":  func(_ *testServer, form url.Values) { form.Del("decision") },
		"RFC 6749 §10.12 nothing":      func(_ *testServer, form url.Values) { clear(form) },
		"the client is gone":           func(s *testServer, _ url.Values) { delete(s.config.Clients, "webapp") },
		"the redirect URI was removed": change(func(c *storage.Client) { c.RedirectURIs = []string{"https://new.example.com/"} }),
		"a scope came":                 change(func(c *storage.Client) { c.Scopes = append(c.Scopes, "admin") }),
		"a scope went":                 change(func(c *storage.Client) { c.Scopes = c.Scopes[:1] }),
		"a resource was added":         change(func(c *storage.Client) { c.Audience = append(c.Audience, "https://new.example.com") }),
		"the user cannot have tokens":  func(s *testServer, _ url.Values) { s.site.user.Subject = "billing" },
		"the site fails":               func(s *testServer, _ url.Values) { s.site.err = errors.New("down") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t)
			form := url.Values{"request": {s.get(t, asks("webapp")).sealed(t)}, "decision": {"allow"}}
			spoil(s, form)
			a := s.post(t, form)
			if a.Code < 400 {
				t.Errorf("status %d", a.Code)
			}
			checkErrorPage(t, a)
			if records := s.store.Count(t, storage.KindConsent) + s.store.Count(t, storage.KindFamily); records != 0 {
				t.Errorf("%d records were made", records)
			}
		})
	}
}

func TestProofOfLoginIsNoConsent(t *testing.T) {
	s := newTestServer(t)
	s.site.login = "/login"
	proof := returnTo(t, s.get(t, asks("webapp", "prompt", "login"))).Query().Get("after_login")
	checkErrorPage(t, s.post(t, url.Values{"request": {proof}, "decision": {"allow"}}))
}

// A client's only redirect URI need not be in the request. If it changes, the page shown before is no longer valid.
func TestConsentAnswerGoesWhereThePageSaid(t *testing.T) {
	s := newTestServer(t)
	page := s.get(t, asks("webapp", "redirect_uri", ""))
	s.config.Clients["webapp"].RedirectURIs = []string{"https://new.example.com/"}
	checkErrorPage(t, s.decide(t, page, "allow"))
}

// A request that the configuration forbids since the page was shown is refused.
func TestConsentAnswerMeetsNewRules(t *testing.T) {
	for name, tt := range map[string]struct {
		edit   func(*storage.Client)
		params url.Values
		error  string
	}{
		"scope":      {func(c *storage.Client) { c.Scopes = c.Scopes[:1] }, asks("webapp", "scope", "orders"), "invalid_scope"},
		"resource":   {func(c *storage.Client) { c.Audience = c.Audience[:1] }, asks("webapp", "resource", testAPI), "invalid_target"},
		"grant type": {func(c *storage.Client) { c.GrantTypes = nil }, asks("webapp"), "unauthorized_client"},
		"PKCE":       {func(c *storage.Client) { c.SecretHashes = nil }, asks("webapp", "code_challenge", "", "code_challenge_method", ""), "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t)
			page := s.get(t, tt.params)
			tt.edit(s.config.Clients["webapp"])
			s.decide(t, page, "allow").check(t, http.StatusSeeOther, tt.error)
		})
	}
}

// A form on another site can make a browser post an authorization request. That shows the consent page, and is never an
// approval.
func TestForgedPostIsNoApproval(t *testing.T) {
	forms := []url.Values{
		asks("webapp"), asks("webapp", "decision", "allow"), asks("webapp", "decision", "allow", "consent", "1", "prompt", "none consent"),
		asks("webapp", "decision", "allow", "request", "x"),
		{"decision": {"allow"}},
	}
	for _, form := range forms {
		t.Run("RFC 6749 §10.12 "+strings.Join(slices.Sorted(maps.Keys(form)), " "), func(t *testing.T) {
			s := newTestServer(t)
			if a := s.post(t, form); a.location().Has("code") {
				t.Errorf("a code without consent: %s", a.Header().Get("Location"))
			}
			if !s.asked(t, asks("webapp")) || s.store.Count(t, storage.KindFamily) != 0 {
				t.Error("something was approved")
			}
		})
	}
}

// A page that was shown before access was revoked gives none back.
func TestConsentPageFromBeforeARevocation(t *testing.T) {
	for name, client := range map[string]string{"of the app": "webapp", "of all apps": ""} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t)
			other := s.node(t)
			page := s.get(t, asks("webapp"))
			s.clock.Advance(time.Second)
			other.revoke(t, "alice", client)
			s.decide(t, page, "allow").check(t, http.StatusForbidden, "invalid_request")
			if s.store.Count(t, storage.KindFamily) != 0 || s.store.Count(t, storage.KindConsent) != 0 {
				t.Error("the answer left a record")
			}
			if a := s.decide(t, s.get(t, asks("webapp")), "allow"); a.location().Get("code") == "" {
				t.Errorf("a page from after the revocation: %d %s", a.Code, a.Body)
			}
		})
	}
}

// Whoever had the record of the keys can make no form once a key of it is retired.
func TestConsentPageFromBeforeAKeyWasRetired(t *testing.T) {
	s := newTestServer(t)
	page := s.get(t, asks("webapp"))
	keys, err := s.keys.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Owner().RetireKey(t.Context(), keys[0].ID); err != nil {
		t.Fatal(err)
	}
	s.decide(t, page, "allow").check(t, http.StatusForbidden, "invalid_request")
	if s.code(t, asks("webapp")) == "" {
		t.Error("no code for a new page")
	}
}

// A browser says where a form comes from. Only this site's own pages are answered.
func TestFormsOfOtherSites(t *testing.T) {
	for _, tt := range []struct {
		name    string
		headers map[string]string
		refused bool
	}{
		{"this site", map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": testIssuer}, false},
		{"this site, without a referrer", map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "null"}, false},
		{"this site, in an old browser", map[string]string{"Origin": testIssuer}, false},
		{"a browser that says nothing", nil, false},
		{"an old browser that hides the origin", map[string]string{"Origin": "null"}, false},
		{"another site", map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, true},
		{"a site beside it", map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "https://evil.example.com"}, true},
		{"another site that hides itself", map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "null"}, true},
		{"another site, in an old browser", map[string]string{"Origin": "https://evil.example"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t)
			post := func(path string, form url.Values) answer {
				r := postRequest(path, form.Encode())
				for name, value := range tt.headers {
					r.Header.Set(name, value)
				}
				return s.do(t, r)
			}
			a := post("/oauth/authorize", url.Values{"request": {s.get(t, asks("webapp")).sealed(t)}, "decision": {"allow"}})
			if got := a.location().Get("code") == ""; got != tt.refused {
				t.Errorf("consent: %d %s", a.Code, a.Header().Get("Location"))
			}
			s.code(t, asks("webapp"))
			page, _ := s.openApps(t, "?all=1")
			post("/oauth/apps", url.Values{"request": {page.sealed(t)}, "client": {"webapp"}})
			if got := s.cutoffs.Count() == 0; got != tt.refused {
				t.Errorf("apps: %d revocations", s.cutoffs.Count())
			}
			// RFC 6749 §3.1: an authorization request may be posted by any site.
			if a := post("/oauth/authorize", asks("webapp", "prompt", "consent")); a.sealed(t) == "" {
				t.Errorf("a request: %d", a.Code)
			}
		})
	}
}
