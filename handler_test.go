package caddyoauth_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

func TestHandlerPassesOnWhatIsNotAnEndpoint(t *testing.T) {
	s := newServer(t)
	s.run(t, shop, shopSite)
	for _, tt := range []struct {
		path string
		ours bool
	}{
		{"/oauth/jwks", true},
		{"/oauth/%6awks", true}, // RFC 3986 §6.2.2.2: the same path
		{"/.well-known/oauth-authorization-server", true},
		{"/", false},
		{"/oauth", false},
		{"/oauth/", false},
		{"/oauth/jwks/", true},
		{"/oauth/jwks2", false},
		{"/oauth//jwks", false},
		{"/OAuth/jwks", false},
		{"/oauth%2fjwks%00", false},
		{"/shop/oauth/jwks", false},
		{"/.well-known/oauth-authorization-server/", true},
		{"/.well-known/openid-configuration", true},
		{"/.well-known/openid-configurations", false},
	} {
		t.Run(tt.path, func(t *testing.T) {
			answer := s.get(t, s.url("shop.localhost")+tt.path)
			if ours := answer.body != "the site's own"; ours != tt.ours || answer.status != http.StatusOK {
				t.Errorf("ours: %t, expected %t: %d %s", ours, tt.ours, answer.status, answer.body)
			}
		})
	}
}

func TestUserAndClaims(t *testing.T) {
	const site = `http://shop.localhost:PORT {
		vars {
			person {header.X-Person}
			mail {header.X-Mail}
		}
		oauth {
			user SETTING
			claim email {vars.mail}
			claim tenant "shop of {vars.person}"
			claim nothing {vars.nothing}
		}
	}`
	for _, tt := range []struct {
		name, setting string
		header        []string
		sub, email    any // sub is nil if nobody is signed in
	}{
		{"placeholder", "{vars.person}", []string{"X-Person", "alice"}, "alice", nil},
		{"claim", "{vars.person}", []string{"X-Person", "alice", "X-Mail", "alice@example.com"}, "alice", "alice@example.com"},
		{"placeholder in a value is none", "{vars.person}", []string{"X-Person", "{http.vars.mail}"}, "{http.vars.mail}", nil},
		{"empty", "{vars.person}", nil, nil, nil},
		{"prefix", "member-{vars.person}", []string{"X-Person", "alice"}, "member-alice", nil},
		{"a prefix with an empty placeholder", "member-{vars.person}", nil, nil, nil},
		{"one of two parts", "{vars.mail}{vars.person}", []string{"X-Person", "alice"}, nil, nil},
		{"unknown placeholder", "{http.no.such.thing}", []string{"X-Person", "alice"}, nil, nil},
		{"default without a login", "{http.auth.user.id}", []string{"X-Person", "alice"}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			s.run(t, shop, strings.Replace(site, "SETTING", tt.setting, 1))
			issuer := s.url("shop.localhost")
			if tt.sub == nil {
				if answer := s.authorize(t, issuer, callback, tt.header...); answer.status != http.StatusUnauthorized {
					t.Errorf("expected nobody to be signed in: %d %v", answer.status, answer.header)
				}
				return
			}
			got := claims(t, s.signIn(t, issuer, tt.header...).AccessToken)
			if got["sub"] != tt.sub || got["email"] != tt.email {
				t.Errorf("sub is %v and email %v, expected %v and %v", got["sub"], got["email"], tt.sub, tt.email)
			}
			if _, there := got["nothing"]; there || got["tenant"] == nil {
				t.Errorf("claims: %v", got)
			}
		})
	}
}

