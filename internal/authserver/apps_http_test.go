package authserver

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// openApps requests the page with a query, and returns the page and its text.
func (s *testServer) openApps(t *testing.T, query string) (answer, string) {
	t.Helper()
	a := s.do(t, httptest.NewRequest(http.MethodGet, "/oauth/apps"+query, nil))
	a.check(t, http.StatusOK, "")
	checkNotFramed(t, a)
	_, text := pagestest.Parts(strings.NewReader(strings.ReplaceAll(a.Body.String(), "</d", " </d"))) // a space after each <dt> and <dd>
	return a, strings.Join(strings.Fields(text), " ")
}

// remove presses a button of the page.
func (s *testServer) remove(t *testing.T, page answer, pairs ...string) answer {
	t.Helper()
	return s.do(t, postRequest("/oauth/apps", merge(url.Values{"request": {page.sealed(t)}}, pairs...).Encode()))
}

func (a answer) leadsTo(t *testing.T, location string) {
	t.Helper()
	if got := a.Header().Get("Location"); a.Code != http.StatusSeeOther || got != location { // RFC 9700 §4.12
		t.Fatalf("%d to %q, want 303 to %q: %s", a.Code, got, location, a.Body)
	}
	checkNotFramed(t, a)
}

// held are the tokens that a client has for a person's account.
type held struct {
	client          string
	access, refresh string
}

// connect makes the signed-in person allow a client, and returns the client's tokens.
func (s *testServer) connect(t *testing.T, client string) held {
	t.Helper()
	form := redeems(s.code(t, asks(client)))
	if client != "webapp" {
		form = merge(form, "client_id", client, "redirect_uri", testClients()[client].RedirectURIs[0])
	}
	a := s.token(t, form)
	a.check(t, http.StatusOK, "")
	body := a.json(t)
	return held{client, body["access_token"].(string), body["refresh_token"].(string)}
}

// lives checks whether the tokens are valid at the guard, at introspection and for a refresh. A test does it last, since a
// refresh changes the tokens.
func (s *testServer) lives(t *testing.T, h held, want bool) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/api", nil)
	r.Header.Set("Authorization", "Bearer "+h.access)
	_, err := (&bearer.Resource{Source: s, Audience: []string{testAPI}}).Check(r, new(bearer.Tokens), "")
	var refusal *bearer.Error
	switch {
	case want && err != nil:
		t.Errorf("%s at the guard: %v", h.client, err)
	case !want && (!errors.As(err, &refusal) || refusal.Status != http.StatusUnauthorized || refusal.Code != "invalid_token"):
		t.Errorf("%s at the guard: %v, want 401 invalid_token", h.client, err)
	}
	for _, token := range []string{h.access, h.refresh} {
		if h.client != "webapp" {
			break // a public client may not introspect
		}
		r := postRequest("/oauth/introspect", url.Values{"token": {token}}.Encode())
		r.SetBasicAuth("webapp", url.QueryEscape(webSecret))
		if active := s.do(t, r).json(t)["active"]; active != want { // RFC 7662 §4
			t.Errorf("%s at introspection: active is %v, want %v", h.client, active, want)
		}
	}
	form := refreshes(h.refresh)
	if h.client != "webapp" {
		form.Set("client_id", h.client)
	}
	if a := s.token(t, form); want {
		a.check(t, http.StatusOK, "")
	} else {
		a.check(t, http.StatusBadRequest, "invalid_grant")
	}
}

func TestAppsPageSaysWhoHasAccess(t *testing.T) {
	s := newTestServer(t)
	s.site.user.Claims = map[string]any{"name": "Alice Doe"}
	if _, text := s.openApps(t, ""); !strings.Contains(text, "No app has access to your account.") {
		t.Errorf("without apps: %s", text)
	}
	s.connect(t, "webapp")
	s.code(t, asks("native", "scope", "orders"))
	s.clock.Advance(3 * time.Hour)
	_, text := s.openApps(t, "")
	for _, want := range []string{
		"Alice Doe (alice)", "on example.com",
		"The app webapp Where app.example.com Can use your name your orders Since " + epoch.UTC().Format("2 January 2006") + " Last used 3 hours ago Remove",
		"The app native Where a device of yours (com.example.app) a device of yours (127.0.0.1) a device of yours (::1) Can use your orders Since",
		"Last used not yet", "Remove all apps",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q: %s", want, text)
		}
	}
	s.site.user = &User{Subject: "bob"}
	if _, text := s.openApps(t, ""); !strings.Contains(text, "No app has access to your account.") || strings.Contains(text, "webapp") {
		t.Errorf("another user sees %s", text)
	}
}

