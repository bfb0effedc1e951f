package caddyoauth_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// mcpShop is the shop with two scopes, and with a client that has an audience of its own.
var mcpShop = strings.NewReplacer("scope orders\n", "scope orders\nscope orders:write\nscope admin\n", "scopes orders", "scopes orders orders:write admin").
	Replace(strings.Replace(shop, "store memory", "store memory\nclient own {\nredirect_uris "+callback+"\nscopes orders\nconsent never\naudience https://other.example\n}", 1))

// mcpServer is a server behind the guard that believes the body, whatever the headers say. It answers with what it got.
func mcpServer(t *testing.T) (address string, calls *atomic.Int32) {
	t.Helper()
	calls = new(atomic.Int32)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Mcp-Session-Id", "s1")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"method": r.Header.Get("Mcp-Method"), "name": r.Header.Get("Mcp-Name"), "body": string(body), "http": r.Method,
			"authorization": r.Header.Get("Authorization"), "length": r.ContentLength, "upgrade": r.Header.Get("Upgrade"),
			"other": r.Header["Mcp_name"],
		})
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), calls
}

// runMCP runs the shop with guards before an MCP server.
func runMCP(t *testing.T, site string) (*server, *atomic.Int32) {
	t.Helper()
	address, calls := mcpServer(t)
	s := newServer(t)
	s.run(t, mcpShop, `http://shop.localhost:PORT {
		vars person alice
		oauth {
			user {vars.person}
		}
		`+strings.ReplaceAll(site, "UPSTREAM", address)+`
		reverse_proxy `+address+`
	}`)
	return s, calls
}

// tokenFor gets tokens of alice for scopes and, if it is not empty, a resource.
func (s *server) tokenFor(t *testing.T, scope, resource string) tokens {
	t.Helper()
	root := s.url("shop.localhost")
	query := url.Values{"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {callback}, "scope": {scope}}
	if resource != "" {
		query.Set("resource", resource)
	}
	answer := s.get(t, root+"/oauth/authorize?"+query.Encode())
	location, err := url.Parse(answer.header.Get("Location"))
	if err != nil || location.Query().Get("code") == "" {
		t.Fatalf("authorize: %d %v %s", answer.status, answer.header, answer.body)
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {location.Query().Get("code")}, "redirect_uri": {callback}}
	if resource != "" {
		form.Set("resource", resource)
	}
	got := s.token(t, root, form)
	if got.AccessToken == "" {
		t.Fatalf("token: %+v", got)
	}
	return got
}

const (
	listTools   = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	getOrder    = `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"get_order","arguments":{}}}`
	deleteOrder = `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"delete_order","arguments":{"id":"1"}}}`
)

// M19, M20, M21, M24, M27: what a client learns without a token, and where.
func TestMCPServerIsGuarded(t *testing.T) {
	s, calls := runMCP(t, "oauth_guard /mcp {\nscopes orders\nmcp\nresource_name \"Orders of the shop\"\n}")
	root := s.url("shop.localhost")
	const wellKnown = "/.well-known/oauth-protected-resource"
	for _, path := range []string{"/mcp", "/mcp/", "/mcp/messages", "/MCP", "/mcp?x=1"} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete, http.MethodPut, http.MethodHead, http.MethodOptions} {
			answer := s.do(t, method, root+path, "application/json", listTools)
			want := `Bearer scope="orders", resource_metadata="` + root + wellKnown + `/mcp"`
			if got := answer.header.Get("WWW-Authenticate"); answer.status != 401 || got != want {
				t.Errorf("%s %s: %d %s", method, path, answer.status, got)
			}
		}
	}
	want := `{"resource":"` + root + `/mcp","authorization_servers":["` + root + `"],"scopes_supported":["orders"],` +
		`"bearer_methods_supported":["header"],"resource_name":"Orders of the shop"}`
	for _, path := range []string{wellKnown, wellKnown + "/mcp", wellKnown + "/mcp/"} {
		if answer := s.get(t, root+path, "Origin", app); answer.status != 200 || answer.body != want || answer.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %v %s", path, answer.status, answer.header, answer.body)
		}
	}
	if answer := s.do(t, http.MethodPost, root+"/mcp?access_token=x", "application/json", listTools); answer.status != 400 {
		t.Errorf("a token in the query: %d", answer.status)
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("the server got %d requests without a token", n)
	}
	if answer := s.get(t, root+"/other"); answer.status != 200 {
		t.Errorf("another path: %d", answer.status)
	}
}

