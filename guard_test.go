package caddyoauth_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// upstream is the site behind the guard. It answers with the headers it was sent, trailers included.
func upstream(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body) // the trailers follow the body
		got := r.Header.Clone()
		for name, values := range r.Trailer {
			got["Trailer-"+name] = values
		}
		_ = json.NewEncoder(w).Encode(got) // the test notices if it is incomplete
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// guarded runs the shop with a guard before an upstream, and returns a valid token.
func guarded(t *testing.T, guard, proxy string) (*server, string) {
	t.Helper()
	s := newServer(t)
	s.run(t, shop, `http://shop.localhost:PORT {
		vars person alice
		oauth {
			user {vars.person}
			claim email {vars.person}@example.com
		}
		`+guard+`
		reverse_proxy `+upstream(t)+` {
			`+proxy+`
		}
	}`)
	return s, s.signIn(t, s.url("shop.localhost")).AccessToken
}

// seen returns the headers that the upstream saw.
func (s *server) seen(t *testing.T, header ...string) http.Header {
	t.Helper()
	answer := s.get(t, s.url("shop.localhost")+"/api/orders", header...)
	var got http.Header
	if err := json.Unmarshal([]byte(answer.body), &got); err != nil || answer.status != http.StatusOK {
		t.Fatalf("%d %s: %v", answer.status, answer.body, err)
	}
	return got
}

func TestGuard(t *testing.T) {
	s, token := guarded(t, "oauth_guard /api/* {\nscopes orders\n}", "")
	api := s.url("shop.localhost") + "/api/orders"
	const params = `scope="orders", resource_metadata="http://shop.localhost:PORT/.well-known/oauth-protected-resource"`
	for _, tt := range []struct {
		name, target string
		header       []string
		status       int
		challenge    string
	}{
		{"a good token", api, []string{"Authorization", "Bearer " + token}, 200, ""},
		{"RFC 6750 §3 no token", api, nil, 401, "Bearer " + params},
		{
			"RFC 6750 §3.1 a bad token", api,
			[]string{"Authorization", "Bearer x.y.z"},
			401,
			`Bearer error="invalid_token", error_description="access token: malformed", ` + params,
		},
		{"RFC 6750 §2.3 in the query", api + "?access_token=" + token, nil, 400, `Bearer error="invalid_request", ` +
			`error_description="an access token must not be in the URL", resource_metadata="http://shop.localhost:PORT/.well-known/oauth-protected-resource"`},
		{"a page without a guard", s.url("shop.localhost") + "/", nil, 200, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answer := s.get(t, tt.target, tt.header...)
			if want := strings.ReplaceAll(tt.challenge, "PORT", s.port); answer.status != tt.status || answer.header.Get("WWW-Authenticate") != want {
				t.Errorf("%d %s\nwant %d %s", answer.status, answer.header.Get("WWW-Authenticate"), tt.status, want)
			}
		})
	}
}

func TestGuardTellsWhoIsThere(t *testing.T) {
	s, token := guarded(t, `oauth_guard /api/* {
		header X-User {http.auth.user.id}
		header X-Client {http.auth.user.client_id}
		header X-Scope {http.auth.user.scope}
		header X-Email {http.auth.user.email}
		header X-None {http.auth.user.none}
		header X-Who "{http.auth.user.id} by {http.auth.user.client_id}"
	}`, "")
	got := s.seen(t, "Authorization", "Bearer "+token)
	for name, want := range map[string]string{
		"X-User": "alice", "X-Client": "app", "X-Scope": "orders", "X-Email": "alice@example.com", "X-None": "", "X-Who": "alice by app",
		"Authorization": "",
	} {
		if strings.Join(got.Values(name), "|") != want {
			t.Errorf("%s is %q, want %q", name, got.Values(name), want)
		}
	}
}

