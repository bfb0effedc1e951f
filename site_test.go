package caddyoauth_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Directives of a site for other requests do not change the requests to endpoints.
func TestEndpointsStandBeforeRewrites(t *testing.T) {
	for _, tt := range []struct{ name, site string }{
		{"fallback page", "oauth\ntry_files {path} /index.html\nfile_server"},
		{"front controller", "oauth\nphp_fastcgi 127.0.0.1:1"},
		{"rewrite", "oauth\nrewrite * /index.html"},
		{"strip_prefix", "oauth\nuri strip_prefix /oauth"},
		{"redirect of everything", "oauth\nredir https://elsewhere.example{uri}"},
		{"login of everything", "oauth\nbasic_auth {\nalice " + aliceHash + "\n}"},
		{"in a block after the rewrite", "route {\nrewrite * /index.html\noauth\n}"},
		{"in a block that strips", "handle_path /* {\noauth\n}"},
		{"in a block that strips the path of endpoints", "handle_path /oauth/* {\noauth\n}\nhandle {\noauth\n}"},
		{"in a named route", "rewrite * /index.html\nroute {\ninvoke endpoints\n}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			s.run(t, shop, "&(endpoints) {\noauth\n}\nhttp://shop.localhost:PORT {\n"+tt.site+"\nrespond \"the site's own\"\n}")
			root := s.url("shop.localhost")
			for path, want := range map[string]string{"/oauth/jwks": `"keys"`, "/.well-known/oauth-authorization-server": `"issuer"`} {
				if answer := s.get(t, root+path); answer.status != http.StatusOK || !strings.Contains(answer.body, want) {
					t.Errorf("%s: %d %s", path, answer.status, answer.body)
				}
			}
			answer := s.do(t, http.MethodPost, root+"/oauth/token", "application/x-www-form-urlencoded", "grant_type=nonsense&client_id=app&client_secret=app-secret")
			if !strings.Contains(answer.body, "unsupported_grant_type") {
				t.Errorf("token: %d %s", answer.status, answer.body)
			}
		})
	}
}

// aliceHash is the hash of the password wonderland.
const aliceHash = "$2a$10$hZXuaFeiO.l1vqgnMGGKpuPhIxvCXsaCdzm6ECT1UgOJ9mL03gniC"

// The directive stands before the logins of the site. It runs those of its own block before it shows a page.
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
