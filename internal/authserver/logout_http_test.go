package authserver

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

const bye = "https://app.example.com/bye"

// receiver is where clients learn of logouts.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	tokens []string
	status int // of the next answers; 0: 200
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := new(receiver)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodPost || req.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || len(req.Cookies()) > 0 {
			t.Errorf("%s %s, header %v", req.Method, req.URL, req.Header)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.tokens = append(r.tokens, req.PostFormValue("logout_token"))
		if r.status != 0 {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(r.status)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.tokens)
}

func (r *receiver) answer(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// logoutServer is a server whose clients webapp and other sign people in, and learn of logouts.
type logoutServer struct {
	*testServer
	told *receiver
}

// logoutSite is a site with a page for signing out.
type logoutSite struct{ *testSite }

func (s logoutSite) LogoutURL(returnTo string) string {
	return "/sign-out?return_to=" + url.QueryEscape(returnTo)
}

func newLogoutServer(t *testing.T, edits ...func(*Config)) *logoutServer {
	t.Helper()
	told := newReceiver(t)
	signsIn := func(c *Config) {
		other := *c.Clients["webapp"]
		other.ID, other.Name, other.RedirectURIs = "other", "The app other", []string{webRedirect}
		c.Clients["other"] = &other
		for _, id := range []string{"webapp", "other"} {
			client := c.Clients[id]
			client.Scopes = append(slices.Clone(client.Scopes), "openid", "offline_access")
			client.OpenID = &storage.OpenIDPolicy{
				IDTokenAlgorithm: "ES256", PostLogoutRedirectURIs: []string{bye, bye + "?a=b"}, BackchannelLogoutURI: told.URL + "/" + id,
			}
		}
		c.OpenID, c.IDTokenAlgorithms = true, []string{"ES256"}
	}
	s := &logoutServer{newTestServer(t, append([]func(*Config){signsIn}, edits...)...), told}
	s.site.user = &User{Subject: "alice", Session: storage.Session{ID: "s1"}}
	if err := s.AddSite(SiteFacts{Claims: []string{"sid"}, SignsOut: true}); err != nil {
		t.Fatal(err)
	}
	return s
}

// signIn signs the person in at a client, and returns the client's tokens.
func (s *logoutServer) signIn(t *testing.T, id string, pairs ...string) map[string]any {
	t.Helper()
	params := merge(url.Values{
		"response_type": {"code"}, "client_id": {id}, "redirect_uri": {webRedirect}, "scope": {"openid orders"},
		"code_challenge": {s256(testVerifier)}, "code_challenge_method": {"S256"},
	}, pairs...)
	a := s.token(t, redeems(s.code(t, params)), func(r *http.Request) { r.SetBasicAuth(id, url.QueryEscape(webSecret)) })
	a.check(t, http.StatusOK, "")
	tokens := a.json(t)
	hint, _ := tokens["id_token"].(string)
	s.seen = append(s.seen, hint)
	return tokens
}

// logout sends a request to the logout endpoint of a site that can sign people out.
func (s *logoutServer) logout(t *testing.T, params url.Values, edits ...func(*http.Request)) answer {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/oauth/logout?"+params.Encode(), nil)
	for _, edit := range edits {
		edit(r)
	}
	return s.doAt(t, r, logoutSite{s.testServer.site})
}

func (s *logoutServer) postLogout(t *testing.T, params url.Values, edits ...func(*http.Request)) answer {
	t.Helper()
	r := postRequest("/oauth/logout", params.Encode())
	for _, edit := range edits {
		edit(r)
	}
	return s.doAt(t, r, logoutSite{s.testServer.site})
}

func (s *logoutServer) doAt(t *testing.T, r *http.Request, site Site) answer {
	t.Helper()
	a := answer{recorder: newRecorder()}
	err := s.ServeHTTP(a, r, site)
	if errors.As(err, &a.page) {
		err = s.WritePage(a, r, a.page)
	}
	if err != nil {
		t.Fatalf("ServeHTTP: %v", err)
	}
	return a
}

// atSite signs the person out at the site to which an answer leads, and follows the way back.
func (s *logoutServer) atSite(t *testing.T, a answer) answer {
	t.Helper()
	to := a.Header().Get("Location")
	if a.Code != http.StatusSeeOther || !strings.HasPrefix(to, "/sign-out?") {
		t.Fatalf("%d to %q, want 303 to the site: %s", a.Code, to, a.Body)
	}
	s.testServer.site.user = nil
	back := a.location().Get("return_to")
	if !strings.HasPrefix(back, "/oauth/logout?") {
		t.Fatalf("the site returns to %s", back)
	}
	return s.doAt(t, httptest.NewRequest(http.MethodGet, back, nil), logoutSite{s.testServer.site})
}

// page requires a page of this server in a state, and returns its text.
func (a answer) logoutPage(t *testing.T, heading string) string {
	t.Helper()
	_, text := pagestest.Parts(strings.NewReader(a.Body.String()))
	text = strings.Join(strings.Fields(text), " ")
	if a.Code != http.StatusOK || !strings.Contains(text, heading) || a.Header().Get("Location") != "" {
		t.Fatalf("%d to %q, want a page with %q: %s", a.Code, a.Header().Get("Location"), heading, text)
	}
	checkNotFramed(t, a)
	return text
}

// work is a node of its own that does what is due now, and then ends. It returns when there is more to do.
func (l *logouts) work(ctx context.Context) (next time.Time, err error) {
	r := l.newRounds()
	err = r.round(ctx)
	r.working.Wait()
	for _, failed := range r.failed {
		err = cmp.Or(err, failed)
	}
	return r.next, err
}

// send does what is due now.
func (s *logoutServer) send(t *testing.T) {
	t.Helper()
	if _, err := s.logouts.work(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// alive reports whether the tokens of a client are good.
func (s *logoutServer) alive(t *testing.T, tokens map[string]any) bool {
	t.Helper()
	_, err := s.AccessToken(t.Context(), tokens["access_token"].(string), 0)
	return err == nil
}

const (
	askHeading   = "Sign out of example.com?"
	outHeading   = "You are signed out of example.com"
	appsHeading  = "You are signed out of your apps"
	staysHeading = "You are still signed in to example.com"
)

func hinted(tokens map[string]any, pairs ...string) url.Values {
	return merge(url.Values{"id_token_hint": {tokens["id_token"].(string)}, "post_logout_redirect_uri": {bye}, "state": {"a&b"}}, pairs...)
}

func TestOIDCCRPInitiatedLogoutDiscoveryEndpointVerification(t *testing.T) {
	s := newLogoutServer(t)
	doc := s.do(t, httptest.NewRequest(http.MethodGet, "/.well-known/openid-configuration", nil)).json(t)
	if doc["end_session_endpoint"] != testIssuer+"/oauth/logout" {
		t.Errorf("end_session_endpoint %v", doc["end_session_endpoint"])
	}
}

func TestOIDCCRPInitiatedLogout(t *testing.T) {
	for name, send := range map[string]func(s *logoutServer, params url.Values) answer{
		"GET":  func(s *logoutServer, params url.Values) answer { return s.logout(t, params) },
		"POST": func(s *logoutServer, params url.Values) answer { return s.postLogout(t, params) },
	} {
		s := newLogoutServer(t)
		tokens := s.signIn(t, "webapp")
		s.clock.Advance(30 * time.Minute) // the ID token has expired
		a := s.atSite(t, send(s, hinted(tokens)))
		if got := a.Header().Get("Location"); a.Code != http.StatusSeeOther || got != bye+"?state=a%26b" {
			t.Errorf("%s: %d to %q", name, a.Code, got)
		}
		s.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
		s.site.user = nil
		s.get(t, merge(asks("webapp"), "scope", "openid", "prompt", "none")).check(t, http.StatusSeeOther, "login_required")
	}
}

func TestOIDCCRPInitiatedLogoutBadPostLogoutRedirectURI(t *testing.T) {
	s := newLogoutServer(t)
	tokens := s.signIn(t, "webapp")
	for _, uri := range []string{"https://evil.example/", bye + "/", bye + "#", strings.ToUpper(bye), "javascript:alert(1)", "//app.example.com/bye", webRedirect} {
		for _, params := range []url.Values{hinted(tokens, "post_logout_redirect_uri", uri), {"client_id": {"webapp"}, "post_logout_redirect_uri": {uri}}} {
			a := s.logout(t, params)
			a.check(t, http.StatusBadRequest, "invalid_request")
			if a.Header().Get("Location") != "" || !s.alive(t, tokens) {
				t.Errorf("%s: redirected to %q", uri, a.Header().Get("Location"))
			}
		}
	}
}

func TestOIDCCRPInitiatedLogoutQueryAddedToPostLogoutRedirectURI(t *testing.T) {
	s := newLogoutServer(t)
	tokens := s.signIn(t, "webapp")
	s.logout(t, hinted(tokens, "post_logout_redirect_uri", bye+"?foo=bar")).check(t, http.StatusBadRequest, "invalid_request")
	a := s.atSite(t, s.logout(t, hinted(tokens, "post_logout_redirect_uri", bye+"?a=b")))
	if got := a.Header().Get("Location"); got != bye+"?a=b&state=a%26b" {
		t.Errorf("a registered query: to %q", got)
	}
}

// A hint that is no ID token of this server is no reason to end anything: the person is asked, and nobody is redirected.
func (s *logoutServer) asksWithHint(t *testing.T, hint string, tokens map[string]any) {
	t.Helper()
	a := s.logout(t, hinted(tokens, "id_token_hint", hint))
	a.logoutPage(t, askHeading)
	if !s.alive(t, tokens) {
		t.Error("the tokens ended without an answer of the person")
	}
	s.atSite(t, s.postLogout(t, url.Values{"request": {a.sealed(t)}, "decision": {"sign_out"}})).logoutPage(t, outHeading)
	if s.alive(t, tokens) {
		t.Error("the tokens live on")
	}
}

func TestOIDCCRPInitiatedLogoutModifiedIDTokenHint(t *testing.T) {
	s := newLogoutServer(t)
	tokens := s.signIn(t, "webapp")
	parts := strings.Split(tokens["id_token"].(string), ".")
	parts[2] = strings.Repeat("A", len(parts[2]))
	s.asksWithHint(t, strings.Join(parts, "."), tokens)
}

func TestOIDCCRPInitiatedLogoutBadIDTokenHint(t *testing.T) {
	for name, hint := range map[string]func(s *logoutServer, tokens map[string]any) string{
		"no token":  func(*logoutServer, map[string]any) string { return "xyz" },
		"unsigned":  func(*logoutServer, map[string]any) string { return "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.e30." },
		"of others": func(*logoutServer, map[string]any) string { return foreignToken(t) },
		"access token": func(_ *logoutServer, tokens map[string]any) string {
			return tokens["access_token"].(string)
		},
		"logout token": func(s *logoutServer, _ map[string]any) string {
			token, err := s.keys.SignWith(t.Context(), "ES256", logoutTokenType, []byte(`{"iss":"`+testIssuer+`","sub":"alice","aud":"webapp","sid":"s1"}`))
			if err != nil {
				t.Fatal(err)
			}
			return token
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newLogoutServer(t)
			tokens := s.signIn(t, "webapp")
			s.asksWithHint(t, hint(s, tokens), tokens)
		})
	}
}

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

func TestOIDCCRPInitiatedLogoutNoIDTokenHint(t *testing.T) {
	s := newLogoutServer(t)
	tokens := s.signIn(t, "webapp")
	s.logout(t, hinted(tokens, "id_token_hint", "")).logoutPage(t, askHeading)
	// With the client's ID, the URI is known to be its own.
	a := s.logout(t, hinted(tokens, "id_token_hint", "", "client_id", "webapp"))
	a.logoutPage(t, askHeading)
	a = s.atSite(t, s.postLogout(t, url.Values{"request": {a.sealed(t)}, "decision": {"sign_out"}}))
	if got := a.Header().Get("Location"); got != bye+"?state=a%26b" {
		t.Errorf("to %q", got)
	}
}

func TestOIDCCRPInitiatedLogoutNoParams(t *testing.T) {
	s := newLogoutServer(t)
	tokens := s.signIn(t, "webapp")
	a := s.logout(t, nil)
	text := a.logoutPage(t, askHeading)
	if !strings.Contains(text, "apps that you signed in to from here") || !strings.Contains(text, "alice") {
		t.Errorf("the page says %s", text)
	}
	s.postLogout(t, url.Values{"request": {a.sealed(t)}, "decision": {"stay"}}).logoutPage(t, staysHeading)
	if !s.alive(t, tokens) {
		t.Error("the tokens of a person who stays have ended")
	}
	s.atSite(t, s.postLogout(t, url.Values{"request": {a.sealed(t)}, "decision": {"sign_out"}})).logoutPage(t, outHeading)
	if s.alive(t, tokens) {
		t.Error("the tokens live on")
	}
	s.logout(t, nil).logoutPage(t, outHeading) // nobody is signed in any more
}

func TestOIDCCRPInitiatedLogoutNoPostLogoutRedirectURI(t *testing.T) {
	s := newLogoutServer(t)
	s.atSite(t, s.logout(t, hinted(s.signIn(t, "webapp"), "post_logout_redirect_uri", ""))).logoutPage(t, outHeading)
}

func TestOIDCCRPInitiatedLogoutNoState(t *testing.T) {
	s := newLogoutServer(t)
	a := s.atSite(t, s.logout(t, hinted(s.signIn(t, "webapp"), "state", "")))
	if got := a.Header().Get("Location"); got != bye {
		t.Errorf("to %q", got)
	}
}

func TestOIDCCRPInitiatedLogoutOnlyState(t *testing.T) {
	s := newLogoutServer(t)
	s.signIn(t, "webapp")
	a := s.logout(t, url.Values{"state": {"xyz"}})
	a.logoutPage(t, askHeading)
	s.atSite(t, s.postLogout(t, url.Values{"request": {a.sealed(t)}, "decision": {"sign_out"}})).logoutPage(t, outHeading)
}

func TestOIDCCBackchannelLogoutDiscoveryEndpointVerification(t *testing.T) {
	s := newLogoutServer(t)
	doc := s.do(t, httptest.NewRequest(http.MethodGet, "/.well-known/openid-configuration", nil)).json(t)
	if doc["backchannel_logout_supported"] != true || doc["backchannel_logout_session_supported"] != true || doc["end_session_endpoint"] == nil {
		t.Errorf("metadata %v", doc)
	}
	bare := newTestServer(t, func(c *Config) { c.OpenID = true })
	doc = bare.do(t, httptest.NewRequest(http.MethodGet, "/.well-known/openid-configuration", nil)).json(t)
	if doc["end_session_endpoint"] != nil || doc["backchannel_logout_supported"] != true || doc["backchannel_logout_session_supported"] != false {
		t.Errorf("of a site without a page for signing out, and without session IDs: %v", doc)
	}
}

func TestOIDCCBackchannelRPInitiatedLogout(t *testing.T) {
	s := newLogoutServer(t)
	tokens := s.signIn(t, "webapp")
	s.signIn(t, "other")
	s.site.user.Session.ID = "s2"
	kept := s.signIn(t, "webapp")
	s.site.user.Session.ID = "s1"
	a := s.atSite(t, s.logout(t, hinted(tokens)))
	if got := a.Header().Get("Location"); got != bye+"?state=a%26b" {
		t.Errorf("to %q", got)
	}
	s.send(t)
	var audiences []string
	for _, token := range s.told.got() {
		if header := decoded(t, token, 0); header["typ"] != "logout+jwt" || header["alg"] != "ES256" {
			t.Errorf("header %v", header)
		}
		claims := s.idToken(t, "ES256", token)
		audiences = append(audiences, claims["aud"].(string))
		now := float64(s.clock.Now().Unix())
		if claims["iss"] != testIssuer || claims["sub"] != "alice" || claims["sid"] != "s1" || claims["iat"] != now || claims["exp"] != now+120 ||
			claims["jti"] == "" || claims["nonce"] != nil || fmt.Sprint(claims["events"]) != "map[http://schemas.openid.net/event/backchannel-logout:map[]]" {
			t.Errorf("claims %v", claims)
		}
	}
	slices.Sort(audiences)
	if !slices.Equal(audiences, []string{"other", "webapp"}) {
		t.Errorf("told %v", audiences)
	}
	if s.alive(t, tokens) || !s.alive(t, kept) {
		t.Error("another session has ended, or this one has not")
	}
	if n := s.store.count(t, storage.KindLogout); n != 0 {
		t.Errorf("%d logouts are left", n)
	}
	s.send(t)
	if n := len(s.told.got()); n != 2 {
		t.Errorf("%d logout tokens, want 2", n)
	}
}

func decoded(t *testing.T, token string, part int) (object map[string]any) {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[part])
	if err == nil {
		err = json.Unmarshal(text, &object)
	}
	if err != nil {
		t.Fatal(err)
	}
	return object
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
	s.site.user = &User{Subject: "bob", Session: storage.Session{ID: "b1"}}
	bobs := s.signIn(t, "webapp")
	s.site.user = &User{Subject: "alice", Session: storage.Session{ID: "s2"}}
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
	if n := s.store.count(t, storage.KindLogout); n != 0 {
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

// A client that fails is told three times more within a minute, with the same jti. Then the server gives up, and says so.
func TestLogoutTriedAgain(t *testing.T) {
	for _, status := range []int{500, 400, 302} {
		s := newLogoutServer(t)
		s.told.answer(status)
		s.atSite(t, s.logout(t, hinted(s.signIn(t, "webapp"))))
		began := s.clock.Now()
		for range 10 {
			next, err := s.logouts.work(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if s.store.count(t, storage.KindLogout) == 0 {
				break
			}
			s.clock.Advance(next.Sub(s.clock.Now()))
		}
		if took := s.clock.Now().Sub(began); len(s.told.got()) != 4 || took > time.Minute {
			t.Errorf("%d: %d attempts in %s", status, len(s.told.got()), took)
		}
		ids := make(map[any]bool)
		for _, token := range s.told.got() {
			ids[s.idToken(t, "ES256", token)["jti"]] = true
		}
		if len(ids) != 1 || s.store.count(t, storage.KindLogout) != 0 || s.logs.FilterMessage("client not told of a logout; given up").Len() != 1 {
			t.Errorf("%d: jtis %v, %d left", status, ids, s.store.count(t, storage.KindLogout))
		}
	}
}

func TestLogoutReceiverRecovers(t *testing.T) {
	s := newLogoutServer(t)
	s.told.answer(503)
	s.atSite(t, s.logout(t, hinted(s.signIn(t, "webapp"))))
	s.send(t)
	s.told.answer(0)
	s.clock.Advance(noticePauses[0])
	s.send(t)
	if n := s.store.count(t, storage.KindLogout); n != 0 || len(s.told.got()) != 2 {
		t.Errorf("%d left, %d attempts", n, len(s.told.got()))
	}
}

// What a node has claimed, no other does, until that node must be dead.
func TestLogoutOfANodeThatDied(t *testing.T) {
	s := newLogoutServer(t)
	s.atSite(t, s.logout(t, hinted(s.signIn(t, "webapp"))))
	for id, err := range s.store.List(t.Context(), storage.KindLogout) {
		if err != nil {
			t.Fatal(err)
		}
		claimed, _, err := s.logouts.claim(t.Context(), storage.Key{Kind: storage.KindLogout, ID: id})
		if claimed == nil || err != nil {
			t.Fatal(err)
		}
	}
	other := s.logouts
	other.send2(t, 0, s)
	s.clock.Advance(logoutClaim)
	other.send2(t, 1, s)
}

func (l *logouts) send2(t *testing.T, want int, s *logoutServer) {
	t.Helper()
	if _, err := l.work(t.Context()); err != nil || len(s.told.got()) != want {
		t.Errorf("%d logout tokens, want %d: %v", len(s.told.got()), want, err)
	}
}

// Many nodes at once tell each client once.
func TestLogoutOnManyNodes(t *testing.T) {
	s := newLogoutServer(t)
	s.signIn(t, "other")
	s.atSite(t, s.logout(t, hinted(s.signIn(t, "webapp"))))
	var nodes sync.WaitGroup
	for range 8 {
		nodes.Go(func() {
			if _, err := s.logouts.work(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		})
	}
	nodes.Wait()
	if n := len(s.told.got()); n != 2 {
		t.Errorf("%d logout tokens, want 2", n)
	}
}

// A logout that the store does not take is not said to have happened, and what it has taken is not lost.
func TestLogoutWhileTheStoreFails(t *testing.T) {
	for fails := 1; ; fails++ {
		s := newLogoutServer(t)
		faulty := &faultyStore{Store: s.store}
		config := s.config
		config.Store, config.StoreTimeout = faulty, time.Minute
		s.restart(t, config)
		tokens := s.signIn(t, "webapp")
		left := fails
		faulty.fail(func(context.Context) error {
			if left--; left == 0 {
				return errDown
			}
			return nil
		})
		a := s.logout(t, hinted(tokens))
		faulty.mend()
		if left > 0 {
			if fails < 4 {
				t.Errorf("%d operations of the store", fails)
			}
			break
		}
		if a.Code == http.StatusServiceUnavailable { // the person tries again
			a = s.logout(t, hinted(tokens))
		}
		s.atSite(t, a)
		s.send(t)
		if s.alive(t, tokens) || len(s.told.got()) == 0 || s.store.count(t, storage.KindLogout) != 0 {
			t.Errorf("operation %d failed: tokens live %v, %d told, %d left", fails, s.alive(t, tokens), len(s.told.got()), s.store.count(t, storage.KindLogout))
		}
	}
}

// Addresses that the owner has not written into the configuration are reached by the rules for those of strangers.
func TestLogoutAddressOfAnotherClient(t *testing.T) {
	s := newLogoutServer(t)
	config := s.config
	config.Resolve = func(r *storage.Registered, hashes []string) (*storage.Client, error) {
		c := *config.Clients["webapp"]
		c.ID, c.SecretHashes = r.ID, hashes
		return &c, nil
	}
	s.restart(t, config)
	registered, secret, err := s.Owner().Clients().Add(t.Context(), clients.Registration{ID: "added", Settings: json.RawMessage(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	params := merge(asks("webapp"), "client_id", registered.ID, "scope", "openid")
	s.seen = append(s.seen, secret)
	s.code(t, params)
	if _, err := s.Owner().EndSession(t.Context(), "s1"); err != nil {
		t.Fatal(err)
	}
	s.send(t)
	if len(s.told.got()) != 0 || s.logs.FilterMessage("client not told of a logout; given up").Len() != 1 {
		t.Errorf("%d logout tokens reached an address of this machine", len(s.told.got()))
	}
}

// What does not sign anybody in leaves no record.
func TestNoSessionsWithoutOpenID(t *testing.T) {
	s := newLogoutServer(t)
	s.code(t, asks("webapp", "scope", "orders"))
	s.code(t, asks("spa"))
	if n := s.store.count(t, storage.KindSession); n != 0 {
		t.Errorf("%d records", n)
	}
}

// A queue that is full loses no tokens that should end.
func TestLogoutQueueIsBounded(t *testing.T) {
	s := newLogoutServer(t)
	tokens := s.signIn(t, "webapp")
	s.logouts.queued.Store(maxLogouts)
	s.atSite(t, s.logout(t, hinted(tokens)))
	if s.alive(t, tokens) || s.store.count(t, storage.KindLogout) != 0 || s.logs.FilterMessage("client not told of a logout; given up").Len() != 1 {
		t.Error("the tokens live on, or nothing says that the client was not told")
	}
}

// choosyStore refuses to write some records.
type choosyStore struct {
	storage.Store
	refuse func(key storage.Key, anew bool) error // anew: there is none yet
}

func (s *choosyStore) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	if err := s.refuse(key, true); err != nil {
		return err
	}
	return s.Store.Put(ctx, key, value, expires)
}

func (s *choosyStore) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	return s.Store.Update(ctx, key, func(old []byte) ([]byte, time.Time, error) {
		if err := s.refuse(key, old == nil); err != nil {
			return nil, time.Time{}, err
		}
		return change(old)
	})
}

// choosy replaces the store of the server by one that refuses to write some records.
func (s *logoutServer) choosy(t *testing.T, refuse func(key storage.Key, anew bool) error) {
	t.Helper()
	config := s.config
	config.Store, config.StoreTimeout = &choosyStore{s.store, refuse}, time.Minute
	s.restart(t, config)
}

// Only what was due when a node claimed the record is sent, and counts as an attempt, however slow the node is.
func TestLogoutNoticeThatComesDueMeanwhile(t *testing.T) {
	s := newLogoutServer(t)
	s.told.answer(500)
	now := s.clock.Now()
	logout := &storage.Logout{Subject: "alice", Created: now, Notices: []storage.Notice{
		{ID: "one", Client: "webapp", Session: "s1", Next: now}, {ID: "two", Client: "other", Session: "s1", Next: now.Add(3 * time.Second)},
	}}
	key := storage.LogoutKey(now.Add(logoutLife))
	record, err := logout.Encode()
	if err == nil {
		err = s.store.Put(t.Context(), key, record, now.Add(logoutLife))
	}
	if err != nil {
		t.Fatal(err)
	}
	claimed, at, err := s.logouts.claim(t.Context(), key)
	if claimed == nil || err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(time.Minute)
	results := s.logouts.tellAll(t.Context(), claimed, at)
	if len(results) != 1 || results["one"] == nil || results["one"].Attempts != 1 || len(s.told.got()) != 1 {
		t.Errorf("%d logout tokens, and %v, want that of the notice that was due", len(s.told.got()), results)
	}
	// What an older record says of attempts is no reason to panic.
	if again := s.logouts.tell(t.Context(), claimed, storage.Notice{ID: "three", Client: "webapp", Session: "s1", Attempts: -1}); again == nil || again.Next.Before(s.clock.Now()) {
		t.Errorf("%+v", again)
	}
}

// A panic ends no process: who is told then is given up.
func TestLogoutPanic(t *testing.T) {
	s := newLogoutServer(t)
	s.atSite(t, s.logout(t, hinted(s.signIn(t, "webapp"))))
	s.logouts.fetcher = nil
	s.send(t)
	if n := s.store.count(t, storage.KindLogout); n != 0 || s.logs.FilterMessage("client not told of a logout; given up").Len() != 1 {
		t.Errorf("%d left", n)
	}
	s.logouts.sessions, s.logouts.store = nil, nil
	if _, err := s.logouts.workOn(t.Context(), storage.LogoutKey(s.clock.Now())); err == nil || !strings.HasPrefix(err.Error(), "panic:") {
		t.Errorf("%v", err)
	}
}

// On a full disk, the tokens end. The person gets an error, since the clients are not told, and can try again.
func TestLogoutOnAFullDisk(t *testing.T) {
	s := newLogoutServer(t)
	full := false
	s.choosy(t, func(_ storage.Key, anew bool) error {
		if full && anew {
			return syscall.ENOSPC
		}
		return nil
	})
	tokens := s.signIn(t, "webapp")
	full = true
	s.logout(t, hinted(tokens)).check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
	if s.alive(t, tokens) {
		t.Error("the access token lives on")
	}
	s.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
	full = false
	s.atSite(t, s.logout(t, hinted(tokens)))
	if s.send(t); len(s.told.got()) != 1 {
		t.Errorf("%d clients told", len(s.told.got()))
	}
}

// A family that cannot be read ends later, and the others at once.
func TestLogoutWithAnUnreadableFamily(t *testing.T) {
	s := newLogoutServer(t)
	var unreadable string
	s.choosy(t, func(key storage.Key, _ bool) error {
		if key.Kind == storage.KindFamily && key.ID == unreadable {
			return storage.ErrUnknownKey
		}
		return nil
	})
	all := []map[string]any{s.signIn(t, "webapp"), s.signIn(t, "webapp"), s.signIn(t, "webapp")}
	sessions, err := s.sessions.of(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	unreadable = sessions.SignIns[0].Tokens[0].ID
	s.atSite(t, s.logout(t, hinted(all[0])))
	if s.alive(t, all[1]) || s.alive(t, all[2]) {
		t.Error("the other tokens live on")
	}
	if _, err := s.logouts.work(t.Context()); !errors.Is(err, storage.ErrUnknownKey) {
		t.Errorf("%v", err)
	}
	unreadable = ""
	if s.send(t); s.alive(t, all[0]) || s.store.count(t, storage.KindLogout) != 0 {
		t.Error("the family lives on when it can be read")
	}
}

// Nobody is woken to end the tokens that the request is ending.
func TestLogoutWakesWhenTheTokensHaveEnded(t *testing.T) {
	s := newLogoutServer(t)
	ending := 0
	s.choosy(t, func(key storage.Key, _ bool) error {
		if key.Kind == storage.KindFamily && len(s.logouts.wake) > 0 {
			t.Error("woken too early")
		}
		if key.Kind == storage.KindCutoff {
			ending++
		}
		return nil
	})
	s.atSite(t, s.logout(t, hinted(s.signIn(t, "webapp"))))
	if ending == 0 || len(s.logouts.wake) == 0 {
		t.Errorf("%d tokens ended, %d waits", ending, len(s.logouts.wake))
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

// A client that does not answer holds up no other, and is not told twice at the same time.
func TestLogoutRoundsWaitForNobody(t *testing.T) {
	s := newLogoutServer(t)
	arrived, release := make(chan string, 10), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- r.URL.Path
		if r.URL.Path == "/webapp" {
			<-release
		}
	}))
	t.Cleanup(slow.Close)
	for _, id := range []string{"webapp", "other"} {
		s.config.Clients[id].OpenID.BackchannelLogoutURI = slow.URL + "/" + id
	}
	rounds := s.logouts.newRounds()
	for i, id := range []string{"webapp", "other"} {
		s.site.user = &User{Subject: "alice", Session: storage.Session{ID: fmt.Sprint("s", i)}}
		s.atSite(t, s.logout(t, hinted(s.signIn(t, id))))
		if err := rounds.round(t.Context()); err != nil {
			t.Error(err)
		}
		if path := <-arrived; path != "/"+id {
			t.Errorf("told %s, want %s", path, id)
		}
	}
	close(release)
	rounds.working.Wait()
	if left := s.store.count(t, storage.KindLogout); left != 0 || len(arrived) != 0 {
		t.Errorf("%d left, %d told again", left, len(arrived))
	}
}

// The next round is due when the first of the records is, also one that has only just ended.
func TestLogoutRoundIsDue(t *testing.T) {
	s := newLogoutServer(t)
	s.told.answer(503)
	s.atSite(t, s.logout(t, hinted(s.signIn(t, "webapp"))))
	rounds := s.logouts.newRounds()
	began := s.clock.Now()
	if err := rounds.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-rounds.sooner
	rounds.working.Wait()
	if rounds.next.Sub(began) != noticePauses[0] {
		t.Errorf("due after %s, want %s", rounds.next.Sub(began), noticePauses[0])
	}
	s.told.answer(0)
	s.clock.Advance(noticePauses[0])
	if !rounds.wait(t.Context()) {
		t.Error("the time is over")
	}
	if err := rounds.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	rounds.working.Wait()
	if left := s.store.count(t, storage.KindLogout); left != 0 || len(s.told.got()) != 2 {
		t.Errorf("%d left, told %d times", left, len(s.told.got()))
	}
	ctx, cancel := context.WithCancel(t.Context())
	for len(s.logouts.wake) > 0 {
		<-s.logouts.wake
	}
	if cancel(); rounds.wait(ctx) {
		t.Error("another round, though the time is over")
	}
}