// Only the guard says who the user is, whatever headers a client sends: with a header of its own, or with header_up of
// reverse_proxy.
func TestForgedIdentityHeaders(t *testing.T) {
	for _, way := range []struct{ name, guard, proxy string }{
		{"header", "header X-User {http.auth.user.id}", ""},
		{"header_up", "", "header_up X-User {http.auth.user.id}"},
	} {
		for _, who := range []string{"alice", "nobody"} {
			t.Run(way.name+" "+who, func(t *testing.T) {
				s, token := guarded(t, "oauth_guard /api/* {\noptional\n"+way.guard+"\n}", way.proxy)
				credentials := ""
				if who == "alice" {
					credentials = "Authorization: Bearer " + token + "\r\n"
				}
				for _, tt := range []struct{ name, head, body string }{
					{"plain", "X-User: root\r\n", ""},
					{"another case", "x-uSER: root\r\n", ""},
					{"twice", "X-User: root\r\nX-User: root\r\n", ""},
					{"underscore", "X_User: root\r\n", ""},
					{"underscore in another case", "x_user: root\r\n", ""},
					{"dot", "X.User: root\r\n", ""},
					{"named hop-by-hop", "Connection: X-User\r\n", ""},
					{"named hop-by-hop among others", "Connection: keep-alive, x-user, x-other\r\nX-User: root\r\n", ""},
					{"named hop-by-hop twice", "Connection: x-user\r\nConnection: X-USER\r\nX-User: root\r\n", ""},
					{"announced trailer", "Trailer: X-User\r\nTransfer-Encoding: chunked\r\n", "0\r\nX-User: root\r\n\r\n"},
					{"trailer", "Transfer-Encoding: chunked\r\n", "0\r\nX-User: root\r\n\r\n"},
					{"trailer with an underscore", "Trailer: X_User\r\nTransfer-Encoding: chunked\r\n", "0\r\nX_User: root\r\n\r\n"},
				} {
					t.Run(tt.name, func(t *testing.T) {
						status, text := s.raw(t, "POST /api/orders HTTP/1.1\r\nHost: shop.localhost:"+s.port+"\r\n"+credentials+tt.head+"\r\n"+tt.body)
						var got http.Header
						if err := json.Unmarshal([]byte(text), &got); err != nil {
							t.Fatalf("%d %s: %v", status, text, err)
						}
						want := "alice"
						if who == "nobody" {
							want = ""
						}
						if user := strings.Join(got.Values("X-User"), "|"); user != want || strings.Contains(text, "root") {
							t.Errorf("the upstream got the user %q, want %q: %s", user, want, text)
						}
					})
				}
			})
		}
	}
}

// raw sends a request that no client library sends.
func (s *server) raw(t *testing.T, request string) (status int, body string) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", "127.0.0.1:"+s.port)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // the answer was read
	if _, err := conn.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, text.String()
}

func TestGuardPassesTheTokenOn(t *testing.T) {
	for _, tt := range []struct{ name, guard, header, want string }{
		{"by default not", "", "Authorization", ""},
		{"strip", "authorization strip", "Authorization", ""},
		{"pass", "authorization pass", "Authorization", "Bearer TOKEN"},
		{"own header, by default not", "token_header X-Token", "X-Token", ""},
		{"own header, pass", "token_header X-Token\nauthorization pass", "X-Token", "TOKEN"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, token := guarded(t, "oauth_guard /api/* {\n"+tt.guard+"\n}", "")
			value := token
			if tt.header == "Authorization" {
				value = "Bearer " + token
			}
			got := s.seen(t, tt.header, value).Get(tt.header)
			if want := strings.Replace(tt.want, "TOKEN", token, 1); got != want {
				t.Errorf("the upstream got %q, want %q", got, want)
			}
		})
	}
}

func TestOptionalGuard(t *testing.T) {
	s, token := guarded(t, "oauth_guard /api/* {\noptional\nheader X-User {http.auth.user.id}\n}", "")
	if got := s.seen(t); got.Get("X-User") != "" {
		t.Errorf("without a user, the placeholder is %q", got)
	}
	if got := s.seen(t, "Authorization", "Bearer "+token); got.Get("X-User") != "alice" {
		t.Errorf("alice is %q", got)
	}
	for _, bad := range []string{"Bearer x", "Bearer ", "Bearer " + token + "x"} {
		if answer := s.get(t, s.url("shop.localhost")+"/api/orders", "Authorization", bad); answer.status < 400 || answer.status >= 500 {
			t.Errorf("%.20s: %d %s", bad, answer.status, answer.body)
		}
	}
}

