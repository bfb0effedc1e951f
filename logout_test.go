package caddyoauth_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// logoutSite is a site whose client signs people in, with the lines of a login.
func logoutSite(lines, told string) string {
	return `http://shop.localhost:PORT {
		oauth default http://shop.localhost:PORT {
			` + lines + `
			session {
				sid {header.X-Sid}
				logout /bye back
			}
			store memory
			openid
			client app {
				secret app-secret
				redirect_uris ` + callback + `
				scopes openid
				consent never
				post_logout_redirect_uris https://app.example.com/bye
				backchannel_logout_uri ` + told + `
			}
			client site {
				secret site-secret
				ends_sessions
			}
		}
		respond "the site's own"
	}`
}

// The login says who signs out, and whoever is not signed in is not asked to sign in for that.
func TestLogoutAsksTheLogin(t *testing.T) {
	logouts := make(chan string, 10)
	told := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { logouts <- r.PostFormValue("logout_token") }))
	t.Cleanup(told.Close)
	forward := "login {\nforward_auth " + whoami(t) + " {\nuri /whoami\n}\n}\nuser {rp.header.Remote-User}"
	for name, tt := range map[string]struct {
		lines  string
		header []string // of alice
	}{
		"basic_auth":   {basicLogin, []string{"Authorization", aliceCredentials}},
		"forward_auth": {forward, []string{"X-Session", "alice"}},
		"vars":         {"login {\nvars person {header.X-Session}\n}\nuser {vars.person}", []string{"X-Session", "alice"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.run(t, "", logoutSite(tt.lines, told.URL))
			issuer, alice := s.url("shop.localhost"), append(tt.header, "X-Sid", "s-1")
			hint := func() string {
				answer := s.get(t, issuer+"/oauth/authorize?"+url.Values{
					"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {callback}, "scope": {"openid"},
				}.Encode(), alice...)
				location, err := url.Parse(answer.header.Get("Location"))
				if err != nil {
					t.Fatal(err)
				}
				var got struct {
					IDToken string `json:"id_token"`
				}
				form := url.Values{
					"grant_type": {"authorization_code"}, "code": {location.Query().Get("code")}, "redirect_uri": {callback},
					"client_id": {"app"}, "client_secret": {"app-secret"},
				}
				token := s.do(t, http.MethodPost, issuer+"/oauth/token", "application/x-www-form-urlencoded", form.Encode())
				if err := json.Unmarshal([]byte(token.body), &got); err != nil || got.IDToken == "" {
					t.Fatalf("%d %v; %d %s", answer.status, answer.header, token.status, token.body)
				}
				return got.IDToken
			}
			request := url.Values{"id_token_hint": {hint()}, "post_logout_redirect_uri": {"https://app.example.com/bye"}, "state": {"x"}}
			// Nobody is signed in: no challenge, no login page, and no header of either.
			answer := s.get(t, issuer+"/oauth/logout?"+request.Encode())
			if answer.status != http.StatusSeeOther || answer.header.Get("Location") != "https://app.example.com/bye?state=x" || answer.header.Get("WWW-Authenticate") != "" {
				t.Errorf("nobody: %d %v %s", answer.status, answer.header, answer.body)
			}
			answer = s.get(t, issuer+"/oauth/logout")
			if answer.status != http.StatusOK || !strings.Contains(answer.body, "You are signed out") {
				t.Errorf("nobody without a request: %d %v %s", answer.status, answer.header, answer.body)
			}
			select {
			case token := <-logouts:
				t.Errorf("told of the logout of nobody: %s", token)
			default:
			}
			// Alice is: the site signs her out, and the client learns of it.
			answer = s.do(t, http.MethodPost, issuer+"/oauth/logout", "application/x-www-form-urlencoded", request.Encode(), alice...)
			to, err := url.Parse(answer.header.Get("Location"))
			if err != nil || answer.status != http.StatusSeeOther || to.Path != "/bye" || !strings.HasPrefix(to.Query().Get("back"), "/oauth/logout?after_logout=") {
				t.Fatalf("%d %v %s", answer.status, answer.header, answer.body)
			}
			if got := claims(t, <-logouts); got["sid"] != "s-1" || got["sub"] != "alice" || got["aud"] != "app" {
				t.Errorf("the logout token says %v", got)
			}
			answer = s.get(t, issuer+to.Query().Get("back"))
			if answer.header.Get("Location") != "https://app.example.com/bye?state=x" {
				t.Errorf("back from the site: %d %v %s", answer.status, answer.header, answer.body)
			}
			if list := s.api(t, http.MethodGet, "/users/alice/sessions", "", http.StatusOK)["list"].([]any); len(list) != 0 {
				t.Errorf("left are %v", list)
			}
			// Her backend can end the session too, and so can the owner.
			hint()
			form := url.Values{"client_id": {"site"}, "client_secret": {"site-secret"}, "sid": {"s-1"}}
			if answer := s.do(t, http.MethodPost, issuer+"/oauth/sessions", "application/x-www-form-urlencoded", form.Encode()); answer.body != "{\"ended\":true}\n" {
				t.Errorf("%d %s", answer.status, answer.body)
			}
			<-logouts
			hint()
			if list := s.api(t, http.MethodGet, "/users/alice/sessions", "", http.StatusOK)["list"].([]any); len(list) != 1 {
				t.Errorf("there are %v", list)
			}
			if ended := s.api(t, http.MethodPost, "/sessions/s-1", "", http.StatusOK)["ended"]; ended != true {
				t.Errorf("ended %v", ended)
			}
			<-logouts
			if ended := s.api(t, http.MethodPost, "/sessions/s-1", "", http.StatusOK)["ended"]; ended != false {
				t.Errorf("ended again: %v", ended)
			}
		})
	}
}

