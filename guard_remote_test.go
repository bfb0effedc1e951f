package caddyoauth_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// remoteIssuer is an issuer that this Caddy does not serve.
type remoteIssuer struct {
	*httptest.Server
	mu    sync.Mutex
	keys  string
	asked int
	down  bool
}

func newRemoteIssuer(t *testing.T) *remoteIssuer {
	t.Helper()
	e := new(remoteIssuer)
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.asked++
		switch {
		case e.down:
			w.WriteHeader(http.StatusBadGateway)
		case r.URL.Path == "/.well-known/oauth-authorization-server":
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": e.URL, "jwks_uri": e.URL + "/jwks"}) // strings can be encoded
		default:
			_, _ = w.Write([]byte(e.keys))
		}
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *remoteIssuer) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.asked
}

func (e *remoteIssuer) set(down bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.down = down
}

func TestGuardOfARemoteIssuer(t *testing.T) {
	s := newServer(t)
	e := newRemoteIssuer(t)
	// This Caddy makes the tokens and the keys of that issuer, before the issuer is a remote one.
	global := strings.ReplaceAll(shop, "issuer http://shop.localhost:PORT", "issuer idp "+e.URL)
	sites := `http://idp.localhost:PORT {
		vars person alice
		oauth idp {
			user {vars.person}
		}
	}`
	s.run(t, global, sites)
	token := s.signIn(t, s.url("idp.localhost")).AccessToken
	e.keys = s.get(t, s.url("idp.localhost")+"/oauth/jwks").body
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	guard := `http://shop.localhost:PORT {
		oauth_guard ` + e.URL + ` {
			audience AUDIENCE
			header X-User {http.auth.user.id}
		}
		respond "{header.X-User} of {http.auth.user.client_id}"
	}`
	ours := strings.Replace(guard, "AUDIENCE", e.URL, 1)
	e.set(true)
	s.run(t, "", ours) // the issuer is down, and there is no option oauth
	if e.count() != 0 {
		t.Error("the configuration asks the issuer")
	}
	api, bearer := s.url("shop.localhost")+"/", []string{"Authorization", "Bearer " + token}
	if answer := s.get(t, api, bearer...); answer.status != http.StatusServiceUnavailable {
		t.Errorf("without keys: %d %s", answer.status, answer.body)
	}
	if answer := s.get(t, api, "Authorization", "Bearer garbage"); answer.status != http.StatusUnauthorized {
		t.Errorf("garbage without keys: %d %s", answer.status, answer.body)
	}
	e.set(false)
	eventually(t, "the guard to find the keys of the issuer, which is up again", func() bool {
		return s.get(t, api, bearer...).body == "alice of app"
	})

	asked := e.count()
	e.set(true)
	s.run(t, "", strings.Replace(guard, "AUDIENCE", e.URL+" https://other.example", 1)) // a reload forgets no key
	if answer := s.get(t, api, bearer...); answer.body != "alice of app" || e.count() != asked {
		t.Errorf("after a reload: %d %s, and the issuer is asked %d times", answer.status, answer.body, e.count()-asked)
	}
	s.run(t, "", strings.Replace(guard, "AUDIENCE", "https://other.example", 1))
	if answer := s.get(t, api, bearer...); answer.status != 401 || !strings.Contains(answer.header.Get("WWW-Authenticate"), "other audience") {
		t.Errorf("for another resource: %d %v", answer.status, answer.header)
	}
	if answer := s.get(t, s.url("shop.localhost")+"/.well-known/oauth-protected-resource"); !strings.Contains(answer.body, `"authorization_servers":["`+e.URL+`"]`) {
		t.Errorf("the metadata is %s", answer.body)
	}
}
