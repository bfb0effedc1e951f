package caddyoauth_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// A target that Caddy and the site behind it can read differently never reaches the site: neither around the guard nor anywhere
// else on the site.
func TestTargetsWithTwoReadings(t *testing.T) {
	var served atomic.Pointer[string]
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(_ http.ResponseWriter, r *http.Request) {
		served.Store(&r.URL.Path)
	})
	backend := httptest.NewServer(mux)
	t.Cleanup(backend.Close)
	proxy := "\nreverse_proxy " + strings.TrimPrefix(backend.URL, "http://")
	for _, site := range []struct{ name, text string }{
		{"guard with a matcher", "oauth_guard /api/*" + proxy},
		{"guard in a block, and the endpoints", "oauth\nhandle /api/* {\noauth_guard" + proxy + "\n}\nhandle {" + proxy + "\n}"},
		{"guard in a named route", "oauth\nroute /api/* {\ninvoke guarded" + proxy + "\n}\nroute {" + proxy + "\n}"},
		{"several guards", "oauth_guard /api/admin/*\noauth_guard /api/*\n@posts method POST\noauth_guard @posts" + proxy},
	} {
		t.Run(site.name, func(t *testing.T) {
			s := newServer(t)
			s.run(t, shop, "&(guarded) {\noauth_guard\n}\nhttp://shop.localhost:PORT {\n"+site.text+"\n}")
			send := func(target string) (status int) {
				served.Store(nil)
				status, _ = s.raw(t, "GET "+target+" HTTP/1.1\r\nHost: shop.localhost:"+s.port+"\r\n\r\n")
				return status
			}
			for _, target := range []string{
				"http:api/orders", "http:/../api/orders", "http://shop.localhost", "*",
				"/public/..%2fapi/orders", "/api/..%2f..%2fv1/orders", "/api/orders/..%2f..%2f42", "/public/%2e%2e/api/orders",
				"/public/../api/orders", "/public/..%5capi/orders", "/public/..;/api/orders", "/public/%252e%252e/api/orders",
				"/..", "/public/.", "/api%00", "/?x=/../", "/public?x=/../..%2f",
			} {
				want := http.StatusBadRequest
				if strings.Contains(target, "?") {
					want = http.StatusOK
				}
				status, reached := send(target), served.Load()
				if status != want || (reached != nil) != (want == http.StatusOK) {
					t.Errorf("%s: %d, and the site serves %v", target, status, reached)
				}
			}
			for target, path := range map[string]string{
				"/projects/group%2Fname": "/projects/group/name", "/a/b.c": "/a/b.c", "/100%25": "/100%", "/a;b/c": "/a;b/c",
				"http://shop.localhost/public": "/public",
			} {
				if status := send(target); status != http.StatusOK || served.Load() == nil || *served.Load() != path {
					t.Errorf("%s: %d, %v", target, status, served.Load())
				}
			}
			for _, target := range []string{"/api;x/orders", "/api%3bx/orders;y", "/api%5corders"} {
				// A block goes by its own matcher.
				if status := send(target); site.name == "guard with a matcher" && (status != http.StatusUnauthorized || served.Load() != nil) {
					t.Errorf("%s without a token: %d, %v", target, status, served.Load())
				}
			}
			for _, target := range []string{"/api/orders", "/api%2forders", "//api/orders", "/API/orders", "http://shop.localhost/api/orders", "/%61pi/orders"} {
				if status := send(target); status != http.StatusUnauthorized || served.Load() != nil {
					t.Errorf("%s without a token: %d, %v", target, status, served.Load())
				}
			}
		})
	}
}

