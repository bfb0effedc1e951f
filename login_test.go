package caddyoauth_test

import (
	"encoding/base64"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// oneBlock returns a site whose directive oauth defines its issuer, with further lines in the block.
func oneBlock(lines string) string {
	return `http://shop.localhost:PORT {
		oauth http://shop.localhost:PORT {
			` + lines + `
			store memory
			scope orders
			` + shopClient + `
		}
		respond "the site's own"
	}`
}

const basicLogin = "login {\nbasic_auth {\nalice " + aliceHash + "\n}\n}"

var aliceCredentials = "Basic " + base64.StdEncoding.EncodeToString([]byte("alice:wonderland"))

// whoami is a login of a site as forward_auth asks it. It knows the person by the header X-Session, and sends others to a page.
func whoami(t *testing.T) (address string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err != nil || len(body) > 0 {
			t.Errorf("the login got a body: %q %v", body, err)
		}
		w.Header().Set("Remote-Uri", r.Header.Get("X-Forwarded-Uri"))
		switch r.Header.Get("X-Session") {
		case "alice":
			w.Header().Set("Remote-User", "alice")
		case "broken":
			w.WriteHeader(http.StatusTeapot)
		default:
			http.Redirect(w, r, "https://login.example.com/", http.StatusFound)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// The directives in login run for requests that need a person, and for no others.
func TestLoginIsAskedBeforePages(t *testing.T) {
	forward := "login {\nforward_auth " + whoami(t) + " {\nuri /whoami\n}\n}\nuser {rp.header.Remote-User}"
	forwarded := []string{"X-Session", "alice"}
	basic := []string{"Authorization", aliceCredentials}
	for _, tt := range []struct {
		name, lines string
		header      []string // of alice
		status      int      // for others
	}{
		{"basic_auth", basicLogin, basic, http.StatusUnauthorized},
		{"basic_auth with a matcher", strings.Replace(basicLogin, "basic_auth", "basic_auth /oauth/authorize", 1), basic, http.StatusUnauthorized},
		{"basic_auth with a matcher of the login", strings.Replace(basicLogin, "basic_auth", "@authorize path /oauth/authorize\nbasic_auth @authorize", 1), basic, http.StatusUnauthorized},
		{"forward_auth", forward, forwarded, http.StatusFound},
		{"handle", "login {\nhandle /oauth/authorize {\nbasic_auth {\nalice " + aliceHash + "\n}\n}\nhandle {\nrespond \"wrong\"\n}\n}", basic, http.StatusUnauthorized},
		{"vars", "login {\nvars person {header.X-Session}\n}\nuser {vars.person}", forwarded, http.StatusUnauthorized},
		{"a page", "login /login\nuser {vars.nobody}", nil, http.StatusSeeOther},
		{"a page and directives", strings.Replace(forward, "login", "login https://login.example.com next", 1), forwarded, http.StatusFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			s.run(t, "", oneBlock(tt.lines))
			issuer := s.url("shop.localhost")
			if answer := s.authorize(t, issuer, callback); answer.status != tt.status || strings.Contains(answer.header.Get("Location"), "code=") {
				t.Errorf("nobody: %d %v", answer.status, answer.header)
			}
			if challenge := s.authorize(t, issuer, callback).header.Get("WWW-Authenticate"); strings.Contains(tt.lines, "basic_auth") != (challenge != "") {
				t.Errorf("nobody gets the challenge %q", challenge)
			}
			if tt.header == nil {
				return
			}
			if got := claims(t, s.signIn(t, issuer, tt.header...).AccessToken); got["sub"] != "alice" {
				t.Errorf("the claims are %v", got)
			}
			for _, path := range []string{"/oauth/jwks", "/.well-known/oauth-authorization-server", "/"} {
				if answer := s.get(t, issuer+path); answer.status != http.StatusOK {
					t.Errorf("%s: %d %v", path, answer.status, answer.header)
				}
			}
		})
	}
}

// A login sees the URL that the client sent, and so do error routes.
func TestLoginSeesTheURLOfTheClient(t *testing.T) {
	s := newServer(t)
	lines := "login {\nforward_auth " + whoami(t) + " {\nuri /whoami\n}\n}\nuser {rp.header.Remote-User}\nclaim uri {rp.header.Remote-Uri}"
	site := strings.Replace(oneBlock(lines), "oauth http", "handle_path /oauth/* {\noauth http", 1)
	site = strings.Replace(site, "respond", "}\nhandle_errors {\nrespond \"{http.error.status_code} {uri}\"\n}\nrespond", 1)
	s.run(t, "", site)
	issuer := s.url("shop.localhost")
	got := claims(t, s.signIn(t, issuer, "X-Session", "alice").AccessToken)
	if uri, _ := got["uri"].(string); !strings.HasPrefix(uri, "/oauth/authorize?") {
		t.Errorf("the login got %q", uri)
	}
	if answer := s.get(t, issuer+"/oauth/authorize?client_id=nobody", "X-Session", "alice"); answer.body != "400 /oauth/authorize?client_id=nobody" {
		t.Errorf("%d %s", answer.status, answer.body)
	}
}

// A form is for the endpoint, whatever the login does with the request.
func TestLoginLeavesTheForm(t *testing.T) {
	reader := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(io.Discard, r.Body); err != nil || (n > 0) != (r.Method == http.MethodPost) {
			t.Errorf("the login got %d bytes: %v", n, err)
		}
		w.Header().Set("Remote-User", "alice")
	}))
	t.Cleanup(reader.Close)
	for name, login := range map[string]string{
		"basic_auth":   basicLogin,
		"forward_auth": "login {\nforward_auth " + whoami(t) + " {\nuri /whoami\n}\n}\nuser {rp.header.Remote-User}",
		"a rewrite":    "login {\nmethod GET\nrewrite /elsewhere\nvars person alice\n}\nuser {vars.person}",
		"a reader": "login {\nreverse_proxy " + strings.TrimPrefix(reader.URL, "http://") + " {\n@ok status 2xx\n" +
			"handle_response @ok {\nvars read yes\n}\n}\n}\nuser {rp.header.Remote-User}",
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.run(t, "", strings.Replace(oneBlock(login), "consent never", "consent always", 1))
			issuer, header := s.url("shop.localhost"), []string{"Authorization", aliceCredentials, "X-Session", "alice"}
			page := s.authorize(t, issuer, callback, header...)
			sealed := regexp.MustCompile(`name="request" value="([^"]+)"`).FindStringSubmatch(page.body)
			if sealed == nil {
				t.Fatalf("%d %s", page.status, page.body)
			}
			form := url.Values{"request": {html.UnescapeString(sealed[1])}, "decision": {"allow"}}.Encode()
			answer := s.do(t, http.MethodPost, issuer+"/oauth/authorize", "application/x-www-form-urlencoded", form,
				append(header, "Origin", issuer)...)
			if !strings.Contains(answer.header.Get("Location"), "code=") {
				t.Errorf("%d %v %s", answer.status, answer.header, answer.body)
			}
		})
	}
}