func TestGuardRefusalsCanBeStyled(t *testing.T) {
	s := newServer(t)
	s.run(t, shop, `http://shop.localhost:PORT {
		oauth_guard
		handle_errors {
			respond "styled {err.status_code}: {err.message}"
		}
	}`)
	for header, want := range map[string]string{"": "styled 401: no access token", "Bearer x": "styled 401: access token: malformed"} {
		answer := s.get(t, s.url("shop.localhost")+"/", "Authorization", header)
		if answer.status != 401 || answer.body != want || !strings.HasPrefix(answer.header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("%d %v %s", answer.status, answer.header, answer.body)
		}
	}
}

// RFC 9728 §3: the metadata of every resource of a site can be read without a token.
func TestSeveralGuardsOnOneSite(t *testing.T) {
	s := newServer(t)
	global := strings.Replace(shop, "scope orders\n", "scope orders\naudience http://shop.localhost:PORT/orders http://shop.localhost:PORT/admin\n", 1)
	s.run(t, global, `http://shop.localhost:PORT {
		oauth_guard /orders/* {
			resource http://shop.localhost:PORT/orders
			scopes orders
		}
		oauth_guard /admin/* {
			resource http://shop.localhost:PORT/admin
		}
		respond "inside"
	}`)
	root := s.url("shop.localhost")
	const wellKnown = "/.well-known/oauth-protected-resource"
	for _, tt := range []struct{ path, resource, guarded string }{
		{wellKnown + "/orders", root + "/orders", "/orders/1"},
		{wellKnown + "/admin", root + "/admin", "/admin/1"},
	} {
		answer := s.get(t, root+tt.path)
		var doc struct {
			Resource string   `json:"resource"`
			Servers  []string `json:"authorization_servers"`
		}
		if err := json.Unmarshal([]byte(answer.body), &doc); err != nil || doc.Resource != tt.resource || len(doc.Servers) != 1 || doc.Servers[0] != root {
			t.Errorf("%s: %d %s", tt.path, answer.status, answer.body)
		}
		if answer := s.get(t, root+tt.guarded); answer.status != 401 ||
			!strings.Contains(answer.header.Get("WWW-Authenticate"), `resource_metadata="`+root+tt.path+`"`) {
			t.Errorf("%s: %d %v", tt.guarded, answer.status, answer.header)
		}
	}
	for _, path := range []string{"/other", "/", ""} { // none is that of the whole site
		if answer := s.get(t, root+wellKnown+path); answer.status != http.StatusNotFound {
			t.Errorf("metadata of no resource at %q: %d %s", path, answer.status, answer.body)
		}
	}
}

// A client that acts for itself is no user, unless the owner says so: it may have the name of one.
func TestMachinesAreNoUsers(t *testing.T) {
	for _, tt := range []struct{ name, token, guard, user string }{
		{"by default", "", "", ""},
		{"as_nobody", "", "machines as_nobody", ""},
		{"as_user", "", "machines as_user", "alice"},
		{"minimal tokens", "access_token {\nclaims minimal\n}", "", ""},
		{"minimal tokens as_user", "access_token {\nclaims minimal\n}", "machines as_user", "alice"},
		{"opaque tokens", "access_token {\nformat opaque\n}", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			global := strings.Replace(shop, "scope orders\n", "scope orders\n"+tt.token+"\nclient alice {\nsecret alice-secret\ngrant_types client_credentials\nscopes orders\n}\n", 1)
			s.run(t, global, `http://shop.localhost:PORT {
				oauth
				oauth_guard /api/* {
					header X-User {http.auth.user.id}
					header X-Client {http.auth.user.client_id}
					`+tt.guard+`
				}
				reverse_proxy `+upstream(t)+`
			}`)
			var got tokens
			answer := s.do(t, http.MethodPost, s.url("shop.localhost")+"/oauth/token", "application/x-www-form-urlencoded",
				"grant_type=client_credentials&client_id=alice&client_secret=alice-secret")
			if err := json.Unmarshal([]byte(answer.body), &got); err != nil {
				t.Fatalf("%d %s: %v", answer.status, answer.body, err)
			}
			seen := s.seen(t, "Authorization", "Bearer "+got.AccessToken, "X-User", "root")
			if seen.Get("X-User") != tt.user || seen.Get("X-Client") != "alice" {
				t.Errorf("the site got %v", seen)
			}
		})
	}
}