func TestWarningOfWhatABrowserCanForge(t *testing.T) {
	for _, tt := range []struct {
		line    string
		setting string // in the warning
	}{
		{"user {http.auth.user.id}", ""},
		{"user {rp.header.Remote-User}", ""},
		{"user {vars.person}", ""},
		{"user {tls_client_subject}", ""},
		{"user {header.Remote-User}", "user"},
		{"user {cookie.user}", "user"},
		{"user {query.user}", "user"},
		{"user {query}", "user"},
		{"user {host}", "user"},
		{"user {http.auth.user.id}{header.Remote-User}", "user"},
		{"user {http.request.orig_uri.query.user}", "user"},
		{"claim email {rp.header.Remote-Email}", ""},
		{"claim email {header.Remote-Email}", "claim email"},
	} {
		t.Run(strings.NewReplacer("{", "", "}", "").Replace(tt.line), func(t *testing.T) {
			s := newServer(t)
			s.runJSON(t, shop, "http://shop.localhost:PORT {\noauth {\n"+tt.line+"\n}\n}")
			var settings []string
			for _, entry := range s.logged(t, mistakeMessage) {
				if strings.HasSuffix(entry["seen"].(string), "comes from the request, and every browser can forge it") {
					settings = append(settings, entry["setting"].(string))
				}
			}
			if got := strings.Join(settings, ", "); got != tt.setting {
				t.Errorf("warned of %q, expected %q", got, tt.setting)
			}
		})
	}
}

// RFC 9110 section 9.3.2: HEAD gets what GET gets, but for the content.
func TestHeadOfPages(t *testing.T) {
	s := newServer(t)
	s.run(t, "", oneBlock(aliceIsSignedIn))
	for _, target := range []string{"/oauth/apps", "/oauth/authorize?client_id=nobody", "/oauth/authorize?response_type=code&client_id=app&redirect_uri=https://nobody.example/"} {
		get, head := s.get(t, s.url("shop.localhost")+target), s.do(t, http.MethodHead, s.url("shop.localhost")+target, "", "")
		if head.status != get.status || head.header.Get("Content-Type") != get.header.Get("Content-Type") || head.body != "" || get.body == "" {
			t.Errorf("%s: HEAD gets %d %v, GET %d %v", target, head.status, head.header, get.status, get.header)
		}
	}
	if answer := s.do(t, http.MethodPut, s.url("shop.localhost")+"/oauth/apps", "", ""); answer.status != http.StatusMethodNotAllowed || answer.header.Get("Allow") != "GET, HEAD, POST" {
		t.Errorf("PUT: %d %v", answer.status, answer.header)
	}
}

func TestLoginURL(t *testing.T) {
	for _, tt := range []struct {
		name, login      string
		page, parameter  string
		rest             url.Values
		returnToHasAHost bool
	}{
		{"path", "/login", "/login", "return_to", nil, false},
		{"path with a parameter", "/login back", "/login", "back", nil, false},
		{"path with a query", "/login?app=shop&x=%26", "/login", "return_to", url.Values{"app": {"shop"}, "x": {"&"}}, false},
		{"query that has the parameter", "/login?back=/elsewhere back", "/login", "back", nil, false},
		{"URL", "https://login.example.com", "https://login.example.com", "return_to", nil, true},
		{"URL with a query", "https://login.example.com/in?app=shop next", "https://login.example.com/in", "next", url.Values{"app": {"shop"}}, true},
		{"parameter that has to be escaped", `/login "a&b=c"`, "/login", "a&b=c", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			s.run(t, shop, "http://shop.localhost:PORT {\noauth {\nlogin "+tt.login+"\n}\n}")
			issuer := s.url("shop.localhost")
			answer := s.authorize(t, issuer, callback)
			page, query, _ := strings.Cut(answer.header.Get("Location"), "?")
			values, err := url.ParseQuery(query)
			if err != nil || page != tt.page {
				t.Fatalf("expected %s, got %d %q", tt.page, answer.status, answer.header.Get("Location"))
			}
			returnTo := values.Get(tt.parameter)
			path, hasHost := strings.CutPrefix(returnTo, issuer)
			if !strings.HasPrefix(path, "/oauth/authorize?") || hasHost != tt.returnToHasAHost || len(values[tt.parameter]) != 1 {
				t.Errorf("%s is %q", tt.parameter, values[tt.parameter])
			}
			values.Del(tt.parameter)
			if values.Encode() != tt.rest.Encode() {
				t.Errorf("the rest of the query is %v, expected %v", values, tt.rest)
			}
		})
	}
}

