package caddyoauth_test

import (
	"net/http"
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
		{"login of everything in login", "oauth {\nlogin {\nbasic_auth {\nalice " + aliceHash + "\n}\n}\n}"},
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
