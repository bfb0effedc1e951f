package mcp

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

const (
	webSecret   = "Qe7vM2xZp9Ls4Kt6Wy8Rj3Hd1Fc5Gn0B"
	webCallback = "https://web.example/callback"
	callback    = "http://127.0.0.1/callback"
	verifier    = "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv"
)

// moreClients are a client with a secret, and that alice may do more than a person would in a minute.
const moreClients = `
		throttle {
			codes 1000 1m
		}
		client web {
			secret {env.WEB_SECRET}
			redirect_uris ` + webCallback + `
			scopes orders:read orders:write
			consent always
		}
`

// site is the example, with what a client of it needs.
type site struct {
	*integration.Server

	*testing.T
	alice  *integration.Person
	client *http.Client
	cimd   string // the client ID of a document
}

func (s *site) on(t *testing.T) *site {
	t.Helper()
	other := *s
	other.T = t
	return &other
}

// response is an answer to a client, or to the browser of alice.
type response struct {
	status int
	header http.Header
	body   string
	json   map[string]any // nil if the body is none
}

// is reports whether the answer has a status and an error code, "" for none.
func (r *response) is(status int, code string) bool {
	got, _ := r.json["error"].(string)
	return r.status == status && got == code
}

func (r *response) text(name string) string {
	text, _ := r.json[name].(string)
	return text
}

func (r *response) String() string { return fmt.Sprintf("%d %v %s", r.status, r.header, r.body) }

// send sends a request. The header is a list of names and values.
func (s *site) send(method, target, body string, header ...string) *response {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), method, target, strings.NewReader(body))
	must(s.T, err)
	for ; len(header) > 0; header = header[2:] {
		req.Header.Set(header[0], header[1])
	}
	resp, err := s.client.Do(req)
	must(s.T, err)
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	must(s.T, err)
	r := &response{status: resp.StatusCode, header: resp.Header, body: string(read)}
	_ = json.Unmarshal(read, &r.json) // pages are no JSON
	return r
}

// form posts a form.
func (s *site) form(path string, params url.Values, header ...string) *response {
	s.Helper()
	return s.send(http.MethodPost, s.URL+path, params.Encode(), append(header, "Content-Type", "application/x-www-form-urlencoded")...)
}

// basic is the header of a client with its secret.
func basic(id, secret string) []string {
	return []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))}
}

// with returns params with others set. An empty value removes one.
func with(params url.Values, pairs ...string) url.Values {
	params = clone(params)
	for ; len(pairs) > 0; pairs = pairs[2:] {
		if pairs[1] == "" {
			params.Del(pairs[0])
		} else {
			params.Set(pairs[0], pairs[1])
		}
	}
	return params
}

func clone(params url.Values) url.Values {
	other := make(url.Values, len(params))
	for name, values := range params {
		other[name] = slices.Clone(values)
	}
	return other
}

// asks returns the parameters of an authorization request of the client inspector, with others set.
func (s *site) asks(pairs ...string) url.Values {
	return with(url.Values{
		"response_type": {"code"}, "client_id": {"inspector"}, "redirect_uri": {callback}, "scope": {"orders:read"}, "state": {"a-state"},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)}, "code_challenge_method": {"S256"}, "resource": {s.URL + "/mcp"},
	}, pairs...)
}

func (s *site) authorizeURL(params url.Values) string {
	return s.URL + "/oauth/authorize?" + params.Encode()
}

// refused returns the answer for the client to an authorization request that is refused, or nil if the client gets none.
func (s *site) refused(params url.Values) url.Values {
	s.Helper()
	page := s.alice.Open(s.T, s.authorizeURL(params))
	if page.Location == "" {
		if page.Status < 400 || page.Status >= 500 {
			s.Errorf("the page has status %d", page.Status)
		}
		return nil
	}
	to, err := url.Parse(page.Location)
	must(s.T, err)
	if !strings.HasPrefix(page.Location, params.Get("redirect_uri")) {
		s.Errorf("a redirect to %s", page.Location)
	}
	return to.Query()
}

