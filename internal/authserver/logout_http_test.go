package authserver

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// The key of an ID token may have been retired since. Then nothing tells whose it was.
func TestLogoutWithTheHintOfARetiredKey(t *testing.T) {
	s := newLogoutServer(t)
	tokens := s.signIn(t, "webapp")
	kid := decoded(t, tokens["id_token"].(string), 0)["kid"].(string)
	if _, err := s.Owner().RotateKey(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := s.Owner().RetireKey(t.Context(), kid); err != nil {
		t.Fatal(err)
	}
	s.logout(t, hinted(tokens)).logoutPage(t, askHeading)
}

// A client with subjects of its own gets sessions of its own too, and both in a logout token are those of its ID tokens.
func TestLogoutOfPairwiseClient(t *testing.T) {
	s := newLogoutServer(t, client("webapp", func(c *storage.Client) { c.OpenID.Sector = "app.example.com" }), func(c *Config) { c.PairwiseSalt = strings.Repeat("x", 32) })
	tokens := s.signIn(t, "webapp")
	id := s.idToken(t, "ES256", tokens["id_token"])
	s.atSite(t, s.logout(t, hinted(tokens)))
	s.send(t)
	told := s.idToken(t, "ES256", s.told.got()[0])
	if id["sub"] == "alice" || id["sid"] == "s1" || told["sub"] != id["sub"] || told["sid"] != id["sid"] {
		t.Errorf("ID token %v, logout token %v", id, told)
	}
}

// Without a session of the site, only the sign-ins at the client end, or, as the owner has set it, all.
func TestLogoutWithoutSessions(t *testing.T) {
	for _, all := range []bool{false, true} {
		s := newLogoutServer(t, func(c *Config) { c.LogoutEndsAll = all })
		s.site.user.Session.ID = ""
		one, two := s.signIn(t, "webapp"), s.signIn(t, "other")
		s.atSite(t, s.logout(t, hinted(one)))
		s.send(t)
		if want := map[bool]int{false: 1, true: 2}[all]; len(s.told.got()) != want || s.alive(t, one) || s.alive(t, two) == all {
			t.Errorf("all %v: %d clients told, want %d; the tokens of the other one live: %v", all, len(s.told.got()), want, s.alive(t, two))
		}
	}
}

// Tokens with offline_access are for when the person has signed out (OpenID Connect Back-Channel Logout §2.7).
func TestLogoutLeavesOfflineAccess(t *testing.T) {
	s := newLogoutServer(t)
	tokens := s.signIn(t, "webapp", "scope", "openid offline_access")
	s.atSite(t, s.logout(t, hinted(tokens)))
	s.send(t)
	if !s.alive(t, tokens) || len(s.told.got()) != 1 {
		t.Errorf("alive %v, told %d times", s.alive(t, tokens), len(s.told.got()))
	}
}

// A site that cannot sign people out is not said to have done so.
func TestLogoutOfSiteWithoutPage(t *testing.T) {
	s := newLogoutServer(t)
	tokens := s.signIn(t, "webapp")
	text := s.do(t, httptest.NewRequest(http.MethodGet, "/oauth/logout?"+hinted(tokens).Encode(), nil)).logoutPage(t, appsHeading)
	if !strings.Contains(text, "You stay signed in to example.com") || !strings.Contains(text, "Continue to The app webapp") {
		t.Errorf("the page says %s", text)
	}
	if s.alive(t, tokens) {
		t.Error("the tokens live on")
	}
}

func TestLogoutOfSiteThatDoesNot(t *testing.T) {
	s := newLogoutServer(t)
	a := s.logout(t, hinted(s.signIn(t, "webapp")))
	back := a.location().Get("return_to")
	s.doAt(t, httptest.NewRequest(http.MethodGet, back, nil), logoutSite{s.testServer.site}).logoutPage(t, appsHeading)
	s.site.user = nil
	s.clock.Advance(2 * time.Hour)
	s.doAt(t, httptest.NewRequest(http.MethodGet, back, nil), logoutSite{s.testServer.site}).check(t, http.StatusForbidden, "invalid_request")
	s.doAt(t, httptest.NewRequest(http.MethodGet, "/oauth/logout?after_logout=AAAA", nil), logoutSite{s.testServer.site}).check(t, http.StatusForbidden, "invalid_request")
}

// Nobody is signed out by a website, by somebody else's ID token, or by an old one.
func TestLogoutOfOthers(t *testing.T) {
	s := newLogoutServer(t)
	old := s.signIn(t, "webapp")
	s.site.user = &User{Subject: "bob", Session: storage.SiteSession{ID: "b1"}}
	bobs := s.signIn(t, "webapp")
	s.site.user = &User{Subject: "alice", Session: storage.SiteSession{ID: "s2"}}
	mine := s.signIn(t, "webapp")
	for name, hint := range map[string]map[string]any{"of another session": old, "of another person": bobs} {
		s.logout(t, hinted(hint)).logoutPage(t, askHeading)
		s.postLogout(t, hinted(hint)).logoutPage(t, askHeading)
		s.postLogout(t, hinted(hint), header("Sec-Fetch-Site", "cross-site")).logoutPage(t, askHeading)
		if !s.alive(t, mine) || !s.alive(t, bobs) || !s.alive(t, old) {
			t.Errorf("a hint %s has ended tokens", name)
		}
	}
	// A page that was shown to bob is worth nothing to alice, and none is worth anything on another site.
	s.site.user.Subject = "bob"
	page := s.logout(t, nil)
	form := url.Values{"request": {page.sealed(t)}, "decision": {"sign_out"}}
	s.postLogout(t, form, header("Sec-Fetch-Site", "cross-site")).check(t, http.StatusForbidden, "invalid_request")
	s.site.user.Subject = "alice"
	s.postLogout(t, form).check(t, http.StatusForbidden, "invalid_request")
	s.postLogout(t, url.Values{"request": {"AAAA"}, "decision": {"sign_out"}}).check(t, http.StatusForbidden, "invalid_request")
	// Whoever is not signed in ends nothing with somebody's ID token.
	s.site.user = nil
	if got := s.logout(t, hinted(mine)).Header().Get("Location"); got != bye+"?state=a%26b" {
		t.Errorf("to %q", got)
	}
	for _, tokens := range []map[string]any{mine, bobs, old} {
		if !s.alive(t, tokens) {
			t.Error("tokens have ended")
		}
	}
	// The ID of another client than that of the hint is a mistake, or an attempt to get redirected elsewhere.
	s.logout(t, hinted(mine, "client_id", "other")).check(t, http.StatusBadRequest, "invalid_request")
	s.logout(t, url.Values{"client_id": {"nobody"}}).check(t, http.StatusBadRequest, "invalid_client")
}

// The button of the site itself signs out without a question.
func TestLogoutByTheSite(t *testing.T) {
	s := newLogoutServer(t)
	tokens := s.signIn(t, "webapp")
	s.logout(t, nil, header("Sec-Fetch-Site", "same-origin")).logoutPage(t, askHeading) // a GET is no button
	s.postLogout(t, nil, header("Sec-Fetch-Site", "same-site")).logoutPage(t, askHeading)
	s.atSite(t, s.postLogout(t, nil, header("Sec-Fetch-Site", "same-origin"))).logoutPage(t, outHeading)
	if s.alive(t, tokens) {
		t.Error("the tokens live on")
	}
}

// A browser that sends no cookies with a POST of another site sends them with the GET that follows.
func TestLogoutPostWithoutCookies(t *testing.T) {
	s := newLogoutServer(t)
	tokens := s.signIn(t, "webapp")
	user := s.site.user
	s.site.user = nil
	a := s.postLogout(t, hinted(tokens), header("Sec-Fetch-Site", "cross-site"))
	s.site.user = user
	to, _ := url.Parse(a.Header().Get("Location"))
	if a.Code != http.StatusSeeOther || to.Path != "/oauth/logout" {
		t.Fatalf("%d to %s", a.Code, to)
	}
	s.atSite(t, s.logout(t, to.Query()))
	if s.alive(t, tokens) {
		t.Error("the tokens live on")
	}
}

// The owner ends a session, or all that a person has.
func TestSessionsEndedByOwner(t *testing.T) {
	s := newLogoutServer(t)
	one := s.signIn(t, "webapp")
	s.site.user.Session.ID = "s2"
	two := s.signIn(t, "other")
	if found, err := s.Owner().EndSession(t.Context(), "nothing"); found || err != nil {
		t.Errorf("%v, %v", found, err)
	}
	if found, err := s.Owner().EndSession(t.Context(), "s1"); !found || err != nil || s.alive(t, one) || !s.alive(t, two) {
		t.Errorf("%v, %v", found, err)
	}
	s.send(t)
	if err := s.revoker.Revoke(t.Context(), "alice", "", "closed", ""); err != nil || s.alive(t, two) {
		t.Fatal(err)
	}
	s.send(t)
	tokens := s.told.got()
	if len(tokens) != 2 || s.idToken(t, "ES256", tokens[0])["sid"] != "s1" || s.idToken(t, "ES256", tokens[1])["sid"] != "s2" {
		t.Errorf("%d logout tokens", len(tokens))
	}
	if n := s.store.Count(t, storage.KindLogout); n != 0 {
		t.Errorf("%d logouts are left", n)
	}
}

// The site, as a client of its own, ends sessions: one, or all of a person. No other client can.
func TestSessionsEndpoint(t *testing.T) {
	s := newLogoutServer(t, client("billing", func(c *storage.Client) { c.EndsSessions = true }))
	one := s.signIn(t, "webapp")
	s.site.user.Session.ID = "s2"
	two := s.signIn(t, "other")
	end := func(id string, form url.Values) answer {
		r := postRequest("/oauth/sessions", form.Encode())
		r.SetBasicAuth(id, url.QueryEscape(webSecret))
		return s.do(t, r)
	}
	end("webapp", url.Values{"sid": {"s1"}}).check(t, http.StatusBadRequest, "unauthorized_client")
	end("billing", url.Values{}).check(t, http.StatusBadRequest, "invalid_request")
	s.do(t, postRequest("/oauth/sessions", "sid=s1")).check(t, http.StatusUnauthorized, "invalid_client")
	for _, form := range []url.Values{{"sid": {"nothing"}}, {"sid": {"s1"}, "sub": {"bob"}}, {"sub": {"bob"}}} {
		if a := end("billing", form); a.Code != http.StatusOK || a.json(t)["ended"] != false {
			t.Errorf("%v: %d %s", form, a.Code, a.Body)
		}
	}
	if !s.alive(t, one) {
		t.Error("the tokens have ended")
	}
	if a := end("billing", url.Values{"sid": {"s1"}}); a.json(t)["ended"] != true || s.alive(t, one) || !s.alive(t, two) {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	if a := end("billing", url.Values{"sub": {"alice"}}); a.json(t)["ended"] != true || s.alive(t, two) {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	s.send(t)
	if n := len(s.told.got()); n != 2 {
		t.Errorf("%d clients told", n)
	}
}

// What does not sign anybody in leaves no record.
func TestNoSessionsWithoutOpenID(t *testing.T) {
	s := newLogoutServer(t)
	s.code(t, asks("webapp", "scope", "orders"))
	s.code(t, asks("spa"))
	if n := s.store.Count(t, storage.KindSession); n != 0 {
		t.Errorf("%d records", n)
	}
}

// An application that signs the person in again while the site signs the person out gets nothing for good.
func TestSignInDuringALogout(t *testing.T) {
	s := newLogoutServer(t)
	a := s.logout(t, hinted(s.signIn(t, "webapp")))
	again := s.signIn(t, "webapp")
	s.site.user.Session.ID = "s2"
	elsewhere := s.signIn(t, "webapp")
	if s.atSite(t, a); s.alive(t, again) || !s.alive(t, elsewhere) {
		t.Errorf("in the session: alive %v; in another one: alive %v", s.alive(t, again), s.alive(t, elsewhere))
	}
	if s.send(t); len(s.told.got()) != 2 {
		t.Errorf("%d logout tokens, want one for each sign-in in the session", len(s.told.got()))
	}
}

// Whose a session is, is forgotten when the session has ended, and also if its tokens never end.
func TestSessionsAreForgotten(t *testing.T) {
	forever := client("webapp", func(c *storage.Client) { c.RefreshToken.Lifetime = 0 })
	for name, end := range map[string]func(t *testing.T, s *logoutServer){
		"ended": func(t *testing.T, s *logoutServer) {
			t.Helper()
			if found, err := s.Owner().EndSession(t.Context(), "s1"); !found || err != nil {
				t.Errorf("%v, %v", found, err)
			}
			s.clock.Advance(48 * time.Hour)
		},
		"not used": func(t *testing.T, s *logoutServer) {
			t.Helper()
			s.clock.Advance(300 * 24 * time.Hour)
			s.site.user.Session.ID = "s2"
			s.signIn(t, "webapp")
			s.site.user.Session.ID = "s1"
			s.signIn(t, "webapp")
			s.clock.Advance(300 * 24 * time.Hour)
			if owner, err := s.sessions.owner(t.Context(), "s1"); owner != "alice" || err != nil {
				t.Errorf("a session that was used meanwhile is that of %q, %v", owner, err)
			}
			s.clock.Advance(102 * 24 * time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newLogoutServer(t, forever)
			s.signIn(t, "webapp")
			if owner, err := s.sessions.owner(t.Context(), "s1"); owner != "alice" || err != nil {
				t.Errorf("%q, %v", owner, err)
			}
			end(t, s)
			if owner, err := s.sessions.owner(t.Context(), "s1"); owner != "" || err != nil {
				t.Errorf("still that of %q, %v", owner, err)
			}
		})
	}
}

// The way back to an app is a link of its own scheme, which no template makes a dead one.
func TestLogoutLinksToAnApp(t *testing.T) {
	const app = "com.example.app:/bye"
	s := newLogoutServer(t, client("webapp", func(c *storage.Client) { c.OpenID.PostLogoutRedirectURIs = []string{app} }))
	a := s.do(t, httptest.NewRequest(http.MethodGet, "/oauth/logout?"+hinted(s.signIn(t, "webapp"), "post_logout_redirect_uri", app).Encode(), nil))
	if a.logoutPage(t, appsHeading); !strings.Contains(a.Body.String(), `href="`+app+`?state=a%26b"`) {
		t.Errorf("the page is %s", a.Body)
	}
}