// A guard goes by the URL that the client sent, and inside a block that strips a prefix by what is left of it as well.
func TestGuardsStandBeforeRewrites(t *testing.T) {
	for _, tt := range []struct {
		name, site string
		guarded    []string
		open       []string
	}{
		{"fallback page", "oauth_guard /account/*\ntry_files {path} /index.html", []string{"/account/orders"}, []string{"/", "/index.html"}},
		{"front controller", "oauth_guard /account/*\nphp_fastcgi 127.0.0.1:1 {\nindex off\n}", []string{"/account/orders"}, []string{"/"}},
		{"strip_prefix", "oauth_guard /api/*\nuri strip_prefix /api", []string{"/api/orders"}, []string{"/orders"}},
		{"method", "@write method POST PUT\noauth_guard @write\nmethod GET", nil, []string{"/"}},
		{"in a block that strips", "handle_path /app/* {\noauth_guard /api/*\n}", []string{"/app/api/orders"}, []string{"/app/", "/api/orders"}},
		{"in a block that strips, with the whole path", "handle_path /app/* {\noauth_guard /app/api/*\n}", []string{"/app/api/orders"}, []string{"/app/", "/api/orders"}},
		{"after a rewrite in a block", "route {\nrewrite * /index.html\noauth_guard /account/*\n}", []string{"/account/orders"}, []string{"/", "/index.html"}},
		{"for what a rewrite makes", "route {\nrewrite /old/* /account{uri}\noauth_guard /account/*\n}", []string{"/old/orders", "/account/x"}, []string{"/"}},
		{"by an expression", "route {\nrewrite * /index.html\n@account `{path}.startsWith('/account/')`\noauth_guard @account\n}", []string{"/account/orders"}, []string{"/", "/index.html"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			s.run(t, shop, "http://shop.localhost:PORT {\n"+tt.site+"\nrespond \"inside {path}\"\n}")
			for _, path := range tt.guarded {
				if answer := s.get(t, s.url("shop.localhost")+path); answer.status != http.StatusUnauthorized {
					t.Errorf("%s: %d %s", path, answer.status, answer.body)
				}
			}
			for _, path := range tt.open {
				if answer := s.get(t, s.url("shop.localhost")+path); answer.status != http.StatusOK {
					t.Errorf("%s: %d %s", path, answer.status, answer.body)
				}
			}
		})
	}
}

// Only a guard can set its headers for the site: a client cannot, neither with a refused request nor at another path.
func TestHeadersOfGuardsAreRemovedFromAllRequests(t *testing.T) {
	const guards = `oauth_guard /api/* {
			header X-User {http.auth.user.id}
		}
		oauth_guard /admin/* {
			header X-Role admin
			authorization pass
		}
		`
	for _, site := range []struct{ name, text string }{
		{"guards", guards},
		{"guards and endpoints", "oauth\n" + guards},
		{"guards in blocks", "oauth\nhandle /x {\n" + guards + "\n}\nhandle /api/* {\noauth_guard\n}\nhandle /admin/* {\noauth_guard\n}"},
	} {
		t.Run(site.name, func(t *testing.T) {
			s := newServer(t)
			up := upstream(t)
			s.run(t, shop, `http://shop.localhost:PORT {
				`+site.text+`
				reverse_proxy `+up+` {
					header_up X-Who "who {http.auth.user.id}"
				}
				handle_errors {
					reverse_proxy `+up+` {
						header_up X-Who "who {http.auth.user.id}"
					}
				}
			}`)
			for _, path := range []string{"/api/orders", "/admin/orders", "/public", "/", "/oauth/authorize"} {
				for _, token := range []string{"", "Bearer nonsense", "Bearer "} {
					answer := s.get(t, s.url("shop.localhost")+path, "X-User", "root", "x_user", "root", "X-Role", "root", "X-Other", "kept", "Authorization", token)
					var got http.Header
					if err := json.Unmarshal([]byte(answer.body), &got); err != nil {
						if path == "/oauth/authorize" && answer.status == http.StatusBadRequest || site.name == "guards in blocks" {
							continue // the endpoint's own answer, or no handler for the path
						}
						t.Fatalf("%s: %d %s", path, answer.status, answer.body)
					}
					if strings.Contains(answer.body, "root") || got.Get("X-Other") != "kept" || got.Get("X-Who") != "who " && got.Get("X-Who") != "who" {
						t.Errorf("%s with %q: the site got %s", path, token, answer.body)
					}
					if path == "/api/orders" && got.Get("Authorization") != "" {
						t.Errorf("%s: the site got the token of a refused request: %s", path, answer.body)
					}
				}
			}
		})
	}
}