// code has alice allow an authorization request.
func (s *site) code(params url.Values) string {
	s.Helper()
	code := s.alice.Allow(s.T, s.authorizeURL(params)).Get("code")
	if code == "" {
		s.Fatal("there is no code")
	}
	return code
}

// redeems returns the token request of the client inspector with a code, with other parameters set.
func redeems(code string, pairs ...string) url.Values {
	return with(url.Values{
		"grant_type": {"authorization_code"}, "client_id": {"inspector"}, "code": {code}, "redirect_uri": {callback}, "code_verifier": {verifier},
	}, pairs...)
}

func refreshes(token string, pairs ...string) url.Values {
	return with(url.Values{"grant_type": {"refresh_token"}, "client_id": {"inspector"}, "refresh_token": {token}}, pairs...)
}

func (s *site) token(params url.Values, header ...string) *response {
	s.Helper()
	return s.form("/oauth/token", params, header...)
}

// tokens gets tokens of alice for the client inspector.
func (s *site) tokens(pairs ...string) *response {
	s.Helper()
	got := s.token(redeems(s.code(s.asks(pairs...))))
	if !got.is(200, "") {
		s.Fatal(got)
	}
	return got
}

const (
	readOrder   = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_order","arguments":{"id":"7"}}}`
	deleteOrder = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_order","arguments":{"id":"7"}}}`
)

// call calls a tool, with a token unless it is empty.
func (s *site) call(token, message string) *response {
	s.Helper()
	header := []string{"Content-Type", "application/json", "Accept", "application/json, text/event-stream"}
	if token != "" {
		header = append(header, "Authorization", "Bearer "+token)
	}
	return s.send(http.MethodPost, s.URL+"/mcp", message, header...)
}

// audience returns the aud of an access token.
func (s *site) audience(token string) any {
	s.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		s.Fatalf("%q is no JWT", token)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	must(s.T, err)
	var claims map[string]any
	must(s.T, json.Unmarshal(payload, &claims))
	return claims["aud"]
}

// register registers a client.
func (s *site) register(metadata string) *response {
	s.Helper()
	return s.send(http.MethodPost, s.URL+"/oauth/register", metadata, "Content-Type", "application/json")
}

func (s *site) metadata() *response {
	s.Helper()
	return s.send(http.MethodGet, s.URL+"/.well-known/oauth-authorization-server", "")
}

// expect reports an answer that is another one.
func (s *site) expect(r *response, status int, code string) {
	s.Helper()
	if !r.is(status, code) {
		s.Errorf("want %d %q, got %v", status, code, r)
	}
}

func has(r *response, name, value string) bool {
	list, _ := r.json[name].([]any)
	return slices.Contains(list, any(value))
}