func TestRemovedAppIsDead(t *testing.T) {
	for name, edit := range map[string]func(*Config){
		"JWT":    func(*Config) {},
		"opaque": func(c *Config) { c.AccessToken.Opaque = true },
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, edit)
			removed, other := s.connect(t, "webapp"), s.connect(t, "spa")
			unused := s.code(t, asks("webapp"))
			s.site.user = &User{Subject: "bob"}
			bobs := s.connect(t, "webapp")
			s.site.user = &User{Subject: "alice"}

			list, _ := s.openApps(t, "")
			if body := list.Body.String(); strings.Contains(body, "<form") || !strings.Contains(body, `href="/oauth/apps?client=webapp"`) {
				t.Errorf("the list does not ask before it removes: %s", body)
			}
			page, _ := s.openApps(t, "?client=webapp")
			s.remove(t, page, "client", "webapp").leadsTo(t, "/oauth/apps?removed=webapp")
			_, text := s.openApps(t, "?removed=webapp")
			if !strings.Contains(text, "The app webapp has no access any more.") || strings.Contains(text, "app.example.com") || !strings.Contains(text, "The app spa") {
				t.Errorf("after the removal: %s", text)
			}
			s.lives(t, removed, false)
			s.token(t, redeems(unused)).check(t, http.StatusBadRequest, "invalid_grant")
			if !s.asked(t, asks("webapp")) {
				t.Error("the next authorization request does not ask for consent")
			}
			s.lives(t, other, true)
			s.lives(t, bobs, true)
			if s.asked(t, asks("spa")) {
				t.Error("another app lost its consent")
			}

			again := s.connect(t, "webapp") // in the next second
			if _, text := s.openApps(t, "?removed=webapp"); !strings.Contains(text, "Last used within the last hour") || strings.Contains(text, "any more") {
				t.Errorf("after it was allowed again: %s", text)
			}
			s.lives(t, again, true)
		})
	}
}

func TestRemoveAllApps(t *testing.T) {
	s := newTestServer(t)
	webapp, spa := s.connect(t, "webapp"), s.connect(t, "spa")
	s.site.user = &User{Subject: "bob"}
	bobs := s.connect(t, "spa")
	s.site.user = &User{Subject: "alice"}

	page, text := s.openApps(t, "?all=1")
	if !strings.Contains(text, "Remove all apps?") || !strings.Contains(text, "The app webapp The app spa") && !strings.Contains(text, "The app spa The app webapp") {
		t.Errorf("the page that asks: %s", text)
	}
	if _, text := s.openApps(t, ""); !strings.Contains(text, "The app webapp") {
		t.Fatalf("a GET has already removed the app: %s", text)
	}
	s.remove(t, page, "all", "1").leadsTo(t, "/oauth/apps")
	if _, text := s.openApps(t, "?all=1"); !strings.Contains(text, "No app has access to your account.") {
		t.Errorf("after the removal: %s", text)
	}
	s.lives(t, webapp, false)
	s.lives(t, spa, false)
	s.lives(t, bobs, true)
	if !s.asked(t, asks("webapp")) || !s.asked(t, asks("spa")) {
		t.Error("an app need not ask again")
	}
}

// A forged post changes nothing, and leads to the page that asks (RFC 6749 §10.12).
func TestForeignPostRemovesNothing(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, s *testServer, form url.Values){
		"tampered with": func(_ *testing.T, _ *testServer, form url.Values) { form.Set("request", flip(form.Get("request"))) },
		"cut off":       func(_ *testing.T, _ *testServer, form url.Values) { form.Set("request", form.Get("request")[:20]) },
		"made up":       func(_ *testing.T, _ *testServer, form url.Values) { form.Set("request", "webapp") },
		"not there":     func(_ *testing.T, _ *testServer, form url.Values) { form.Del("request") },
		"expired":       func(_ *testing.T, s *testServer, _ url.Values) { s.clock.Advance(maxApps) },
		"a consent page's": func(t *testing.T, s *testServer, form url.Values) {
			t.Helper()
			form.Set("request", s.get(t, asks("native")).sealed(t))
		},
		"another user's": func(t *testing.T, s *testServer, form url.Values) {
			t.Helper()
			s.site.user = &User{Subject: "bob"}
			s.connect(t, "spa")
			page, _ := s.openApps(t, "?all=1")
			form.Set("request", page.sealed(t))
			s.site.user = &User{Subject: "alice"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t)
			s.connect(t, "spa")
			page, _ := s.openApps(t, "?all=1")
			form := url.Values{"request": {page.sealed(t)}}
			spoil(t, s, form)
			tokens := s.connect(t, "webapp")
			for query, asks := range map[string]string{"client=webapp": "Remove The app webapp?", "all=1": "Remove all apps?"} {
				name, value, _ := strings.Cut(query, "=")
				s.do(t, postRequest("/oauth/apps", merge(form, name, value).Encode())).leadsTo(t, "/oauth/apps?"+query)
				if _, text := s.openApps(t, "?"+query); !strings.Contains(text, asks) {
					t.Errorf("the page it leads to: %s", text)
				}
			}
			s.lives(t, tokens, true)
			if s.asked(t, asks("webapp")) {
				t.Error("the consent was removed")
			}
		})
	}
}