// The login page gets a path on this site, whatever host the request names.
func TestLoginURLIsNotMadeFromTheRequest(t *testing.T) {
	s := newServer(t)
	s.run(t, shop, "http://:PORT {\noauth {\nlogin https://login.example.com\n}\n}")
	answer := s.authorize(t, s.url("evil.localhost"), callback, "X-Forwarded-Host", "evil.example.com", "X-Forwarded-Proto", "https")
	location, err := url.Parse(answer.header.Get("Location"))
	if err != nil || !strings.HasPrefix(location.Query().Get("return_to"), s.url("shop.localhost")+"/oauth/authorize?") {
		t.Errorf("%d %v", answer.status, answer.header)
	}
}

// errorID returns the one error ID that was logged.
func (s *server) errorID(t *testing.T) string {
	t.Helper()
	var entries []map[string]any
	eventually(t, "a refusal in the log", func() bool {
		entries = s.logged(t, "request refused")
		return len(entries) > 0
	})
	if len(entries) != 1 {
		t.Fatalf("expected one refusal in the log, got %v", entries)
	}
	id, _ := entries[0]["error_id"].(string)
	if id == "" {
		t.Fatalf("no error_id in %v", entries[0])
	}
	return id
}

// A site styles its error pages with handle_errors. Without it, people see the built-in page. Several sites share a server, as
// in a Caddyfile.
func TestErrorPages(t *testing.T) {
	const plain = "http://plain.localhost:PORT {\noauth\n}\n"
	for _, tt := range []struct {
		name, host, handleErrors string
		styled                   bool
	}{
		{"no handle_errors on the server", "plain.localhost", "", false},
		{"handle_errors of another site", "plain.localhost", "handle_errors {\nrespond STYLED\n}", false},
		{"handle_errors", "shop.localhost", "handle_errors {\nrespond STYLED\n}", true},
		{"handle_errors for the status", "shop.localhost", "handle_errors 400 {\nrespond STYLED\n}", true},
		{"handle_errors for the class", "shop.localhost", "handle_errors 4xx {\nrespond STYLED\n}", true},
		{"handle_errors for another status", "shop.localhost", "handle_errors 404 5xx {\nrespond STYLED\n}", false},
		{"handle_errors for the path", "shop.localhost", "handle_errors {\nrespond /oauth/* STYLED\n}", true},
		{"handle_errors for another path", "shop.localhost", "handle_errors {\nrespond /shop/* STYLED\n}", false},
		{"second of two", "shop.localhost", "handle_errors 404 {\nrespond wrong\n}\nhandle_errors {\nrespond STYLED\n}", true},
		{"handle in handle_errors", "shop.localhost", "handle_errors {\nhandle /shop/* {\nrespond wrong\n}\nhandle {\nrespond STYLED\n}\n}", true},
		{"handle_errors without anything", "shop.localhost", "handle_errors {\n}", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			handleErrors := strings.ReplaceAll(tt.handleErrors, "STYLED", `"styled {err.status_code} {err.id}"`)
			s.run(t, shop, "http://shop.localhost:PORT {\noauth\n"+handleErrors+"\n}\n"+plain)
			answer := s.get(t, s.url(tt.host)+"/oauth/authorize?client_id=nobody")
			id := s.errorID(t)
			if styled := answer.body == "styled 400 "+id; styled != tt.styled {
				t.Errorf("styled: %t, expected %t: %s", styled, tt.styled, answer.body)
			}
			if !tt.styled && (!strings.Contains(answer.body, id) || !strings.HasPrefix(answer.header.Get("Content-Type"), "text/html")) {
				t.Errorf("expected a page with the error ID %s, got %v %s", id, answer.header, answer.body)
			}
			// respond answers with 200, not with the status of the error.
			if !tt.styled && answer.status != http.StatusBadRequest {
				t.Errorf("status %d", answer.status)
			}
			if answer.header.Get("Cache-Control") != "no-store" {
				t.Errorf("caches may store the page: %v", answer.header)
			}
		})
	}
}

