package caddyoauth_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// shopWithPasswords returns the shop with the password grant and a verifier of passwords.
func shopWithPasswords(verifier string) string {
	return strings.NewReplacer(
		"scope orders\n", "scope orders\ngrant password {\n"+verifier+"\n}\n",
		"grant_types", "grant_types password",
	).Replace(shop)
}

const (
	wonderland = "wonderland is the password"
	carolsName = "carol@example.com"
)

// passwordSite knows one password, and answers with more members than it should.
func passwordSite(t *testing.T) (url string) {
	t.Helper()
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("password") != wonderland {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, `{"id":9007199254740993,"email":"carol@example.com","iss":"https://evil.example","sub":"root",
			"aud":"evil","exp":99999999999,"scope":"admin","client_id":"evil","jti":"x","act":{"sub":"root"}}`)
	}))
	t.Cleanup(site.Close)
	return site.URL
}

// login asks for tokens with a user name and a password.
func (s *server) login(t *testing.T, password string) answer {
	t.Helper()
	form := url.Values{
		"grant_type": {"password"}, "username": {carolsName}, "password": {password}, "client_id": {"app"}, "client_secret": {"app-secret"},
	}
	return s.do(t, http.MethodPost, s.url("shop.localhost")+"/oauth/token", "application/x-www-form-urlencoded", form.Encode())
}

func TestPasswordsOfTheSite(t *testing.T) {
	s := newServer(t)
	s.run(t, shopWithPasswords("verify "+passwordSite(t)+" {\nsubject id\nclaims email iss sub aud exp scope client_id jti act\n}"), shopSite)

	got := s.token(t, s.url("shop.localhost"), url.Values{
		"grant_type": {"password"}, "username": {carolsName}, "password": {wonderland},
	})
	token := claims(t, got.AccessToken)
	for name, want := range map[string]any{
		"sub": "9007199254740993", "email": carolsName, "iss": s.url("shop.localhost"), "aud": s.url("shop.localhost"),
		"scope": "orders", "client_id": "app", "act": nil,
	} {
		if token[name] != want {
			t.Errorf("%s is %v, want %v", name, token[name], want)
		}
	}
	if token["jti"] == "x" || token["exp"] == 99999999999.0 {
		t.Errorf("the site's claims replace the server's: %v", token)
	}
	if again := s.refresh(t, s.url("shop.localhost"), got.RefreshToken); claims(t, again.AccessToken)["sub"] != "9007199254740993" {
		t.Errorf("the refresh yields %+v", again)
	}
	if wrong := s.login(t, "guess of a password"); wrong.status != http.StatusBadRequest || !strings.Contains(wrong.body, `"invalid_grant"`) {
		t.Errorf("a wrong password: %d %s", wrong.status, wrong.body)
	}

	t.Run("RFC 9700 §2.4 a warning at the start", func(t *testing.T) {
		const warning = "the password grant is on: clients handle people's passwords (RFC 9700 section 2.4 forbids it); use it only for clients that cannot use the code flow yet"
		if entries := s.logged(t, warning); len(entries) != 1 || entries[0]["level"] != "warn" || entries[0]["logger"] != "oauth.grants.password" {
			t.Errorf("logged: %v", entries)
		}
	})
	t.Run("neither user name nor password is in the log", func(t *testing.T) {
		log, err := os.ReadFile(s.logFile())
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{carolsName, url.QueryEscape(carolsName), "carol", wonderland, "wonderland", "guess of"} {
			if strings.Contains(string(log), secret) {
				t.Errorf("%q is in the log", secret)
			}
		}
	})
}

// A reload does not reset the limits for guesses.
func TestThrottleSurvivesReload(t *testing.T) {
	s := newServer(t)
	global := shopWithPasswords("verify " + passwordSite(t))
	s.run(t, global, shopSite)
	status := 0
	for range 20 {
		if status = s.login(t, "guess").status; status != http.StatusBadRequest {
			break
		}
	}
	if status != http.StatusTooManyRequests {
		t.Fatalf("guessing ends with %d", status)
	}
	s.run(t, strings.Replace(global, "scope orders", `scope orders "your orders"`, 1), shopSite)
	failing := s.adapt(t, strings.Replace(global, "store memory", "store memory\npage {\nlogo /no/such/file\n}", 1), shopSite)
	if err := caddy.Load(failing, true); err == nil {
		t.Fatal("expected an error")
	}
	s.run(t, global, shopSite)
	if got := s.login(t, wonderland); got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") == "" {
		t.Errorf("after reloads: %d %s", got.status, got.body)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	s.run(t, global, shopSite)
	if got := s.login(t, wonderland); got.status != http.StatusOK {
		t.Errorf("the throttle outlived the last config: %d %s", got.status, got.body)
	}
}

// A client that is added at run time may have any grant type of its issuer, as a client of the configuration may.
func TestClientOfRunTimeWithPasswords(t *testing.T) {
	s := newServer(t)
	s.run(t, shopWithPasswords("verify "+passwordSite(t)+" {\nsubject id\n}"), shopSite)
	added := s.api(t, http.MethodPost, "/clients", `{"client_id": "till", "grant_types": ["password"], "scopes": ["orders"]}`, http.StatusCreated)
	got := s.do(t, http.MethodPost, s.url("shop.localhost")+"/oauth/token", "application/x-www-form-urlencoded", url.Values{
		"grant_type": {"password"}, "username": {carolsName}, "password": {wonderland},
		"client_id": {"till"}, "client_secret": {added["client_secret"].(string)},
	}.Encode())
	if got.status != http.StatusOK {
		t.Errorf("a login with the added client: %d %s", got.status, got.body)
	}
}
