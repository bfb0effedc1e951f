// Package openid signs people in at relying parties that others have written, as they are.
package openid

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/internal/testneeds"
)

func TestMain(m *testing.M) {
	code := integration.Main(m)
	_ = os.RemoveAll(packages.dir)
	os.Exit(code)
}

var must = integration.Must

// secret is that of all clients.
const secret = "mT4Wq9Zx7Lb2Nv5Kc8Rj3Hf6Yp1Dg0Sa"

// authTime is when alice has signed in.
var authTime = time.Now().Add(-10 * time.Minute).Truncate(time.Second)

// login is the login of the site: it asks the browser for a name and a password, and says all that the site knows of alice. At /logout, it
// signs out the browser, which keeps the password.
func login(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/logout" {
		http.SetCookie(w, &http.Cookie{Name: "signed_out", Value: rand.Text(), Path: "/"}) // #nosec G124 -- the site of the test has no https
		http.Redirect(w, r, r.FormValue("return_to"), http.StatusSeeOther)
		return
	}
	_, none := r.Cookie("signed_out")
	if name, password, _ := r.BasicAuth(); none == nil || name != integration.Customer || password != integration.Password {
		w.Header().Set("WWW-Authenticate", `Basic realm="site"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	for name, value := range map[string]string{
		"User": "alice", "Name": "Alice Liddell", "Email": "alice@example.com", "Email-Verified": "true",
		"Groups": "admins, staff", "Auth-Time": authTime.Format(time.RFC3339), "Session": "session-of-alice",
	} {
		w.Header().Set("Remote-"+name, value)
	}
}

// site has an issuer, with further settings of it.
const site = `
{$SITE} {
	oauth {$ISSUER} {
		login {
			forward_auth {$LOGIN} {
				uri /whoami
			}
		}
		user {rp.header.Remote-User}
		claim preferred_username {rp.header.Remote-User}
		claim name {rp.header.Remote-Name}
		claim email {rp.header.Remote-Email}
		claim email_verified {rp.header.Remote-Email-Verified} boolean
		claim groups {rp.header.Remote-Groups} list
		session {
			auth_time {rp.header.Remote-Auth-Time}
			sid {rp.header.Remote-Session}
			logout /logout return_to
		}
		openid
		scope groups "the groups that you are in" {
			claims groups
		}
		%s
	}
	handle /logout {
		reverse_proxy {$LOGIN}
	}
	handle {
		respond "the site"
	}
}
`

// start runs a site of alice's, with these clients.
func start(t *testing.T, clients string) *integration.Server {
	t.Helper()
	return serve(t, fmt.Sprintf(site, clients))
}

// serve runs a site whose login is at the URL {$LOGIN}.
func serve(t *testing.T, caddyfile string) *integration.Server {
	t.Helper()
	members := httptest.NewServer(http.HandlerFunc(login))
	t.Cleanup(members.Close)
	secrets := new(integration.Secrets)
	secrets.Add(secret, integration.Password)
	return integration.Start(t, integration.Config{
		Sites: caddyfile, Secrets: secrets, Env: []string{"CLIENT_SECRET=" + secret, "LOGIN=" + members.URL},
	})
}

// identity is what a relying party has found out about a person.
type identity struct {
	Claims, UserInfo, Refreshed claims // those of the ID token, of the userinfo endpoint, and of the ID token of a refresh
	Error                       any    `json:"error"`
}

// claims are those that this test compares.
type claims struct {
	Subject       string   `json:"sub,omitempty"`
	Audience      string   `json:"aud,omitempty"`
	AuthTime      int64    `json:"auth_time,omitempty"`
	Session       string   `json:"sid,omitempty"`
	Username      string   `json:"preferred_username,omitempty"`
	Name          string   `json:"name,omitempty"`
	Email         string   `json:"email,omitempty"`
	EmailVerified bool     `json:"email_verified,omitempty"`
	Groups        []string `json:"groups,omitempty"`
}

// alice is what the ID tokens for a client say, and what its userinfo says.
func alice(client string) (idToken, userinfo claims) {
	return claims{Subject: "alice", Audience: client, AuthTime: authTime.Unix(), Session: "session-of-alice"},
		claims{Subject: "alice", Username: "alice", Name: "Alice Liddell", Email: "alice@example.com", EmailVerified: true, Groups: []string{"admins", "staff"}}
}

// check compares what a client has found out, as JSON.
func check(t *testing.T, client, answer string) {
	t.Helper()
	var got identity
	if err := json.Unmarshal([]byte(answer), &got); err != nil || got.Error != nil {
		t.Fatalf("the application says %s", answer)
	}
	idToken, userinfo := alice(client)
	if want := (identity{idToken, userinfo, idToken, nil}); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// signIn opens a page of an application with a new browser, signs in, presses Allow, and returns the page at the end.
func signIn(t *testing.T, s *integration.Server, pageURL string) *integration.Page {
	t.Helper()
	return visit(t, s, integration.Password, pageURL)
}

func visit(t *testing.T, s *integration.Server, password, pageURL string) *integration.Page {
	t.Helper()
	page, err := newAlice(t, s, password).SignIn(t.Context(), pageURL, s.URL)
	must(t, err)
	return page
}

// newAlice returns alice with a new browser.
func newAlice(t *testing.T, s *integration.Server, password string) *integration.Person {
	t.Helper()
	browser := s.Client(t)
	jar, err := cookiejar.New(nil)
	must(t, err)
	browser.Jar, browser.Transport = jar, &network{s.URL, browser.Transport}
	return &integration.Person{Name: integration.Customer, Password: password, Browser: browser}
}

// network records the secrets of the site, whose URL it has, and none of the applications, whose cookies can be anything.
type network struct {
	site     string
	recorder http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasPrefix(r.URL.String(), n.site+"/") {
		return n.recorder.RoundTrip(r)
	}
	r = r.Clone(r.Context())
	r.Header.Set("Accept", "text/html, */*") // mod_auth_openidc sends only browsers to the site
	return http.DefaultTransport.RoundTrip(r)
}

// get returns the status of a page, or 0 while nobody answers.
func get(t *testing.T, target string) (status int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	must(t, err)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return 0
	}
	must(t, resp.Body.Close())
	return resp.StatusCode
}

// runs starts a program that serves a page at a URL, until the test ends.
func runs(t *testing.T, pageURL string, command *exec.Cmd) {
	t.Helper()
	command.Stdout, command.Stderr = t.Output(), t.Output()
	must(t, command.Start())
	exited := make(chan struct{})
	go func() {
		_ = command.Wait() // its output says more
		close(exited)
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill() // it may have exited
		<-exited
	})
	integration.Eventually(t, command.Path, func() bool {
		select {
		case <-exited:
			t.Fatalf("%s has exited", command.Path)
		default:
		}
		return get(t, pageURL) != 0
	})
}

// packages has the packages and the programs of testdata, which the tests share.
var packages struct {
	sync.Once

	dir     string
	failure string
}

// project returns the program node, and the directory of the packages and the programs of testdata.
func project(t *testing.T) (node, dir string) {
	t.Helper()
	node, npm := testneeds.Program(t, "node", "nodejs"), testneeds.Program(t, "npm", "npm")
	packages.Do(func() {
		var err error
		packages.dir, err = os.MkdirTemp("", "caddy-oauth-*") //nolint:usetesting // the tests share it
		must(t, err)
		must(t, os.CopyFS(packages.dir, os.DirFS("testdata")))
		output, err := integration.Output(t.Context(), packages.dir, nil, npm, "ci", "--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund")
		if err != nil {
			packages.failure = "npm cannot install the packages: " + output
		}
	})
	if packages.failure != "" {
		testneeds.Missing(t, packages.failure)
	}
	return node, packages.dir
}