// M20: of several servers on a site, none has its metadata where the others' clients would look too.
func TestMetadataOfTwoMCPServers(t *testing.T) {
	s, _ := runMCP(t, "oauth_guard /a/mcp {\nmcp\n}\noauth_guard /b/mcp {\nmcp\n}")
	for path, want := range map[string]int{"": 404, "/a/mcp": 200, "/b/mcp": 200, "/c": 404} {
		if answer := s.get(t, s.url("shop.localhost")+"/.well-known/oauth-protected-resource"+path); answer.status != want {
			t.Errorf("%q: %d %s", path, answer.status, answer.body)
		}
	}
}

// M21: a guard of the whole site is for its origin.
func TestMCPServerOfAWholeSite(t *testing.T) {
	s, _ := runMCP(t, "oauth_guard {\nmcp\n}")
	root := s.url("shop.localhost")
	for _, path := range []string{"", "/"} {
		if answer := s.get(t, root+"/.well-known/oauth-protected-resource"+path); !strings.HasPrefix(answer.body, `{"resource":"`+root+`",`) {
			t.Errorf("%d %s", answer.status, answer.body)
		}
	}
	token := s.tokenFor(t, "orders", root+"/").AccessToken
	if answer := s.do(t, http.MethodPost, root+"/", "application/json", listTools, "Authorization", "Bearer "+token); answer.status != 200 {
		t.Errorf("%d %s", answer.status, answer.body)
	}
}

// M22 and M9: a client names the server and gets a token for it alone; one that names nothing gets the default audience.
func TestTokensForAnMCPServer(t *testing.T) {
	s, _ := runMCP(t, "oauth_guard /mcp {\nscopes orders\nmcp\n}\noauth_guard /api/* {\nscopes orders\n}")
	root := s.url("shop.localhost")
	ask := func(path, token string) int {
		return s.do(t, http.MethodPost, root+path, "application/json", listTools, "Authorization", "Bearer "+token).status
	}
	named, unnamed := s.tokenFor(t, "orders", strings.ToUpper(root[:5])+root[5:]+"/mcp/"), s.tokenFor(t, "orders", "")
	if aud := claims(t, named.AccessToken)["aud"]; aud != root+"/mcp" {
		t.Errorf("the audience is %v", aud)
	}
	if aud := claims(t, unnamed.AccessToken)["aud"]; aud != root {
		t.Errorf("the audience without a resource is %v", aud)
	}
	refreshed := s.refresh(t, root, named.RefreshToken)
	if aud := claims(t, refreshed.AccessToken)["aud"]; aud != root+"/mcp" {
		t.Errorf("the audience after a refresh is %v", aud)
	}
	for _, tt := range []struct {
		name, path, token string
		status            int
	}{
		{"a token for the server", "/mcp", named.AccessToken, 200},
		{"a refreshed token for the server", "/mcp", refreshed.AccessToken, 200},
		{"a token for nothing in particular", "/mcp", unnamed.AccessToken, 200},
		{"a token for the server, elsewhere", "/api/orders", named.AccessToken, 401},
		{"a token for nothing in particular, elsewhere", "/api/orders", unnamed.AccessToken, 200},
		{"no token of ours", "/mcp", "x.y.z", 401},
	} {
		if status := ask(tt.path, tt.token); status != tt.status {
			t.Errorf("%s: %d", tt.name, status)
		}
	}
	for _, tt := range []struct{ client, resource, want string }{
		{"app", root + "/other", "invalid_target"},
		{"own", root + "/mcp", "invalid_target"}, // which has an audience of its own
	} {
		answer := s.get(t, root+"/oauth/authorize?"+url.Values{
			"response_type": {"code"}, "client_id": {tt.client}, "redirect_uri": {callback}, "resource": {tt.resource},
			"code_challenge": {strings.Repeat("A", 43)}, "code_challenge_method": {"S256"},
		}.Encode())
		if location, err := url.Parse(answer.header.Get("Location")); err != nil || location.Query().Get("error") != tt.want {
			t.Errorf("%s, %s: %d %v", tt.client, tt.resource, answer.status, answer.header)
		}
	}
}

// The metadata has the scopes of the server, and not those of some tools: clients ask for all of them at once.
func TestScopesInTheMetadataOfAnMCPServer(t *testing.T) {
	s, _ := runMCP(t, toolGuards)
	answer := s.get(t, s.url("shop.localhost")+"/.well-known/oauth-protected-resource/mcp")
	if !strings.Contains(answer.body, `"scopes_supported":["orders"]`) {
		t.Errorf("%s", answer.body)
	}
}