// A client that has a token for two guards passes both, whichever is first.
func TestTwoGuardsOnOnePath(t *testing.T) {
	for _, order := range []string{"narrow first", "wide first", "as written, wide first"} {
		t.Run(order, func(t *testing.T) {
			const wide = "oauth_guard /api/* {\nscopes orders\nheader X-User {http.auth.user.id}\n}\n"
			const narrow = "oauth_guard /api/admin/* {\nscopes admin\nheader X-Role \"admin {http.auth.user.id}\"\n}\n"
			guards := narrow + wide
			switch order {
			case "wide first":
				guards = wide + narrow
			case "as written, wide first":
				guards = "route {\n" + wide + narrow + "\n}\n"
			}
			s := newServer(t)
			global := strings.NewReplacer("scope orders\n", "scope orders\nscope admin\n", "scopes orders", "scopes orders admin").Replace(shop)
			s.run(t, global, `http://shop.localhost:PORT {
				vars person alice
				oauth {
					user {vars.person}
				}
				`+guards+`
				reverse_proxy `+upstream(t)+`
			}`)
			root := s.url("shop.localhost")
			both := s.signIn(t, root).AccessToken
			refreshed := s.token(t, root, map[string][]string{
				"grant_type": {"refresh_token"}, "refresh_token": {s.signIn(t, root).RefreshToken}, "scope": {"orders"},
			}).AccessToken
			for _, tt := range []struct {
				path, token string
				status      int
				scopes      string // in the challenge
			}{
				{"/api/orders", both, 200, ""},
				{"/api/admin/orders", both, 200, ""},
				{"/api/orders", refreshed, 200, ""},
				{"/api/admin/orders", refreshed, 403, "admin orders"},
				{"/api/admin/orders?code=x", refreshed, 403, "admin orders"},
				{"/api/admin/orders", "", 401, "admin orders"},
				{"/api/orders", "", 401, "orders"},
				{"/api/admin/orders", "nonsense", 401, "admin orders"},
			} {
				var header []string
				if tt.token != "" {
					header = []string{"Authorization", "Bearer " + tt.token}
				}
				answer := s.get(t, root+tt.path, header...)
				challenge := answer.header.Get("WWW-Authenticate")
				if answer.status != tt.status || askedScopes(challenge) != tt.scopes {
					t.Errorf("%s: %d %s, want %d for %s", tt.path, answer.status, challenge, tt.status, tt.scopes)
				}
				if tt.status != 200 {
					continue
				}
				var got http.Header
				if err := json.Unmarshal([]byte(answer.body), &got); err != nil {
					t.Fatal(err)
				}
				admin := strings.Contains(tt.path, "admin")
				if got.Get("X-User") != "alice" || (got.Get("X-Role") == "admin alice") != admin || got.Get("Authorization") != "" {
					t.Errorf("%s: the site got %s", tt.path, answer.body)
				}
			}
			answer := s.get(t, root+"/.well-known/oauth-protected-resource")
			if !strings.Contains(answer.body, `"admin"`) || !strings.Contains(answer.body, `"orders"`) {
				t.Errorf("the metadata has the scopes of one guard only: %s", answer.body)
			}
		})
	}
}

// askedScopes returns the scopes in a challenge, sorted.
func askedScopes(challenge string) string {
	_, rest, _ := strings.Cut(challenge, `scope="`)
	list, _, _ := strings.Cut(rest, `"`)
	return strings.Join(slices.Sorted(strings.FieldsSeq(list)), " ")
}

// A guard of the whole site is no guard of the endpoints by which clients get the tokens for it.
func TestGuardOfTheWholeSite(t *testing.T) {
	s := newServer(t)
	s.run(t, shop, `http://shop.localhost:PORT {
		vars person alice
		oauth_guard
		oauth {
			user {vars.person}
		}
		respond "inside"
	}`)
	root := s.url("shop.localhost")
	token := s.signIn(t, root).AccessToken
	for path, want := range map[string]int{
		"/oauth/jwks": 200, "/.well-known/oauth-authorization-server": 200, "/.well-known/oauth-protected-resource": 200, "/": 401, "/oauth": 401,
	} {
		if answer := s.get(t, root+path); answer.status != want {
			t.Errorf("%s without a token: %d %s", path, answer.status, answer.body)
		}
	}
	if answer := s.get(t, root+"/", "Authorization", "Bearer "+token); answer.body != "inside" {
		t.Errorf("with a token: %d %s", answer.status, answer.body)
	}
}

// Each of two sites on one server has its own guards.
func TestGuardsOfAnotherSite(t *testing.T) {
	s := newServer(t)
	s.run(t, shop, fmt.Sprintf(`http://shop.localhost:PORT {
		oauth_guard {
			optional
			header X-User {http.auth.user.id}
		}
		reverse_proxy %[1]s
	}
	http://other.localhost:PORT {
		reverse_proxy %[1]s
	}`, upstream(t)))
	if answer := s.get(t, s.url("shop.localhost"), "X-User", "alice"); strings.Contains(answer.body, "alice") {
		t.Errorf("the shop got %s", answer.body)
	}
	if answer := s.get(t, s.url("other.localhost"), "X-User", "alice"); !strings.Contains(answer.body, "alice") {
		t.Errorf("the other site got %s", answer.body)
	}
	status, _ := s.raw(t, "GET /a/..%2fb HTTP/1.1\r\nHost: other.localhost:"+s.port+"\r\n\r\n")
	if status != http.StatusOK {
		t.Errorf("an ambiguous target on a site without a guard: %d", status)
	}
}