// A login that fails, or has too much to do, is a failure, and not somebody who is signed out.
func TestLogoutWhenTheLoginFails(t *testing.T) {
	s := newServer(t)
	status := http.StatusTooManyRequests
	login := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	t.Cleanup(login.Close)
	forward := func(upstream string) string {
		return "login {\nforward_auth " + upstream + " {\nuri /whoami\n}\n}\nuser {rp.header.Remote-User}"
	}
	for name, tt := range map[string]struct {
		login string
		want  int
	}{
		"away":     {forward("127.0.0.1:1"), http.StatusBadGateway},
		"too much": {forward(strings.TrimPrefix(login.URL, "http://")), http.StatusServiceUnavailable},
		"refused":  {"login {\nerror 429\n}\nuser {http.auth.user.id}", http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			s.run(t, "", logoutSite(tt.login, "http://127.0.0.1:1/"))
			if answer := s.get(t, s.url("shop.localhost")+"/oauth/logout"); answer.status != tt.want {
				t.Errorf("%d %s, want %d", answer.status, answer.body, tt.want)
			}
		})
	}
	status = http.StatusForbidden
	s.run(t, "", logoutSite(forward(strings.TrimPrefix(login.URL, "http://")), "http://127.0.0.1:1/"))
	if answer := s.get(t, s.url("shop.localhost")+"/oauth/logout"); answer.status != http.StatusOK {
		t.Errorf("nobody: %d %s", answer.status, answer.body)
	}
}

// The page that asks works with a login that reads the form, and its answer is only for the person who was asked.
func TestLogoutPage(t *testing.T) {
	s := newServer(t)
	s.run(t, "", logoutSite(basicLogin, "http://127.0.0.1:1/"))
	issuer := s.url("shop.localhost")
	page := s.get(t, issuer+"/oauth/logout", "Authorization", aliceCredentials)
	sealed := regexp.MustCompile(`name="request" value="([^"]+)"`).FindStringSubmatch(page.body)
	if sealed == nil {
		t.Fatalf("%d %s", page.status, page.body)
	}
	form := url.Values{"request": {sealed[1]}, "decision": {"sign_out"}}.Encode()
	answer := s.do(t, http.MethodPost, issuer+"/oauth/logout", "application/x-www-form-urlencoded", form, "Authorization", aliceCredentials, "Origin", issuer)
	if answer.status != http.StatusSeeOther || !strings.HasPrefix(answer.header.Get("Location"), "/bye?") {
		t.Errorf("%d %v %s", answer.status, answer.header, answer.body)
	}
	answer = s.do(t, http.MethodPost, issuer+"/oauth/logout", "application/x-www-form-urlencoded", form, "Authorization", aliceCredentials, "Origin", "https://evil.example")
	if answer.status != http.StatusForbidden {
		t.Errorf("from another site: %d %v", answer.status, answer.header)
	}
}