// M25: scripts of all origins may call the server, and read what it and the guard say.
func TestMCPServerForScripts(t *testing.T) {
	s, _ := runMCP(t, "@delete header Mcp-Name delete_*\noauth_guard /mcp {\nscopes orders\nmcp\n}\noauth_guard @delete {\nscopes orders:write\nmcp /mcp\n}")
	root := s.url("shop.localhost")
	const asked = "authorization,content-type,mcp-method,mcp-name,mcp-protocol-version,mcp-session-id,last-event-id,mcp-param-x"
	for _, method := range []string{"POST", "GET", "DELETE"} {
		answer := s.do(t, http.MethodOptions, root+"/mcp", "", "", "Origin", app, "Access-Control-Request-Method", method, "Access-Control-Request-Headers", asked)
		got := answer.header
		if answer.status != 204 || got.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(got.Get("Access-Control-Allow-Methods"), method) ||
			got.Get("Access-Control-Allow-Headers") != asked || got.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: %d %v", method, answer.status, got)
		}
	}
	token := s.tokenFor(t, "orders", "").AccessToken
	for _, tt := range []struct {
		name, token, body string
		status            int
		exposed           string
	}{
		{"no token", "", listTools, 401, "WWW-Authenticate"},
		{"no scope", token, deleteOrder, 403, "WWW-Authenticate"},
		{"no message", token, "{}", 400, "Error-Id"},
		{"an answer", token, listTools, 200, "*"},
	} {
		answer := s.do(t, http.MethodPost, root+"/mcp", "application/json", tt.body, "Origin", app, "Authorization", "Bearer "+tt.token)
		if tt.token == "" {
			answer = s.do(t, http.MethodPost, root+"/mcp", "application/json", tt.body, "Origin", app)
		}
		if answer.status != tt.status || answer.header.Get("Access-Control-Allow-Origin") != "*" ||
			!strings.Contains(answer.header.Get("Access-Control-Expose-Headers"), tt.exposed) {
			t.Errorf("%s: %d %v %s", tt.name, answer.status, answer.header, answer.body)
		}
	}
}

// What cors says goes before what mcp implies.
func TestMCPServerForScriptsOfOneOrigin(t *testing.T) {
	s, _ := runMCP(t, "oauth_guard /mcp {\nmcp\ncors "+app+"\n}")
	for origin, want := range map[string]string{app: app, "https://evil.example": ""} {
		if answer := s.preflight(t, "/mcp", origin); answer.header.Get("Access-Control-Allow-Origin") != want {
			t.Errorf("%s: %d %v", origin, answer.status, answer.header)
		}
	}
}

// M22: the refusal names what the request needs and what the token has, so that a client that asks for just that loses nothing.
func TestScopesOfARefusalAtAnMCPServer(t *testing.T) {
	s, _ := runMCP(t, "@delete header Mcp-Name delete_*\noauth_guard /mcp {\nscopes orders\nmcp\n}\noauth_guard @delete {\nscopes orders:write\nmcp /mcp\n}")
	root := s.url("shop.localhost")
	for _, revision := range []string{"2025-06-18", "2026-07-28"} {
		header := []string{"Authorization", "Bearer " + s.tokenFor(t, "orders admin", "").AccessToken, "Mcp-Protocol-Version", revision}
		if revision == "2026-07-28" {
			header = append(header, "Mcp-Method", "tools/call", "Mcp-Name", "delete_order")
		}
		answer := s.do(t, http.MethodPost, root+"/mcp", "application/json", deleteOrder, header...)
		want := `Bearer error="insufficient_scope", scope="orders:write orders admin", resource_metadata="` + root + `/.well-known/oauth-protected-resource/mcp"`
		got := answer.header.Get("WWW-Authenticate")
		if answer.status != 403 || !slices.Equal(sortedScopes(got), sortedScopes(want)) || !strings.Contains(got, `error="insufficient_scope"`) ||
			!strings.Contains(got, "/.well-known/oauth-protected-resource/mcp") {
			t.Errorf("%s: %d %s", revision, answer.status, got)
		}
	}
}

func sortedScopes(challenge string) []string {
	_, rest, _ := strings.Cut(challenge, `scope="`)
	list, _, _ := strings.Cut(rest, `"`)
	return slices.Sorted(slices.Values(strings.Fields(list)))
}
