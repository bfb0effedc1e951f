package browser_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// members is a site with a login page. A person who has signed in has a cookie, and /whoami tells Caddy who that person is.
type members struct {
	*httptest.Server
	secrets  *integration.Secrets
	mu       sync.Mutex
	sessions map[string]string // names, by cookie
	claimed  []string          // the Remote-User headers of requests
}

func newMembers(t *testing.T, secrets *integration.Secrets) *members {
	t.Helper()
	m := &members{secrets: secrets, sessions: make(map[string]string)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /whoami", m.whoami)
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<!doctype html><h1>Members</h1><form method="post"><input name="user" id="user">
<input type="hidden" name="return_to" value="%s"><button>Sign in</button></form>`, html.EscapeString(r.FormValue("return_to")))
	})
	mux.HandleFunc("POST /login", m.login)
	m.Server = httptest.NewServer(mux)
	t.Cleanup(m.Close)
	return m
}

func (m *members) whoami(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.claimed = append(m.claimed, r.Header.Get("Remote-User"))
	if cookie, err := r.Cookie("session"); err == nil && m.sessions[cookie.Value] != "" {
		w.Header().Set("Remote-User", m.sessions[cookie.Value])
	}
}

func (m *members) login(w http.ResponseWriter, r *http.Request) {
	returnTo := r.FormValue("return_to")
	if !strings.HasPrefix(returnTo, "/oauth/authorize?") {
		http.Error(w, "return_to is not an authorization request", http.StatusBadRequest)
		return
	}
	session := rand.Text()
	m.secrets.Add(session)
	m.mu.Lock()
	m.sessions[session] = r.FormValue("user")
	m.mu.Unlock()
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // not Secure, as there is no TLS on loopback
		Name: "session", Value: session, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	http.Redirect(w, r, returnTo, http.StatusSeeOther)
}

func (m *members) claims(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Contains(strings.Join(m.claimed, " "), name)
}

// startMembers starts the shop with the login of the members' site.
func startMembers(t *testing.T, copyHeaders string) (*integration.Server, *members) {
	t.Helper()
	shop := integration.Shop()
	m := newMembers(t, shop.Secrets)
	shop.Env = append(shop.Env, "MEMBERS="+m.URL)
	shop.Sites = `
{$SITE} {
	log
	oauth {
		login /login {
			forward_auth {$MEMBERS} {
				uri /whoami
				` + copyHeaders + `
			}
		}
		user {rp.header.Remote-User}
	}
	reverse_proxy {$MEMBERS}
}
`
	return integration.Start(t, shop), m
}

// signIn fills in and sends the login page.
func signIn(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	in(ctx, t, chromedp.SendKeys(chromedp.ID("user"), name))
	in(ctx, t, chromedp.Click(chromedp.CSS("button")))
	in(ctx, t, chromedp.WaitReady(chromedp.CSS(`button[value="allow"]`)))
}

// subject returns the subject of an access token.
func subject(t *testing.T, s *integration.Server, accessToken string) string {
	t.Helper()
	keys := oidc.NewRemoteKeySet(oidc.ClientContext(t.Context(), s.Client(t)), s.JWKSURL())
	payload, err := keys.VerifySignature(t.Context(), accessToken)
	must(t, err)
	var claims struct {
		Subject string `json:"sub"`
	}
	must(t, json.Unmarshal(payload, &claims))
	return claims.Subject
}

func TestLoginPage(t *testing.T) {
	t.Parallel()
	ctx := inChromium(t)
	s, _ := startMembers(t, "")
	f := newFlow(t, s, newApp(t, s, nil), "/callback")
	in(ctx, t, chromedp.Navigate(f.url()))
	signIn(ctx, t, "carol")
	press(ctx, t, "allow")
	if sub := subject(t, s, f.approved(ctx, t, http.MethodGet).AccessToken); sub != "carol" {
		t.Errorf("the token is for %q", sub)
	}

	// OpenID Connect Core §3.1.2.1: with prompt=login, a person who is signed in has to sign in again, once.
	again := newFlow(t, s, newApp(t, s, nil), "/callback")
	in(ctx, t, chromedp.Navigate(again.url(oauth2.SetAuthURLParam("prompt", "login"))))
	signIn(ctx, t, "dave")
	press(ctx, t, "allow")
	if sub := subject(t, s, again.approved(ctx, t, http.MethodGet).AccessToken); sub != "dave" {
		t.Errorf("the token is for %q", sub)
	}
}

// A header of the browser does not sign a person in, and does not change who the person is.
func TestForgedUserHeader(t *testing.T) {
	t.Parallel()
	for name, copyHeaders := range map[string]string{
		"user from the answer":                     "",
		"user from the answer, and headers copied": "copy_headers Remote-User",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := inChromium(t)
			s, m := startMembers(t, copyHeaders)
			f := newFlow(t, s, newApp(t, s, nil), "/callback")
			_, err := chromedp.Call(ctx, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{
				Headers: network.Headers{"Remote-User": "root", "X-Remote-User": "root"},
			})
			must(t, err)
			in(ctx, t, chromedp.Navigate(f.url()))
			in(ctx, t, chromedp.WaitReady(chromedp.ID("user"))) // this is the login page, not the consent page
			f.app.untouched(t)
			signIn(ctx, t, "carol")
			if page := in(ctx, t, chromedp.Text(chromedp.CSS("body"))); !strings.Contains(page, "carol") || strings.Contains(page, "root") {
				t.Errorf("the consent page is\n%s", page)
			}
			press(ctx, t, "allow")
			if sub := subject(t, s, f.approved(ctx, t, http.MethodGet).AccessToken); sub != "carol" {
				t.Errorf("the token is for %q", sub)
			}
			if copyHeaders == "" && !m.claims("root") {
				t.Error("the forged header has not reached the site, so the test shows nothing")
			}
		})
	}
}