// A guard that no token satisfies, or one that would take tokens for another resource than it says, is an error when the
// configuration is loaded.
func TestGuardsThatDoNotFitTheirIssuer(t *testing.T) {
	const issuer = `{"url":"https://shop.example","scopes":[{"name":"read"},{"name":"write"}],"audience":["https://a.example","https://b.example"],
		"clients":{"job":{"secret_hashes":["sha256:` + zeros + `"],"grant_types":["client_credentials"],"audience":["https://c.example"]}}}`
	for _, tt := range []struct{ name, issuer, guard, want string }{
		{"fits", issuer, `"scopes":["read"],"audience":["https://a.example"]`, ""},
		{"fits one client", issuer, `"resource":"https://c.example"`, ""},
		{"by a placeholder", issuer, `"resource":"https://{env.GUARD_HOST}.example"`, ""},
		{"unknown scope", issuer, `"scopes":["raed"],"audience":["https://a.example"]`, "oauth_guard: scopes: expected scopes of the issuer, one of: read, write; it has no scope raed"},
		{"one of several resources", issuer, `"scopes":["read"]`, "oauth_guard: expected audience or resource, as the issuer has several resources: https://a.example, https://b.example"},
		{"unknown audience", issuer, `"audience":["https://a.example/"]`, "oauth_guard: audience: expected a resource in an audience of the issuer or of its clients, one of: https://a.example, https://b.example, https://c.example, not https://a.example/"},
		{"unknown resource", issuer, `"resource":"https://d.example"`, "oauth_guard: resource: expected a resource in an audience of the issuer or of its clients, one of: "},
		{"unknown resource of a placeholder", issuer, `"resource":"https://{env.GUARD_HOST}x.example"`, "oauth_guard: resource: expected a resource in"},
		{"default audience", `{"url":"https://shop.example"}`, `"optional":true`, ""},
		{"not the default audience", `{"url":"https://shop.example"}`, `"resource":"https://shop.example/api"`, "oauth_guard: resource: expected a resource in an audience of the issuer or of its clients, https://shop.example, not https://shop.example/api"},
		{"scopes of minimal tokens", `{"url":"https://shop.example","scopes":[{"name":"read"}],"access_token":{"claims":"minimal"}}`, `"scopes":["read"]`, "oauth_guard: scopes: expected none, as access tokens with minimal claims have no scopes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("GUARD_HOST", "a")
			err := validateJSON(t, `{"apps":{"oauth":{"issuers":{"default":`+tt.issuer+`}},"http":{"servers":{"site":{"listen":["127.0.0.1:0"],
				"automatic_https":{"disable":true},"routes":[{"handle":[{"handler":"oauth_guard",`+tt.guard+`}]}]}}}}}`)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

func TestGuardOfAnUnknownIssuer(t *testing.T) {
	s := newServer(t)
	config := bytes.ReplaceAll(s.adapt(t, shop, "http://shop.localhost:PORT {\noauth_guard default\n}"), []byte(`"issuer":"default"`), []byte(`"issuer":"nobody"`))
	const want = `oauth_guard: there is no issuer "nobody", expected default`
	if err := caddy.Load(config, true); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	if err := caddy.Load(s.adapt(t, "", "http://shop.localhost:PORT {\noauth_guard\n}"), true); err == nil ||
		!strings.Contains(err.Error(), "expected the URL of a remote issuer, or an oauth directive or global option that defines an issuer") {
		t.Errorf("without the option: %v", err)
	}
}

// Caddy can be configured to expect headers with underscores or dots. The guard still removes those that look like its own.
func TestForgedIdentityHeadersThatCaddyExpects(t *testing.T) {
	s := newServer(t)
	expect := "servers {\nexpected_underscore_headers X_User X_Other\nexpected_dot_headers X.User\n}\n"
	s.run(t, expect+shop, `http://shop.localhost:PORT {
		oauth_guard {
			optional
			header X-User {http.auth.user.id}
		}
		reverse_proxy `+upstream(t)+`
	}`)
	_, text := s.raw(t, "GET / HTTP/1.1\r\nHost: shop.localhost:"+s.port+"\r\nX_User: root\r\nx.user: root\r\nX_Other: kept\r\n\r\n")
	if strings.Contains(text, "root") || !strings.Contains(text, "kept") {
		t.Errorf("the upstream was sent %s", text)
	}
}
