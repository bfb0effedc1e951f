package caddyoauth_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
)

// Clients put secrets into URLs, where they do not belong. Caddy logs URLs: in the access log, and at debug with errors.
func TestNoLogHasASecretOfAURL(t *testing.T) {
	const secret = "a-good-s3cret"
	s := newServer(t)
	s.run(t, shop, `http://shop.localhost:PORT {
		log
		vars person alice
		oauth {
			user {vars.person}
		}
		oauth_guard /api/*
		reverse_proxy /api/proxied `+upstream(t)+`
		@read expression "{query} != ''"
		respond @read "the site reads {http.request.uri.query}, {http.request.orig_uri} and {query.code}"
		respond "the site's own"
		handle_errors {
			respond "styled {err.status_code}" {err.status_code}
		}
	}
	`)
	token := s.signIn(t, s.url("shop.localhost")).AccessToken
	const form = "application/x-www-form-urlencoded"
	for _, tt := range []struct {
		method, target, body string
		header               []string
		status               int
		answer               string
		uri                  string // in the access log
	}{
		{
			"POST", "/oauth/token?client_id=app&client_secret=" + secret, "grant_type=refresh_token", nil, 400, "client_secret must not be in the URL",
			"/oauth/token?client_id=app&client_secret=HIDDEN",
		},
		{
			"POST", "/oauth/token?client%5Fsecret=" + secret, "grant_type=refresh_token", nil, 400, "client_secret must not be in the URL",
			"/oauth/token?client%5Fsecret=HIDDEN",
		},
		{
			"POST", "/oauth/token?code=" + secret + "&code_verifier=" + secret + "&password=" + secret, "client_id=app&client_secret=app-secret&grant_type=nonsense",
			nil, 400, "unsupported_grant_type", "/oauth/token?code=HIDDEN&code_verifier=HIDDEN&password=HIDDEN",
		},
		{"GET", "/oauth/introspect?token=" + secret, "", nil, 405, "this endpoint takes POST", "/oauth/introspect?token=HIDDEN"},
		{"GET", "/oauth/authorize?client_id=nobody&password=" + secret, "", nil, 400, "styled 400", "/oauth/authorize?client_id=nobody&password=HIDDEN"},
		{
			"GET", "/oauth/authorize?client_id=app&redirect_uri=https%3A%2F%2Fapp.example.com%2Fcallback%3Fcode%3D" + secret, "", nil, 400, "styled 400",
			"/oauth/authorize?client_id=app&redirect_uri=https%3A%2F%2Fapp.example.com%2Fcallback%3Fcode%3DHIDDEN",
		},
		{"GET", "/oauth/jwks", "", []string{"Referer", "https://app.example.com/callback?code=" + secret}, 200, "keys", "/oauth/jwks"},
		{"GET", "/api/orders?access_token=" + secret, "", nil, 400, "styled 400", "/api/orders?access_token=HIDDEN"},
		{"GET", "/api/orders?access_token=" + secret, "", []string{"Authorization", "Bearer " + token}, 400, "styled 400", "/api/orders?access_token=HIDDEN"},
		{"GET", "/api/orders?token=" + secret + "&x=1", "", nil, 401, "styled 401", "/api/orders?token=HIDDEN&x=1"},
		{"GET", "/api/orders?token=" + secret + "&x=2", "", []string{"Authorization", "Bearer nonsense"}, 401, "styled 401", "/api/orders?token=HIDDEN&x=2"},
		{"GET", "/a/..%2fb?access_token=" + secret, "", nil, 400, "two ways", "/a/..%2fb?access_token=HIDDEN"},
		// What passes is logged without the secret too, and the site gets all of it.
		{
			"GET", "/api/orders?token=" + secret + "&x=3", "",
			[]string{"Authorization", "Bearer " + token},
			200,
			"the site reads token=" + secret + "&x=3, /api/orders?token=" + secret + "&x=3", "/api/orders?token=HIDDEN&x=3",
		},
		{"GET", "/api/proxied?password=" + secret, "", []string{"Authorization", "Bearer " + token}, 200, "", "/api/proxied?password=HIDDEN"},
		{
			"POST", "/api/orders?code=" + secret, "body",
			[]string{"Authorization", "Bearer " + token},
			200,
			"/api/orders?code=" + secret + " and " + secret, "/api/orders?code=HIDDEN",
		},
		{"GET", "/callback?code=" + secret + "&state=1", "", nil, 200, "the site reads code=" + secret + "&state=1", "/callback?code=HIDDEN&state=1"},
		{"GET", "/oauth/token;client_secret=" + secret + "/x", "", nil, 200, "the site's own", "/oauth/token;client_secret=HIDDEN/x"},
		{"GET", "/oauth/authorize?client_id=nobody&request=" + secret, "", nil, 400, "styled 400", "/oauth/authorize?client_id=nobody&request=HIDDEN"},
		{"GET", "/style.css", "", []string{"Referer", "https://shop.localhost/callback?code=" + secret}, 200, "the site's own", "/style.css"},
	} {
		before := len(s.accessLog(t, tt.uri))
		answer := s.do(t, tt.method, s.url("shop.localhost")+tt.target, form, tt.body, tt.header...)
		if answer.status != tt.status || !strings.Contains(answer.body, tt.answer) {
			t.Errorf("%s %s: %d %s", tt.method, tt.target, answer.status, answer.body)
		}
		if strings.Contains(strings.Join(tt.header, " "), "nonsense") && !strings.Contains(answer.header.Get("WWW-Authenticate"), "invalid_token") {
			t.Errorf("%s: WWW-Authenticate %q", tt.target, answer.header.Get("WWW-Authenticate"))
		}
		eventually(t, "a line of the access log for "+tt.uri, func() bool { return len(s.accessLog(t, tt.uri)) > before })
		if lines := s.accessLog(t, tt.uri); len(lines) != before+1 || lines[before]["status"] != float64(tt.status) {
			t.Errorf("the access log has %d lines for %s: %v", len(lines)-before, tt.uri, lines[before:])
		}
	}
	log, err := os.ReadFile(s.logFile())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, secret) {
			t.Errorf("the log has the secret: %s", line)
		}
	}
}