// A login that fails is a failure of the site, which handle_errors can style.
func TestFailuresOfALogin(t *testing.T) {
	s := newServer(t)
	site := strings.Replace(oneBlock(basicLogin), "respond", "handle_errors {\nrespond \"styled {err.status_code}\" {err.status_code}\n}\nrespond", 1)
	s.run(t, "", site)
	answer := s.authorize(t, s.url("shop.localhost"), callback)
	if answer.status != http.StatusUnauthorized || answer.body != "styled 401" || answer.header.Get("WWW-Authenticate") == "" {
		t.Errorf("%d %v %s", answer.status, answer.header, answer.body)
	}
	s.run(t, "", strings.Replace(site, basicLogin, "login {\nforward_auth 127.0.0.1:1 {\nuri /whoami\n}\n}\nuser {rp.header.Remote-User}", 1))
	if answer := s.authorize(t, s.url("shop.localhost"), callback); answer.status != http.StatusBadGateway || answer.body != "styled 502" {
		t.Errorf("%d %v %s", answer.status, answer.header, answer.body)
	}
	if answer := s.get(t, s.url("shop.localhost")+"/oauth/jwks"); answer.status != http.StatusOK {
		t.Errorf("%d %s", answer.status, answer.body)
	}
	s.run(t, "", strings.Replace(site, basicLogin, "login {\nforward_auth "+whoami(t)+" {\nuri /whoami\n}\n}\nuser {rp.header.Remote-User}", 1))
	if answer := s.authorize(t, s.url("shop.localhost"), callback, "X-Session", "broken"); answer.status != http.StatusTeapot {
		t.Errorf("%d %v %s", answer.status, answer.header, answer.body)
	}
}