// behaviours are what a client of the Model Context Protocol relies on: of an authorization server, of its registration, and of the
// resource server.
var behaviours = []struct {
	name   string
	assert func(s *site)
}{
	{"the metadata has what there is", func(s *site) {
		m := s.metadata()
		if m.json["registration_endpoint"] != s.URL+"/oauth/register" || m.json["client_id_metadata_document_supported"] != true ||
			m.json["authorization_response_iss_parameter_supported"] != true || m.json["issuer"] != s.URL || m.json["revocation_endpoint"] == nil ||
			!has(m, "token_endpoint_auth_methods_supported", "none") || !has(m, "grant_types_supported", "refresh_token") ||
			fmt.Sprint(m.json["code_challenge_methods_supported"]) != "[S256]" {
			s.Error(m)
		}
	}},
	{"where clients of older revisions look, there is no page of the site", func(s *site) {
		got := s.send(http.MethodGet, s.URL+"/.well-known/oauth-authorization-server/other", "", "MCP-Protocol-Version", "2025-03-26")
		if got.status != 404 || got.json == nil {
			s.Error(got)
		}
	}},
	{"a script of another origin may ask for all of it", func(s *site) {
		for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/oauth-protected-resource/mcp", "/oauth/register", "/oauth/token", "/mcp"} {
			got := s.send(http.MethodOptions, s.URL+path, "", "Origin", "https://client.example", "Access-Control-Request-Method", "POST",
				"Access-Control-Request-Headers", "authorization,content-type,mcp-protocol-version")
			allowed := got.header.Get("Access-Control-Allow-Headers")
			if got.status != 204 || got.header.Get("Access-Control-Allow-Origin") != "*" || allowed != "*" && !strings.Contains(strings.ToLower(allowed), "mcp-protocol-version") {
				s.Error(path, got)
			}
		}
	}},
	{"a code with S256", func(s *site) {
		got := s.tokens()
		if got.text("scope") != "orders:read" || got.text("refresh_token") == "" || got.header.Get("Cache-Control") != "no-store" {
			s.Error(got)
		}
		s.expect(s.call(got.text("access_token"), readOrder), 200, "")
	}},
	{"plain is refused", func(s *site) {
		if got := s.refused(s.asks("code_challenge", verifier, "code_challenge_method", "plain")); got.Get("error") != "invalid_request" {
			s.Error(got)
		}
	}},
	{"no method, which means plain, is refused", func(s *site) {
		if got := s.refused(s.asks("code_challenge", verifier, "code_challenge_method", "")); got.Get("error") != "invalid_request" {
			s.Error(got)
		}
	}},
	{"an unknown method is refused", func(s *site) {
		if got := s.refused(s.asks("code_challenge_method", "S512")); got.Get("error") != "invalid_request" {
			s.Error(got)
		}
	}},
	{"a wrong verifier is refused", func(s *site) {
		s.expect(s.token(redeems(s.code(s.asks()), "code_verifier", strings.Repeat("w", 50))), 400, "invalid_grant")
	}},
	{"no PKCE is refused", func(s *site) {
		if got := s.refused(s.asks("code_challenge", "", "code_challenge_method", "")); got.Get("error") != "invalid_request" {
			s.Error(got)
		}
	}},
	{"a redirect URI that is not registered gets no redirect", func(s *site) {
		for _, uri := range []string{"http://127.0.0.1/other", "https://127.0.0.1/callback", "http://127.0.0.1.evil.example/callback", webCallback} {
			if got := s.refused(s.asks("redirect_uri", uri)); got != nil {
				s.Error(uri, got)
			}
		}
	}},
	{"an unknown client gets no redirect", func(s *site) {
		if got := s.refused(s.asks("client_id", "nobody")); got != nil {
			s.Error(got)
		}
	}},
	{"another redirect URI does not burn the code", func(s *site) {
		code := s.code(s.asks())
		s.expect(s.token(redeems(code, "redirect_uri", "http://127.0.0.1/other")), 400, "invalid_grant")
		s.expect(s.token(redeems(code)), 200, "")
	}},
	{"a wrong secret does not burn the code", func(s *site) {
		code := s.code(s.asks("client_id", "web", "redirect_uri", webCallback))
		params := redeems(code, "client_id", "", "redirect_uri", webCallback)
		s.expect(s.token(params, basic("web", "Zz0-a-wrong-secret")...), 401, "invalid_client")
		s.expect(s.token(params, basic("web", webSecret)...), 200, "")
	}},
	{"a client that registers client_secret_post sends its secret in the body", func(s *site) {
		client := s.register(`{"redirect_uris":["https://post.example/cb"],"token_endpoint_auth_method":"client_secret_post"}`)
		s.expect(client, 201, "")
		if client.text("token_endpoint_auth_method") != "client_secret_post" {
			s.Error(client)
		}
		id, uri := client.text("client_id"), "https://post.example/cb"
		params := redeems(s.code(s.asks("client_id", id, "redirect_uri", uri)), "client_id", id, "redirect_uri", uri)
		s.expect(s.token(params), 401, "invalid_client")
		s.expect(s.token(with(params, "client_secret", client.text("client_secret"))), 200, "")
	}},
	{"without a resource, as in 2025-03-26, a token is for the default audience", func(s *site) {
		token := s.tokens("resource", "").text("access_token")
		if got := s.audience(token); got != s.URL {
			s.Error(got)
		}
		s.expect(s.call(token, readOrder), 200, "")
	}},
	{"other spellings of a resource are for the same audience", func(s *site) {
		for _, spelling := range []string{s.URL + "/mcp", s.URL + "/mcp/", strings.Replace(s.URL, "localhost", "LOCALHOST", 1) + "/mcp", strings.ToUpper(s.URL[:4]) + s.URL[4:] + "/mcp"} {
			token := s.tokens("resource", spelling).text("access_token")
			if got := s.audience(token); got != s.URL+"/mcp" {
				s.Error(spelling, got)
			}
			s.expect(s.call(token, readOrder), 200, "")
		}
	}},
	{"a resource with a fragment is refused", func(s *site) {
		if got := s.refused(s.asks("resource", s.URL+"/mcp#x")); got.Get("error") != "invalid_target" {
			s.Error(got)
		}
	}},
	{"a foreign resource is refused", func(s *site) {
		for _, resource := range []string{"https://other.example/mcp", s.URL + ".evil.example/mcp", s.URL + "/other"} {
			if got := s.refused(s.asks("resource", resource)); got.Get("error") != "invalid_target" {
				s.Error(resource, got)
			}
		}
	}},
	{"the resource of the authorization request is kept", func(s *site) {
		first := s.token(redeems(s.code(s.asks()))) // which has no resource
		second := s.token(refreshes(first.text("refresh_token")))
		for _, got := range []*response{first, second} {
			if aud := s.audience(got.text("access_token")); aud != s.URL+"/mcp" {
				s.Error(aud)
			}
		}
	}},
	{"iss is once in a response", func(s *site) {
		if got := s.alice.Allow(s.T, s.authorizeURL(s.asks())); !slices.Equal(got["iss"], []string{s.URL}) || got.Get("state") != "a-state" {
			s.Error(got)
		}
	}},
	{"iss is in errors", func(s *site) {
		for _, got := range []url.Values{s.refused(s.asks("response_type", "token")), s.alice.Deny(s.T, s.authorizeURL(s.asks()))} {
			if got.Get("error") == "" || !slices.Equal(got["iss"], []string{s.URL}) || got.Get("state") != "a-state" {
				s.Error(got)
			}
		}
	}},
	{"offline_access is no scope of the resource, and is left out of a request", func(s *site) {
		for _, path := range []string{"/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"} {
			if got := s.send(http.MethodGet, s.URL+path, ""); strings.Contains(got.body, "offline_access") {
				s.Error(got)
			}
		}
		client := s.register(`{"redirect_uris":["` + callback + `"],"token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"]}`)
		id := client.text("client_id")
		got := s.token(redeems(s.code(s.asks("client_id", id, "scope", "orders:read offline_access unknown", "prompt", "consent")), "client_id", id))
		if got.text("scope") != "orders:read" || got.text("refresh_token") == "" {
			s.Error(got)
		}
	}},
	{"a public client registers and connects", func(s *site) {
		client := s.register(`{"client_name":"Public","redirect_uris":["http://localhost:9/cb"],"token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"]}`)
		s.expect(client, 201, "")
		id, uri := client.text("client_id"), "http://localhost:9/cb"
		if client.json["client_secret"] != nil || client.json["client_id_issued_at"] == nil {
			s.Error(client)
		}
		got := s.token(redeems(s.code(s.asks("client_id", id, "redirect_uri", uri)), "client_id", id, "redirect_uri", uri))
		s.expect(s.call(got.text("access_token"), readOrder), 200, "")
	}},
	{"a client with a secret registers and connects", func(s *site) {
		client := s.register(`{"client_name":"Confidential","redirect_uris":["https://basic.example/cb"],"grant_types":["authorization_code","refresh_token"]}`)
		s.expect(client, 201, "")
		if client.json["client_secret_expires_at"] == nil || client.text("token_endpoint_auth_method") != "client_secret_basic" {
			s.Error(client)
		}
		id, uri, secret := client.text("client_id"), "https://basic.example/cb", basic(client.text("client_id"), client.text("client_secret"))
		got := s.token(redeems(s.code(s.asks("client_id", id, "redirect_uri", uri)), "client_id", "", "redirect_uri", uri), secret...)
		s.expect(s.call(got.text("access_token"), readOrder), 200, "")
		s.expect(s.token(refreshes(got.text("refresh_token"), "client_id", ""), secret...), 200, "")
	}},
	{"what is not supported cannot be registered", func(s *site) {
		for metadata, code := range map[string]string{
			`{"redirect_uris":["https://a.example/cb"],"grant_types":["implicit"]}`:                       "invalid_client_metadata",
			`{"redirect_uris":["https://a.example/cb"],"grant_types":["client_credentials"]}`:             "invalid_client_metadata",
			`{"redirect_uris":["https://a.example/cb"],"response_types":["token"]}`:                       "invalid_client_metadata",
			`{"redirect_uris":["https://a.example/cb"],"token_endpoint_auth_method":"client_secret_jwt"}`: "invalid_client_metadata",
			`{"redirect_uris":["https://a.example/cb#x"],"token_endpoint_auth_method":"none"}`:            "invalid_redirect_uri",
			`{"redirect_uris":["javascript:alert(1)","https://a.example/cb"]}`:                            "invalid_redirect_uri",
			`{"redirect_uris":["http://a.example/cb"]}`:                                                   "invalid_redirect_uri",
			`{"redirect_uris":["https://*.example/cb"]}`:                                                  "invalid_redirect_uri",
			`{"token_endpoint_auth_method":"none"}`:                                                       "invalid_redirect_uri",
			`{"redirect_uris":"https://a.example/cb"}`:                                                    "invalid_client_metadata",
			`["redirect_uris"]`: "invalid_client_metadata",
		} {
			if got := s.register(metadata); !got.is(400, code) {
				s.Errorf("%s: %v", metadata, got)
			}
		}
	}},
	{"a document as ChatGPT's leads to a public client", func(s *site) {
		id := strings.Replace(s.cimd, "/client.json", "/chatgpt.json", 1)
		got := s.token(redeems(s.code(s.asks("client_id", id)), "client_id", id))
		s.expect(s.call(got.text("access_token"), readOrder), 200, "")
	}},
	{"a document of another client is refused", func(s *site) {
		if got := s.refused(s.asks("client_id", strings.Replace(s.cimd, "/client.json", "/other.json", 1))); got != nil {
			s.Error(got)
		}
	}},
	{"a request without a token gets a challenge without an error", func(s *site) {
		got := s.call("", readOrder)
		if challenge := got.header.Get("WWW-Authenticate"); got.status != 401 || !strings.HasPrefix(challenge, "Bearer ") || strings.Contains(challenge, "error") {
			s.Error(got)
		}
	}},
	{"a bad token gets invalid_token", func(s *site) {
		token := s.tokens().text("access_token")
		for _, bad := range []string{"no-token-of-this-server", token[:len(token)-4] + "AAAA", token + "x"} {
			got := s.call(bad, readOrder)
			if challenge := got.header.Get("WWW-Authenticate"); got.status != 401 || !strings.Contains(challenge, `error="invalid_token"`) {
				s.Error(got)
			}
		}
	}},
	{"the challenge leads to the metadata of the resource, which is where its path says", func(s *site) {
		want := s.URL + "/.well-known/oauth-protected-resource/mcp"
		if got := s.call("", readOrder); !strings.Contains(got.header.Get("WWW-Authenticate"), `resource_metadata="`+want+`"`) {
			s.Error(got)
		}
		got := s.send(http.MethodGet, want, "")
		if got.json["resource"] != s.URL+"/mcp" || fmt.Sprint(got.json["authorization_servers"]) != "["+s.URL+"]" {
			s.Error(got)
		}
	}},
	{"a token for another audience is refused", func(s *site) {
		got := s.call(s.tokens("resource", s.URL+"/elsewhere").text("access_token"), readOrder)
		if got.status != 401 || !strings.Contains(got.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
			s.Error(got)
		}
	}},
	{"another resource at the token endpoint is refused, and does not burn the code", func(s *site) {
		code := s.code(s.asks())
		s.expect(s.token(redeems(code, "resource", s.URL+"/elsewhere")), 400, "invalid_target")
		s.expect(s.token(redeems(code, "resource", s.URL+"/mcp")), 200, "")
	}},
	{"the challenge has the scopes that every call needs", func(s *site) {
		if got := s.call("", readOrder); !strings.Contains(got.header.Get("WWW-Authenticate"), `scope="orders:read"`) {
			s.Error(got)
		}
	}},
	{"a call without its scope gets 403 with the scopes that it needs", func(s *site) {
		got := s.call(s.tokens().text("access_token"), deleteOrder)
		challenge := got.header.Get("WWW-Authenticate")
		_, list, _ := strings.Cut(challenge, `scope="`)
		list, _, _ = strings.Cut(list, `"`)
		scopes := strings.Fields(list)
		if got.status != 403 || !strings.Contains(challenge, `error="insufficient_scope"`) || !slices.Contains(scopes, "orders:read") || !slices.Contains(scopes, "orders:write") {
			s.Error(got)
		}
		s.expect(s.call(s.tokens("scope", list).text("access_token"), deleteOrder), 200, "")
	}},
	{"a refresh rotates, and can be repeated until the next token is used", func(s *site) {
		first := s.tokens().text("refresh_token")
		second := s.token(refreshes(first)).text("refresh_token")
		if again := s.token(refreshes(first)).text("refresh_token"); second == "" || second == first || again != second {
			s.Error("the answer to the same request is another")
		}
		s.expect(s.token(refreshes(second)), 200, "")
		s.expect(s.token(refreshes(first)), 400, "invalid_grant")
	}},
	{"a refresh for fewer scopes", func(s *site) {
		got := s.token(refreshes(s.tokens("scope", "orders:read orders:write").text("refresh_token"), "scope", "orders:read"))
		if got.text("scope") != "orders:read" {
			s.Error(got)
		}
		s.expect(s.call(got.text("access_token"), readOrder), 200, "")
		if refused := s.call(got.text("access_token"), deleteOrder); refused.status != 403 {
			s.Error(refused)
		}
	}},
	{"a refresh for more scopes is refused", func(s *site) {
		token := s.tokens().text("refresh_token")
		s.expect(s.token(refreshes(token, "scope", "orders:read orders:write")), 400, "invalid_scope")
		s.expect(s.token(refreshes(token)), 200, "")
	}},
	{"a client with a secret cannot revoke without it", func(s *site) {
		got := s.token(redeems(s.code(s.asks("client_id", "web", "redirect_uri", webCallback)), "client_id", "", "redirect_uri", webCallback), basic("web", webSecret)...)
		token := got.text("refresh_token")
		s.expect(s.form("/oauth/revoke", url.Values{"client_id": {"web"}, "token": {token}}), 401, "invalid_client")
		s.expect(s.token(refreshes(token, "client_id", ""), basic("web", webSecret)...), 200, "")
	}},
	{"the revocation of an access token leaves the refresh token", func(s *site) {
		got := s.tokens()
		s.expect(s.form("/oauth/revoke", url.Values{"client_id": {"inspector"}, "token": {got.text("access_token")}}), 200, "")
		s.expect(s.token(refreshes(got.text("refresh_token"))), 200, "")
	}},
	{"the revocation of a refresh token ends all", func(s *site) {
		got := s.tokens()
		s.expect(s.form("/oauth/revoke", url.Values{"client_id": {"inspector"}, "token": {got.text("refresh_token")}}), 200, "")
		s.expect(s.token(refreshes(got.text("refresh_token"))), 400, "invalid_grant")
		if refused := s.call(got.text("access_token"), readOrder); refused.status != 401 {
			s.Error(refused)
		}
	}},
	{"another client cannot revoke", func(s *site) {
		got := s.tokens()
		if answer := s.form("/oauth/revoke", url.Values{"token": {got.text("refresh_token")}}, basic("web", webSecret)...); answer.status >= 500 {
			s.Error(answer)
		}
		s.expect(s.call(got.text("access_token"), readOrder), 200, "")
		s.expect(s.token(refreshes(got.text("refresh_token"))), 200, "")
	}},
	{"the replay of a code ends what came of it", func(s *site) {
		code := s.code(s.asks())
		got := s.token(redeems(code))
		s.expect(s.token(refreshes(got.text("refresh_token"))), 200, "") // from now on, a repeat is no mistake
		s.expect(s.token(redeems(code)), 400, "invalid_grant")
		s.expect(s.token(refreshes(got.text("refresh_token"))), 400, "invalid_grant")
		if refused := s.call(got.text("access_token"), readOrder); refused.status != 401 {
			s.Error(refused)
		}
	}},
}

