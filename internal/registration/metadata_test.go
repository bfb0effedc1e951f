package registration

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestParse(t *testing.T) {
	m, err := Parse([]byte(`{"redirect_uris":["https://a.example/cb"],"client_name":"An App","grant_types":["authorization_code"],
		"client_uri":null,"unknown":{"a":[1]},"jwks":{"keys":[]},"REDIRECT_URIS":["https://b.example/cb"],"client_name#de":"Ein Ding"}`))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(m.RedirectURIs, []string{"https://a.example/cb"}) || m.ClientName != "An App" || string(m.JWKS) != `{"keys":[]}` || m.HasSecret {
		t.Errorf("got %+v", m)
	}
	if m, err := Parse([]byte(`{"client_secret_expires_at":0}`)); err != nil || !m.HasSecret {
		t.Errorf("got %+v, %v", m, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, member := range map[string]string{
		"":                                       "",
		"null":                                   "",
		"[]":                                     "",
		`"x"`:                                    "",
		"{":                                      "",
		"{}{}":                                   "",
		`{"client_name":"a"`:                     "",
		`{"client_name":"a","client_name":"b"}`:  "",
		`{"client_name":null,"client_name":"b"}`: "",
		`{"unknown":1,"unknown":2}`:              "",
		`{"redirect_uris":"https://a.example"}`:  "redirect_uris",
		`{"redirect_uris":[1]}`:                  "redirect_uris",
		`{"redirect_uris":{}}`:                   "redirect_uris",
		`{"client_name":5}`:                      "client_name",
		`{"scope":["a"]}`:                        "scope",
		`{"grant_types":"authorization_code"}`:   "grant_types",
		`{"jwks":"x"}`:                           "jwks",
		`{"jwks":[]}`:                            "jwks",
		strings.Repeat(`{"a":`, 5000):            "",
	} {
		_, err := Parse([]byte(text))
		problem, ok := errors.AsType[*Error](err)
		if !ok || problem.Code != InvalidClientMetadata || problem.Member != member {
			t.Errorf("%.60s: got %v", text, err)
		}
	}
}

func TestCheckRedirect(t *testing.T) {
	for uri, want := range map[string]bool{
		// What real clients register.
		"https://claude.ai/api/mcp/auth_callback": true, "http://localhost/callback": true, "http://127.0.0.1/callback": true,
		"http://[::1]:8080/cb": true, "http://localhost:3118/callback": true, "https://chatgpt.com/connector/oauth/abc": true,
		"http://127.0.0.1:33418/": true, "https://vscode.dev/redirect": true, "cursor://anysphere.cursor-mcp/oauth/callback": true,
		"https://www.cursor.com/agents/mcp/oauth/callback": true, "com.example.app:/cb": true, "vscode://x.y/z?a=b": true,

		"https://a.example/cb#x": false, "https://a.example/cb#": false, "https://u@a.example/": false, "https://u:p@a.example/": false,
		"https://*.a.example/": false, "https://a.example/*": false, "javascript:alert(1)": false, "JAVASCRIPT:alert(1)": false,
		"data:text/html,x": false, "file:///etc/passwd": false, "vbscript:x": false, "blob:https://a.example/1": false, "about:blank": false,
		"http://a.example/cb": false, "http://192.168.1.2/cb": false, "http://0.0.0.0/": false, "http://localhost.evil.example/": false,
		"http://127.0.0.1@evil.example/": false, "urn:ietf:wg:oauth:2.0:oob": false, "urn:ietf:wg:oauth:2.0:oob:auto": false,
		"/cb": false, "": false, "//a.example/cb": false, "a.example/cb": false, "https:///cb": false, `https://a.example\@b.example/`: false,
		"https://a.example/\u202ecb": false, "https://bücher.example/cb": false, "https://a.example/\r\nX: y": false,
		"ms-msdt:/id": false, "search-ms:query": false, "intent://x#Intent;end": false, "intent://x": false, "smb://a.example/x": false,
		"https://a.example/" + strings.Repeat("x", 494): true, "https://a.example/" + strings.Repeat("x", 495): false,
	} {
		if err := checkRedirect(uri); (err == nil) != want {
			t.Errorf("%q: %v", uri, err)
		}
	}
}

func TestCheck(t *testing.T) {
	uri := "https://a.example/cb"
	keys := json.RawMessage(`{"keys":[]}`)
	for _, c := range []struct {
		name string
		m    Metadata
		want string // the member and the beginning of the code
	}{
		{"one", Metadata{RedirectURIs: []string{uri}}, ""},
		{"ten", Metadata{RedirectURIs: slices.Repeat([]string{uri}, 10)}, ""},
		{"none", Metadata{}, "redirect_uris invalid_redirect_uri"},
		{"eleven", Metadata{RedirectURIs: slices.Repeat([]string{uri}, 11)}, "redirect_uris invalid_redirect_uri"},
		{"one is bad", Metadata{RedirectURIs: []string{uri, "http://b.example"}}, "redirect_uris invalid_redirect_uri"},
		{"keys", Metadata{RedirectURIs: []string{uri}, JWKSURI: "https://a.example/jwks"}, ""},
		{"keys by http", Metadata{RedirectURIs: []string{uri}, JWKSURI: "http://a.example/jwks"}, "jwks_uri invalid_client_metadata"},
		{"keys twice", Metadata{RedirectURIs: []string{uri}, JWKSURI: "https://a.example/jwks", JWKS: keys}, "jwks_uri invalid_client_metadata"},
	} {
		got := ""
		if err, ok := errors.AsType[*Error](c.m.Check()); ok {
			got = err.Member + " " + err.Code
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	err := (&Metadata{RedirectURIs: []string{uri, "http://b.example/cb"}}).Check()
	if !strings.Contains(err.Error(), "http://b.example/cb") {
		t.Errorf("%v does not name the URI", err)
	}
}

func TestNegotiate(t *testing.T) {
	all := Supported{
		AuthMethods: []string{authNone, authSecretBasic, authSecretPost, authPrivateKeyJWT}, DefaultAuthMethod: authSecretBasic,
		SigningAlgs: []string{"ES256", "RS256"},
	}
	document := all
	document.AuthMethods, document.DefaultAuthMethod = []string{authNone, authPrivateKeyJWT}, authNone
	for _, c := range []struct {
		name      string
		supported Supported
		metadata  string
		methods   string // or the member that is wrong
		grants    string
	}{
		{"RFC 7591 §2 defaults", all, `{}`, "client_secret_basic", "authorization_code"},
		{
			"none", all, `{"token_endpoint_auth_method":"none","grant_types":["refresh_token","authorization_code"]}`,
			"none", "authorization_code refresh_token",
		},
		{"post", all, `{"token_endpoint_auth_method":"client_secret_post"}`, "client_secret_post", "authorization_code"},
		{
			"grants of others are dropped", all, `{"grant_types":["authorization_code","client_credentials","urn:ietf:params:oauth:grant-type:device_code"]}`,
			"client_secret_basic", "authorization_code",
		},
		{"nothing that we have", all, `{"grant_types":["client_credentials"]}`, "!grant_types", ""},
		{"refresh alone", all, `{"grant_types":["refresh_token"]}`, "!grant_types", ""},
		{"token", all, `{"response_types":["token"]}`, "!response_types", ""},
		{"code among others", all, `{"response_types":["token","code"]}`, "client_secret_basic", "authorization_code"},
		{"unknown method", all, `{"token_endpoint_auth_method":"tls_client_auth"}`, "!token_endpoint_auth_method", ""},
		{
			"unknown method, known in the list", all,
			`{"token_endpoint_auth_method":"tls_client_auth","token_endpoint_auth_methods_supported":["tls_client_auth","none"]}`,
			"none", "authorization_code",
		},
		{
			"ChatGPT", document, `{"token_endpoint_auth_method":"private_key_jwt","token_endpoint_auth_methods_supported":["none","private_key_jwt"],
			"token_endpoint_auth_signing_alg":"RS256","jwks_uri":"https://chatgpt.com/oauth/jwks.json"}`,
			"private_key_jwt none", "authorization_code",
		},
		{
			"ChatGPT without keys", document, `{"token_endpoint_auth_method":"private_key_jwt","token_endpoint_auth_methods_supported":["none","private_key_jwt"]}`,
			"none", "authorization_code",
		},
		{"ChatGPT with another algorithm", document, `{"token_endpoint_auth_method":"private_key_jwt","token_endpoint_auth_methods_supported":["none","private_key_jwt"],
			"token_endpoint_auth_signing_alg":"HS256","jwks_uri":"https://chatgpt.com/oauth/jwks.json"}`, "none", "authorization_code"},
		{"key only", document, `{"token_endpoint_auth_method":"private_key_jwt","jwks_uri":"https://a.example/jwks"}`, "private_key_jwt", "authorization_code"},
		{"key only, no keys", document, `{"token_endpoint_auth_method":"private_key_jwt"}`, "!jwks_uri", ""},
		{
			"key only, another algorithm", document, `{"token_endpoint_auth_method":"private_key_jwt","jwks":{},"token_endpoint_auth_signing_alg":"none"}`,
			"!token_endpoint_auth_signing_alg", "",
		},
		{"document without a method", document, `{}`, "none", "authorization_code"},
		{"document with a secret", document, `{"token_endpoint_auth_method":"client_secret_basic"}`, "!token_endpoint_auth_method", ""},
		{"list without a method", document, `{"token_endpoint_auth_methods_supported":["client_secret_post","none","none"]}`, "none", "authorization_code"},
	} {
		m, err := Parse([]byte(c.metadata))
		if err != nil {
			t.Fatal(c.name, err)
		}
		n, err := m.Negotiate(c.supported)
		if problem, ok := errors.AsType[*Error](err); ok {
			if got := "!" + problem.Member; got != c.methods {
				t.Errorf("%s: got %v, want %s", c.name, err, c.methods)
			}
			continue
		}
		if got := strings.Join(n.AuthMethods, " "); got != c.methods || n.AuthMethod != n.AuthMethods[0] {
			t.Errorf("%s: got the methods %q, want %q", c.name, got, c.methods)
		}
		if got := strings.Join(n.GrantTypes, " "); got != c.grants {
			t.Errorf("%s: got the grants %q, want %q", c.name, got, c.grants)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"redirect_uris":["cursor://x","http://localhost:1/"],"client_name":"\u202eevil","jwks":{"keys":[]}}`, `{"a":1,"a":2}`,
		`{"token_endpoint_auth_method":null}`, `{"contacts":["x"],"scope":"a b"}`, `{"jwks":null}`, `[{}]`, "{\"client_name\":\"\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Parse(text)
		if (m == nil) == (err == nil) {
			t.Fatalf("got %v and %v", m, err)
		}
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Errorf("got %T", err)
			}
			return
		}
		if n := utf8.RuneCountInString(m.ClientName); n > maxName || strings.ContainsFunc(m.ClientName, func(r rune) bool { return !unicode.IsGraphic(r) }) {
			t.Errorf("name %q", m.ClientName)
		}
		// What is kept reads the same again.
		again, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		second, err := Parse(again)
		if err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		if text, _ := json.Marshal(second); string(text) != string(again) {
			t.Errorf("%s became %s", again, text)
		}
	})
}