// OpenID Connect Core §3.1.2.1: with prompt=none, the application gets an error, and nobody a page of the login.
func TestNoPageOfALogin(t *testing.T) {
	s := newServer(t)
	forward := func(upstream string) string {
		return "login {\nforward_auth " + upstream + " {\nuri /whoami\n}\n}\nuser {rp.header.Remote-User}"
	}
	check := func(t *testing.T, answer answer, want string) {
		t.Helper()
		to, err := url.Parse(answer.header.Get("Location"))
		if err != nil || answer.status != http.StatusSeeOther || to.Query().Get("error") != want || answer.header.Get("WWW-Authenticate") != "" {
			t.Errorf("%d %v %s, want the error %s", answer.status, answer.header, answer.body, want)
		}
	}
	for _, tt := range []struct{ name, login, session, want string }{
		{"basic_auth, and no password", basicLogin, "", "login_required"},
		{"forward_auth, and no session", forward(whoami(t)), "", "login_required"},
		{"forward_auth, and a session", forward(whoami(t)), "alice", ""},
		{"forward_auth, and another answer", forward(whoami(t)), "broken", "login_required"},
		{"forward_auth that is away", forward("127.0.0.1:1"), "", "temporarily_unavailable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.run(t, "", strings.Replace(oneBlock(basicLogin), basicLogin, tt.login, 1))
			var headers []string
			if tt.session != "" {
				headers = []string{"X-Session", tt.session}
			}
			params := url.Values{"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {callback}, "prompt": {"none"}}
			answer := s.get(t, s.url("shop.localhost")+"/oauth/authorize?"+params.Encode(), headers...)
			check(t, answer, tt.want)
			form := "application/x-www-form-urlencoded"
			check(t, s.do(t, http.MethodPost, s.url("shop.localhost")+"/oauth/authorize", form, params.Encode(), headers...), tt.want)
			pushed := s.do(t, http.MethodPost, s.url("shop.localhost")+"/oauth/par", form, params.Encode()+"&client_secret=app-secret")
			var reference struct {
				RequestURI string `json:"request_uri"`
			}
			if err := json.Unmarshal([]byte(pushed.body), &reference); err != nil || reference.RequestURI == "" {
				t.Fatalf("%d %s", pushed.status, pushed.body)
			}
			check(t, s.get(t, s.url("shop.localhost")+"/oauth/authorize?"+url.Values{
				"client_id": {"app"}, "request_uri": {reference.RequestURI},
			}.Encode(), headers...), tt.want)
		})
	}
}