// accessLog returns the lines of the access log for a URI.
func (s *server) accessLog(t *testing.T, uri string) []map[string]any {
	t.Helper()
	return s.logEntries(t, func(entry map[string]any) bool {
		request, _ := entry["request"].(map[string]any)
		return entry["msg"] == "handled request" && request["uri"] == uri
	})
}

func TestSettingsForOtherKindsOfClients(t *testing.T) {
	s := newServer(t)
	s.run(t, `oauth {
		issuer http://shop.localhost:PORT {
			store memory
			access_token {
				typ JWT
			}
			client app {
				redirect_uris cursor://callback
				secret app-secret
				consent never
				iss off
				allow_insecure_redirects
			}
			client job {
				secret job-secret
				grant_types client_credentials
			}
		}
	}`, `http://shop.localhost:PORT {
		vars person alice
		oauth {
			user {vars.person}
		}
		oauth_guard /api/*
		respond "the site's own"
	}`)
	issuer := s.url("shop.localhost")
	location := s.authorize(t, issuer, "cursor://callback").header.Get("Location")
	if !strings.HasPrefix(location, "cursor://callback?code=") || strings.Contains(location, "iss=") {
		t.Errorf("Location %q", location)
	}
	answer := s.do(t, http.MethodPost, issuer+"/oauth/token", "application/x-www-form-urlencoded",
		"grant_type=client_credentials&client_id=job&client_secret=job-secret")
	var got tokens
	if err := json.Unmarshal([]byte(answer.body), &got); err != nil {
		t.Fatal(err)
	}
	encoded, _, _ := strings.Cut(got.AccessToken, ".")
	if head, err := base64.RawURLEncoding.DecodeString(encoded); err != nil || !strings.Contains(string(head), `"typ":"JWT"`) {
		t.Errorf("header %s", head)
	}
	if answer := s.get(t, issuer+"/api/orders", "Authorization", "Bearer "+got.AccessToken); answer.status != http.StatusOK {
		t.Errorf("the guard: %d %v", answer.status, answer.header)
	}
}

// Directives that stand before a guard run again for a request with a secret in its URL, and the response has what they add once.
func TestRestartedRequestLeavesNothingBehind(t *testing.T) {
	s := newServer(t)
	s.run(t, shop, `http://shop.localhost:PORT {
		log
		route {
			header +X-Added yes
			header +X-Deferred yes {
				defer
			}
			oauth_guard {
				optional
			}
			respond "{query.code} {http.request.body}"
		}
	}`)
	answer := s.do(t, http.MethodPost, s.url("shop.localhost")+"/?code=a-good-s3cret", "text/plain", "the body")
	if answer.status != http.StatusOK || answer.body != "a-good-s3cret the body" {
		t.Errorf("%d %s", answer.status, answer.body)
	}
	for _, name := range []string{"X-Added", "X-Deferred", "Server"} {
		if values := answer.header.Values(name); len(values) != 1 {
			t.Errorf("%s: %q", name, values)
		}
	}
	eventually(t, "the line of the access log", func() bool { return len(s.accessLog(t, "/?code=HIDDEN")) == 1 })
}

// The login page gets the code of a device, and an application's form that signs somebody out goes on as a GET: the access log has neither
// the code nor the ID token of the Location.
func TestNoLogHasASecretOfALocation(t *testing.T) {
	s := newServer(t)
	s.run(t, strings.Replace(shop, "scope orders", "openid\nscope orders", 1), `http://shop.localhost:PORT {
		log
		oauth {
			login /login
		}
		respond "the site's own"
	}
	`)
	issuer := s.url("shop.localhost")
	const code, token = "WDJB-MJHT", "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
	answer := s.get(t, issuer+"/oauth/device?user_code="+code)
	if location := answer.header.Get("Location"); !strings.Contains(location, code) {
		t.Fatalf("%d to %q", answer.status, location)
	}
	answer = s.do(t, http.MethodPost, issuer+"/oauth/logout", "application/x-www-form-urlencoded", "id_token_hint="+token, "Origin", "https://app.example.com")
	if location := answer.header.Get("Location"); !strings.Contains(location, token) {
		t.Fatalf("%d to %q", answer.status, location)
	}
	eventually(t, "two lines of the access log", func() bool {
		return len(s.logEntries(t, func(entry map[string]any) bool { return entry["msg"] == "handled request" })) >= 2
	})
	log, err := os.ReadFile(s.logFile())
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{code, token} {
		if strings.Contains(string(log), secret) {
			t.Errorf("the log has %s", secret)
		}
	}
}