// Programs get JSON, even if the site has handle_errors.
func TestErrorsForProgramsAreNotStyled(t *testing.T) {
	s := newServer(t)
	s.run(t, shop, "http://shop.localhost:PORT {\noauth\nhandle_errors {\nrespond styled\n}\n}")
	answer := s.do(t, http.MethodPost, s.url("shop.localhost")+"/oauth/token", "application/x-www-form-urlencoded", "grant_type=nonsense")
	if !strings.Contains(answer.body, `"error":"`) || !strings.Contains(answer.body, s.errorID(t)) {
		t.Errorf("%d %s", answer.status, answer.body)
	}
}

// Libraries take any page with 200 for metadata. So a site with an issuer answers requests for the metadata of other issuers with 404.
func TestMetadataOfAnotherIssuerIsNotFound(t *testing.T) {
	s := newServer(t)
	s.run(t, `oauth {
		issuer shop http://shop.localhost:PORT/shop {
			store memory
		}
		issuer staff http://shop.localhost:PORT/staff {
			store memory
		}
	}`, "http://shop.localhost:PORT {\noauth shop\noauth staff\nrespond \"the site's own\"\n}")
	for path, issuer := range map[string]string{
		"/.well-known/oauth-authorization-server/shop":        "/shop",
		"/.well-known/openid-configuration/shop":              "/shop",
		"/shop/.well-known/openid-configuration":              "/shop",
		"/.well-known/oauth-authorization-server/staff":       "/staff",
		"/staff/.well-known/oauth-authorization-server/":      "/staff",
		"/.well-known/oauth-authorization-server":             "",
		"/.well-known/oauth-authorization-server/shop/nobody": "",
		"/.well-known/openid-configuration":                   "",
		"/.well-known/openid-configuration/nobody":            "",
	} {
		answer := s.get(t, s.url("shop.localhost")+path)
		want := http.StatusOK
		if issuer == "" {
			want = http.StatusNotFound
		}
		if answer.status != want || answer.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s %s", path, answer.status, answer.header.Get("Content-Type"), answer.body)
		}
		if issuer != "" && !strings.Contains(answer.body, `"issuer":"`+s.url("shop.localhost")+issuer+`"`) {
			t.Errorf("%s: %s", path, answer.body)
		}
	}
}

// The pages and the tokens keep their headers, wherever a `header` directive for the whole site stands and however it is written.
func TestEndpointsKeepTheirHeaders(t *testing.T) {
	const (
		policy  = `Content-Security-Policy "default-src 'self'; form-action 'self'"`
		headers = "header {\n-Server\n" + policy + "\nX-Frame-Options SAMEORIGIN\nCache-Control \"public, max-age=3600\"\n" +
			"Access-Control-Allow-Origin https://other.example\n}\n"
		site = "vars person alice\noauth {\nuser {vars.person}\n}\noauth_guard /api\n"
	)
	for name, block := range map[string]string{
		"beside it":                headers + site,
		"first in a route":         "route {\n" + headers + site + "}\n",
		"before a handle":          headers + "handle {\n" + site + "}\n",
		"in a handle":              "handle {\n" + headers + site + "}\n",
		"in a snippet":             "import security\nroute {\n" + site + "}\n",
		"in a named route":         "route {\n" + headers + "invoke tokens\n}\n",
		"with an arrow":            "route {\nheader >Content-Security-Policy nothing\nheader >Cache-Control public\n" + site + "}\n",
		"added":                    "route {\nheader +" + policy + "\nheader +Cache-Control public\n" + site + "}\n",
		"removed":                  "route {\nheader -Content-Security-Policy\nheader -Cache-Control\n" + site + "}\n",
		"replaced":                 "route {\nheader >Content-Security-Policy none self\nheader >Cache-Control no-store public\n" + site + "}\n",
		"for some responses":       "route {\nheader {\nmatch status 200 400\n" + policy + "\nCache-Control public\n}\n" + site + "}\n",
		"twice, and encoded":       headers + "encode gzip\nroute {\n" + headers + "handle {\n" + site + "}\n}\n",
		"around other writers":     headers + "intercept {\n@none status 599\nhandle_response @none {\nrespond never\n}\n}\nhandle {\n" + site + "}\n",
		"around a page of a proxy": headers + "templates {\nmime text/plain\n}\nhandle {\n" + site + "}\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.run(t, strings.ReplaceAll(shop, "consent never", ""), "(security) {\n"+headers+"}\n&(tokens) {\n"+site+"}\nhttp://shop.localhost:PORT {\nlog\n"+block+"respond \"the site's own\"\n}")
			s.checkHeaders(t)
		})
	}
}