// People who are signed in are sent to the page of reauthenticate, and what the login then says of the time decides.
func TestReauthenticate(t *testing.T) {
	login := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Remote-User", "alice")
		w.Header().Set("Remote-Auth-Time", r.Header.Get("X-Time"))
		w.Header().Set("Remote-Acr", "pwd")
	}))
	t.Cleanup(login.Close)
	s := newServer(t)
	s.run(t, "", oneBlock("login /login {\nforward_auth "+strings.TrimPrefix(login.URL, "http://")+" {\nuri /whoami\n}\n}\nuser {rp.header.Remote-User}\n"+
		"session {\nauth_time {rp.header.Remote-Auth-Time}\nacr {rp.header.Remote-Acr} pwd mfa\nreauthenticate /login?fresh=1 back\n}"))
	issuer, old := s.url("shop.localhost"), strconv.FormatInt(time.Now().Add(-time.Hour).Unix(), 10)
	for name, params := range map[string]string{"prompt": "&prompt=login", "max_age": "&max_age=60", "acr_values": "&acr_values=mfa"} {
		t.Run(name, func(t *testing.T) {
			request := issuer + "/oauth/authorize?" + url.Values{"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {callback}}.Encode() + params
			sent := s.get(t, request, "X-Time", old)
			page, err := url.Parse(sent.header.Get("Location"))
			if err != nil || sent.status != http.StatusSeeOther || page.Path != "/login" || page.Query().Get("fresh") != "1" || page.Query().Get("prompt") != "login" {
				t.Fatalf("%d %v %s", sent.status, sent.header, sent.body)
			}
			cookie, _, _ := strings.Cut(sent.header.Get("Set-Cookie"), ";")
			back := issuer + page.Query().Get("back")
			again := s.get(t, back, "X-Time", old, "Cookie", cookie)
			if refused := strings.Contains(again.header.Get("Location"), "error=login_required"); refused != (name != "acr_values") {
				t.Errorf("without a new login: %d %v", again.status, again.header)
			}
			fresh := s.get(t, back, "X-Time", strconv.FormatInt(time.Now().Unix(), 10), "Cookie", cookie)
			if !strings.Contains(fresh.header.Get("Location"), "code=") {
				t.Errorf("after a new login: %d %v", fresh.status, fresh.header)
			}
		})
	}
}

// Without directives in login, the logins that stand beside the directive run before a page.
func TestSiteLoginIsAskedFirst(t *testing.T) {
	whoami := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "alice" || password != "wonderland" || r.Header.Get("X-Forwarded-Uri") == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Remote-User", "alice")
	}))
	t.Cleanup(whoami.Close)
	basic := "alice " + aliceHash
	forward := "forward_auth MATCHER " + strings.TrimPrefix(whoami.URL, "http://") + " {\nuri /whoami\ncopy_headers Remote-User\n}\noauth {\nuser {rp.header.Remote-User}\n}"
	for _, tt := range []struct {
		name, site string
		signedIn   bool
	}{
		{"basic_auth", "basic_auth /oauth/authorize {\n" + basic + "\n}\noauth", true},
		{"basic_auth of the whole site", "basic_auth {\n" + basic + "\n}\noauth", true},
		{"basic_auth of other paths", "basic_auth /account/* {\n" + basic + "\n}\noauth", false},
		{"forward_auth", strings.Replace(forward, "MATCHER", "/oauth/authorize", 1), true},
		{"forward_auth of the whole site", strings.Replace(forward, "MATCHER ", "", 1), true},
		{"forward_auth of other paths", strings.Replace(forward, "MATCHER", "/account/*", 1), false},
		{"beside other handlers", "basic_auth {\n" + basic + "\n}\nrequest_header X-Other x\nencode gzip\noauth", true},
		{"before a rewrite", "try_files /index.html\nbasic_auth /oauth/authorize {\n" + basic + "\n}\noauth", true},
		{"in the same block", "handle /oauth/* {\nbasic_auth /oauth/authorize {\n" + basic + "\n}\noauth\n}", true},
		{"in another block", "handle /account/* {\nbasic_auth {\n" + basic + "\n}\n}\noauth", false},
		{"as written", "route {\nbasic_auth /oauth/authorize {\n" + basic + "\n}\noauth\n}", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			s.run(t, shop, "http://shop.localhost:PORT {\n"+tt.site+"\nrespond \"the site's own\"\n}\nhttp://other.localhost:PORT {\nbasic_auth {\n"+basic+"\n}\n}")
			issuer := s.url("shop.localhost")
			if answer := s.authorize(t, issuer, callback); answer.status != http.StatusUnauthorized {
				t.Errorf("without a password: %d %s", answer.status, answer.body)
			}
			credentials := "Basic " + base64.StdEncoding.EncodeToString([]byte("alice:wonderland"))
			answer := s.authorize(t, issuer, callback, "Authorization", credentials)
			if signedIn := strings.Contains(answer.header.Get("Location"), "code="); signedIn != tt.signedIn {
				t.Errorf("signed in: %t, want %t: %d %v %s", signedIn, tt.signedIn, answer.status, answer.header, answer.body)
			}
		})
	}
}