// Removing an app without access writes nothing, since every revocation takes space for a record.
func TestRemovalOfNothing(t *testing.T) {
	for _, pairs := range [][]string{{"client", "webapp"}, {"client", "nobody"}, {"all", "1"}, {"client", ""}, {"client", "nobody", "all", "1"}} {
		s := newTestServer(t)
		s.connect(t, "spa")
		page, _ := s.openApps(t, "?all=1")
		if err := s.revoker.forget(t.Context(), "alice", ""); err != nil {
			t.Fatal(err)
		}
		if a := s.remove(t, page, pairs...); a.Code != http.StatusSeeOther || !strings.HasPrefix(a.Header().Get("Location"), "/oauth/apps") {
			t.Errorf("%v: %d %s", pairs, a.Code, a.Header().Get("Location"))
		}
		if n := s.store.Count(t, storage.KindCutoff); n != 0 {
			t.Errorf("%v: %d cutoffs", pairs, n)
		}
	}
}

func TestAppsOfNobody(t *testing.T) {
	s := newTestServer(t)
	tokens := s.connect(t, "webapp")
	page, _ := s.openApps(t, "?all=1")
	s.site.user = nil
	s.do(t, httptest.NewRequest(http.MethodGet, "/oauth/apps", nil)).check(t, http.StatusUnauthorized, "login_required")
	s.remove(t, page, "client", "webapp").check(t, http.StatusUnauthorized, "login_required")

	s.site.login = "/login"
	s.do(t, httptest.NewRequest(http.MethodGet, "/oauth/apps?client=webapp&x=y", nil)).leadsTo(t, "/login?return_to=%2Foauth%2Fapps%3Fclient%3Dwebapp")
	s.remove(t, page, "client", "webapp").leadsTo(t, "/login?return_to=%2Foauth%2Fapps%3Fclient%3Dwebapp")
	s.site.user = &User{Subject: "alice"}
	s.lives(t, tokens, true)

	// After the login, the page asks, and its button removes the app.
	page, text := s.openApps(t, "?client=webapp")
	if !strings.Contains(text, "Remove The app webapp?") {
		t.Errorf("after the login: %s", text)
	}
	s.remove(t, page, "client", "webapp").leadsTo(t, "/oauth/apps?removed=webapp")
}

// oldLogin is a password grant that accepts every password.
type oldLogin struct{ *grants.Password }

func (l oldLogin) ProvideVerifier() grants.Verifier { return l }

func (oldLogin) Verify(_ context.Context, username, _ string) (*grants.Person, error) {
	return &grants.Person{Subject: username}, nil
}

// The page also lists apps that got access without consent: the owner's own, and those with the password grant.
func TestAppsWithoutConsent(t *testing.T) {
	s := newTestServer(t, withoutConsent("spa"), func(c *Config) {
		c.Grants = append(c.Grants, oldLogin{new(grants.Password)})
		c.Clients["webapp"].GrantTypes = []string{"password", "refresh_token"}
	})
	own := s.connect(t, "spa")
	body := s.token(t, url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"x"}, "scope": {"orders"}}).json(t)
	old := held{"webapp", body["access_token"].(string), body["refresh_token"].(string)}

	_, text := s.openApps(t, "")
	for _, want := range []string{"The app spa Where spa.example.com Can use your name your orders", "can connect again without asking you", "The app webapp Where app.example.com Can use your orders Since"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q: %s", want, text)
		}
	}
	page, _ := s.openApps(t, "?client=spa")
	s.remove(t, page, "client", "spa").leadsTo(t, "/oauth/apps?removed=spa")
	s.lives(t, own, false)
	s.lives(t, old, true)
	s.remove(t, page, "client", "webapp")
	s.lives(t, old, false)

	// The person has not approved it, so as soon as consent is required, the person is asked.
	s.connect(t, "spa")
	s.openApps(t, "")
	s.config.Clients["spa"].Consent = storage.ConsentOnce
	if !s.asked(t, asks("spa")) {
		t.Error("a token without consent counts as an approval")
	}
}
