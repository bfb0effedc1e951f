package authserver

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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
	s.site.user = &User{Subject: "alice", Session: storage.SiteSession{ID: "s1"}}
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