// TestBehaviours has a row for each thing that a client of the protocol relies on.
func TestBehaviours(t *testing.T) { //nolint:tparallel // its subtests share a server
	t.Parallel()
	cimd, certificate := documents(t, map[string]func(metadata map[string]any){
		"/chatgpt.json": func(metadata map[string]any) {
			metadata["token_endpoint_auth_method"], metadata["token_endpoint_auth_signing_alg"] = "private_key_jwt", "RS256"
			metadata["token_endpoint_auth_methods_supported"] = []string{"none", "private_key_jwt"}
			metadata["jwks_uri"] = "https://chatgpt.example/oauth/jwks.json"
		},
		"/other.json": func(metadata map[string]any) { metadata["client_id"] = "https://localhost/client.json" },
	})
	const elsewhere = "oauth_guard /elsewhere {\n\t\tscopes orders:read\n\t\tmcp\n\t}\n\t"
	s := &site{Server: startWith(t, clients+moreClients, elsewhere, "WEB_SECRET="+webSecret, "SSL_CERT_FILE="+certificate), cimd: cimd}
	s.Secrets.Add(webSecret)
	s.client = s.Client(t)
	s.alice = &integration.Person{Name: "alice", Password: "wonderland", Browser: s.client}
	for _, b := range behaviours {
		t.Run(b.name, func(t *testing.T) { b.assert(s.on(t)) })
	}
}

// TestClosedIssuer has no metadata of what is off. Clients that the owner has added connect.
func TestClosedIssuer(t *testing.T) {
	t.Parallel()
	s := &site{T: t, Server: start(t, "\n\t\tcimd off\n\t\tdynamic off\n"+clients)}
	s.client = s.Client(t)
	s.alice = &integration.Person{Name: "alice", Password: "wonderland", Browser: s.client}
	m := s.metadata()
	if m.json["registration_endpoint"] != nil || m.json["client_id_metadata_document_supported"] == true {
		t.Error(m)
	}
	if got := s.register(`{"redirect_uris":["https://a.example/cb"]}`); got.status == 201 {
		t.Error(got)
	}
	s.expect(s.call(s.tokens().text("access_token"), readOrder), 200, "")
}