// A configuration in JSON has no order of directives.
func TestEndpointsKeepTheirHeadersInJSON(t *testing.T) {
	s := newServer(t)
	config := string(s.adapt(t, strings.ReplaceAll(shop, "consent never", ""), strings.Replace(shopSite, "respond", "oauth_guard /api\nrespond", 1)))
	const first = `"routes":[{"handle":[`
	if !strings.Contains(config, first) {
		t.Fatal(config)
	}
	changed := strings.Replace(config, first, first+`{"handler":"headers","response":{"deferred":true,
		"set":{"Content-Security-Policy":["form-action 'self'"],"Cache-Control":["public"]},"delete":["Access-Control-*"]}},`, 1)
	if err := caddy.Load([]byte(changed), true); err != nil {
		t.Fatal(err)
	}
	s.checkHeaders(t)
}

// checkHeaders checks that the site's own headers have not replaced those of the endpoints.
func (s *server) checkHeaders(t *testing.T) {
	t.Helper()
	shop := s.url("shop.localhost")
	for _, page := range []answer{
		s.authorize(t, shop, callback), // asks for consent
		s.get(t, shop+"/oauth/authorize?client_id=nobody"),
		s.get(t, shop+"/oauth/authorize?client_id=nobody&client_secret=hidden-from-the-log"),
	} {
		policy := page.header.Values("Content-Security-Policy")
		if len(policy) != 1 || !strings.HasPrefix(policy[0], "default-src 'none'; style-src 'nonce-") || strings.Contains(policy[0], "form-action 'self'") {
			t.Errorf("the policy of a page is %q", policy)
		}
		if page.header.Get("X-Frame-Options") != "DENY" || page.header.Get("Cache-Control") != "no-store" || !strings.Contains(page.body, "</html>") {
			t.Errorf("a page has %v\n%s", page.header, page.body)
		}
	}
	token := s.do(t, http.MethodPost, shop+"/oauth/token", "application/x-www-form-urlencoded", "grant_type=nonsense&client_id=app&client_secret=app-secret")
	if cache := token.header.Values("Cache-Control"); len(cache) != 1 || cache[0] != "no-store" {
		t.Errorf("Cache-Control of the token endpoint is %q", cache)
	}
	for _, path := range []string{"/oauth/jwks", "/.well-known/oauth-protected-resource"} {
		if keys := s.get(t, shop+path, "Origin", "https://app.example.com"); keys.header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(keys.body, `"keys"`) && !strings.Contains(keys.body, `"resource"`) {
			t.Errorf("%s: %v", path, keys.header)
		}
	}
	if own := s.get(t, shop+"/"); own.header.Get("Content-Security-Policy") == "" && own.header.Get("Cache-Control") == "no-store" || own.body != "the site's own" {
		t.Errorf("the site itself: %v %s", own.header, own.body)
	}
	if n := s.errorsLogged(t); n > 0 {
		t.Errorf("%d errors in the log", n)
	}
}
