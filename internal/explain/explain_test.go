package explain

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/trail"
)

func TestEachSituationIsFound(t *testing.T) {
	found := make(map[string]bool)
	for _, tt := range []struct {
		name    string
		failure trail.Failure
		why, do string // parts of the text
	}{
		{
			"may not revoke",
			trail.Failure{Endpoint: "revoke_user", Client: "app", Code: "unauthorized_client", Status: 403, Setting: "client app: revokes_users"},
			"and may not", "add to its block: revokes_users",
		},
		{
			"revokes the tokens of nobody",
			trail.Failure{
				Endpoint: "revoke_user", Client: "idp", Code: "invalid_request", Status: 404, Sent: "iss https://idp.example/", Expected: "https://idp.example",
				Setting: "client idp: revokes_users",
			},
			"it came with iss https://idp.example/", "letter by letter",
		},
		{
			"wrong redirect URI",
			trail.Failure{
				Endpoint: "authorize", Client: "app", Code: "invalid_request", Description: "redirect_uri is not one that is registered for this app",
				Sent: "https://app.example/cb/", Expected: "https://app.example/cb", Setting: "client app: redirect_uris",
			},
			"letter by letter", "redirect_uris https://app.example/cb/",
		},
		{
			"redirect URI missing",
			trail.Failure{Code: "invalid_request", Description: "redirect_uri is missing", Expected: "a b", Setting: "client app: redirect_uris"},
			"did not say where", "a b",
		},
		{
			"expired code",
			trail.Failure{Code: "invalid_grant", GrantType: "authorization_code", Description: "authorization code is invalid, expired or was used before", Cause: "expired"},
			"has expired", "code { lifetime 5m }",
		},
		{
			"code of nobody knows what",
			trail.Failure{Code: "invalid_grant", GrantType: "authorization_code", Description: "authorization code is invalid, expired or was used before", Cause: "never issued here"},
			"for a short time", "another client or to another issuer",
		},
		{
			"code of another client",
			trail.Failure{
				Code: "invalid_grant", Description: "authorization code is invalid, expired or was used before", Cause: "issued to another client",
				Sent: "client a", Expected: "client b",
			},
			"client a came, and it belongs to client b", "one client ID",
		},
		{
			"code twice",
			trail.Failure{Code: "invalid_grant", Description: "authorization code was used a moment ago, and the tokens of that exchange are good"},
			"the first exchange worked", "exchange the code once",
		},
		{
			"reuse",
			trail.Failure{Code: "invalid_grant", Message: "reuse detected: family revoked", Description: "authorization code is invalid"},
			"a second time", "rotate never",
		},
		{
			"refresh token",
			trail.Failure{Code: "invalid_grant", Description: "refresh token is invalid, expired or was revoked"},
			"nobody used it", "refresh_token { idle",
		},
		{
			"wrong secret",
			trail.Failure{
				Client: "billing", Code: "invalid_client", Status: 401, Sent: "client_secret_post: a wrong secret", Expected: "the secret of the client",
				Setting: "client billing: secret, secret_hash",
			},
			"the secret is not", "caddy oauth clients secret billing",
		},
		{
			"secret with a line break",
			trail.Failure{Code: "invalid_client", Sent: "client_secret_post: a wrong secret, with a space or a line break around it", Setting: "client billing: secret, secret_hash"},
			"line break", "echo -n",
		},
		{
			"no secret",
			trail.Failure{Client: "billing", Code: "invalid_client", Sent: "no secret", Setting: "client billing: secret"},
			"came without one", "-u billing:<secret>",
		},
		{
			"secret of a public client",
			trail.Failure{Code: "invalid_client", Sent: "client_secret_post: a secret", Expected: "no secret, as the client is public", Setting: "client app: secret"},
			"is public", "add secret",
		},
		{
			"client assertion",
			trail.Failure{
				Client: "billing", Code: "invalid_client", Cause: "the client_assertion was refused", Sent: "exp 2026-03-01T00:00:00Z",
				Expected: "an exp after now",
			},
			"exp 2026-03-01T00:00:00Z", "clocks",
		},
		{
			"request object",
			trail.Failure{
				Client: "app", Code: "invalid_request_object", Sent: "a request object with exp 2026-03-01T00:00:00Z", Expected: "an exp after now",
			},
			"exp 2026-03-01T00:00:00Z", "NTP",
		},
		{
			"unsigned request",
			trail.Failure{Client: "app", Code: "invalid_request", Description: "the request must be signed", Setting: "require_signed_request_object"},
			"not signed", "request objects",
		},
		{
			"profile",
			trail.Failure{
				Client: "app", Code: "invalid_request", Description: "the request must be pushed", Sent: "the parameters themselves",
				Expected: "client_id and a request_uri", Setting: "client app: profile",
			},
			"the parameters themselves", "pushed requests",
		},
		{
			"no client assertion",
			trail.Failure{
				Client: "billing", Code: "invalid_client", Sent: "client_secret_post: a secret",
				Expected: "a client_assertion, which the client signs with its key", Setting: "client billing: jwks, jwks_uri",
			},
			"has keys", "private_key_jwt",
		},
		{
			"swapped",
			trail.Failure{Code: "invalid_client", Sent: "client_secret_basic: a client ID in the place of the secret", Setting: "client billing"},
			"changed places", "Exchange the two",
		},
		{"bearer", trail.Failure{Code: "invalid_client", Sent: "Authorization: Bearer"}, "adds its token", "Basic"},
		{
			"unknown client",
			trail.Failure{Code: "invalid_client", Sent: "nobody", Expected: "the ID of a client", Setting: "client"},
			"No client has the ID nobody", "client nobody {",
		},
		{
			"disabled client",
			trail.Failure{Client: "stock", Sent: "stock", Expected: "a client that is not disabled", Setting: "client"},
			"added at run time", "clients enable stock",
		},
		{
			"blocked client",
			trail.Failure{Code: "invalid_client", Sent: "https://app.example/client.json", Expected: "a client that is not blocked", Setting: "client"},
			"you have blocked it", "clients unblock https://app.example/client.json",
		},
		{
			"registered client that is gone",
			trail.Failure{Code: "invalid_client", Sent: "d.abc", Expected: "a client that has registered here, and", Setting: "client"},
			"it was forgotten", "add it again",
		},
		{
			"document that is gone",
			trail.Failure{
				Code: "invalid_client", Sent: "https://app.example/client.json", Setting: "client",
				Expected: "a client that somebody has signed in to, whose document could be fetched",
			},
			"does not have the document", "connect to this site again",
		},
		{
			"document that cannot be read",
			trail.Failure{
				Code: "invalid_client", Description: "the description of the app at its client ID could not be read", Sent: "https://app.example/client.json",
				Expected: "status 200, not 404", Setting: "cimd", Cause: "status 404",
			},
			"status 200, not 404", "curl -i https://app.example/client.json",
		},
		{
			"document of a denied host",
			trail.Failure{Code: "invalid_client", Sent: "https://app.example/client.json", Expected: "one of the allowed hosts", Setting: "cimd"},
			"one of the allowed hosts", "allow and deny in cimd",
		},
		{
			"no registration token",
			trail.Failure{Endpoint: "register", Code: "invalid_token", Status: 401, Setting: "dynamic: token"},
			"needs a token", "dynamic token",
		},
		{
			"redirect URI of a registration",
			trail.Failure{
				Endpoint: "register", Code: "invalid_redirect_uri", Sent: "http://a.example", Expected: "https", Setting: "dynamic: redirects",
			},
			"http://a.example", "redirects known",
		},
		{
			"too many registrations",
			trail.Failure{Endpoint: "register", Status: 429, Code: "temporarily_unavailable", Expected: "1000", Setting: "dynamic: max"},
			"1000", "dynamic { max",
		},
		{
			"unknown scope",
			trail.Failure{Code: "invalid_scope", Sent: "invoices", Expected: "orders profile", Setting: "client app: scopes"},
			"asked for the scope invoices", `scope invoices "`,
		},
		{
			"scope that was taken away",
			trail.Failure{Code: "invalid_scope", Sent: "orders, as approved", Expected: "profile", Setting: "client app: scopes"},
			"may not have any more", "scopes in the client block",
		},
		{"resource", trail.Failure{Code: "invalid_target", Sent: "https://a.example", Setting: "client app: audience"}, "https://a.example", "audience"},
		{"grant type", trail.Failure{Code: "unauthorized_client", Sent: "password", Setting: "client app: grant_types"}, "grant_type", "grant_types in its"},
		{"verifier", trail.Failure{Code: "invalid_grant", Description: "code_verifier does not match the code_challenge"}, "PKCE failed", "sessionStorage"},
		{"challenge", trail.Failure{Code: "invalid_request", Description: "code_challenge is missing"}, "must use PKCE", "S256"},
		{"redirect URI of a code", trail.Failure{Code: "invalid_grant", Description: "redirect_uri is not the one", Setting: "redirect_uri_rules"}, "another redirect_uri", "letter by letter"},
		{"password", trail.Failure{Code: "invalid_grant", Description: "user name or password is wrong"}, "wrong", "sign in at the site"},
		{"nobody signed in", trail.Failure{Code: "login_required", Status: 401}, "Nobody was signed in", "basic_auth or forward_auth"},
		{"prompt=none", trail.Failure{Code: "login_required", Sent: "prompt=none"}, "no fault", "cookie"},
		{"account", trail.Failure{Code: "access_denied", Status: 403, Cause: "the user ID is also the ID of a client"}, "also the ID of a client", "another ID"},
		{"method", trail.Failure{Code: "invalid_request", Status: 405, Sent: "GET", Expected: "POST"}, "method GET", "POST"},
		{"media type", trail.Failure{Code: "invalid_request", Sent: "text/plain", Setting: "request_body"}, "text/plain", "form"},
		{"repeated", trail.Failure{Code: "invalid_request", Description: "a parameter is repeated", Sent: "scope"}, "twice: scope", "once"},
		{"two ways", trail.Failure{Code: "invalid_request", Description: "more than one way of client authentication", Sent: "a, b"}, "a, b", "once"},
		{"too many codes", trail.Failure{Status: 429, Setting: "throttle: codes"}, "in a loop", "throttle { codes"},
		{"too many failures", trail.Failure{Status: 429, Code: "temporarily_unavailable"}, "Too many attempts", "trusted_proxies"},
		{"read-only", trail.Failure{Status: 503, Description: "the issuer is read-only at the moment, try again later"}, "read_only", "Finish the move"},
		{"site away", trail.Failure{Status: 503, Endpoint: "token", Setting: "refresh_check", Cause: "status 500"}, "neither yes nor no: status 500", "log of your site"},
		{"account closed", trail.Failure{Code: "invalid_grant", Status: 400, Description: "refresh token is invalid", Setting: "refresh_check", Cause: "status 404"}, "no account any more (refresh_check): status 404", "URL of refresh_check"},
		{"slow hashes", trail.Failure{Status: 429, Endpoint: "token", Setting: "secret_hash"}, "slow on purpose", "hash-secret"},
		{"store away", trail.Failure{Status: 503, Endpoint: "token"}, "store", "store failing"},
		{"guard cannot tell", trail.Failure{Status: 503, Endpoint: "guard"}, "could not find out", "remote"},
		{"guard: no token", trail.Failure{Status: 401, Endpoint: "guard"}, "no access token", "Authorization: Bearer"},
		{"guard: scope", trail.Failure{Status: 403, Endpoint: "guard", Code: "insufficient_scope"}, "every scope", "In its client block: scopes"},
		{"guard: login", trail.Failure{Status: 401, Endpoint: "guard", Code: "insufficient_user_authentication"}, "as recently", "reauthenticate"},
		{"guard: expired", trail.Failure{Endpoint: "guard", Code: "invalid_token", Cause: "expired"}, "has expired", "refresh"},
		{"guard: revoked", trail.Failure{Endpoint: "guard", Code: "invalid_token", Cause: "revoked"}, "was revoked", "audit log"},
		{"guard: audience", trail.Failure{Endpoint: "guard", Code: "invalid_token", Cause: "other audience"}, "another API", "resource="},
		{"guard: other token", trail.Failure{Endpoint: "guard", Code: "invalid_token", Cause: "bad signature"}, "has issued", "token inspect"},
		{"guard: two meanings", trail.Failure{Endpoint: "guard", Code: "invalid_request", Status: 400, Cause: "two programs can read the path differently"}, "read in two ways", "dot segments"},
		{"guard: in the URL", trail.Failure{Endpoint: "guard", Code: "invalid_request", Status: 400}, "in its URL", "Authorization: Bearer"},
		{"exchange: another resource", trail.Failure{Code: "invalid_request", Description: "subject_token is not for this client to exchange", Sent: "a token for a"}, "it came with a token for a", "exchange from"},
		{"exchange: bound", trail.Failure{Code: "invalid_request", Description: "subject_token is bound to a key: send"}, "has sent no proof", "DPoP proof"},
		{"exchange: of a client", trail.Failure{Code: "invalid_request", Description: "subject_token is that of a client, which is no user"}, "not for a person", "client_credentials"},
		{"exchange: removed", trail.Failure{Code: "invalid_request", Description: "the user of subject_token has removed this client"}, "has removed the client", "sign out there and in again"},
		{"exchange: invalid", trail.Failure{Code: "invalid_request", Description: "subject_token is invalid, expired or was revoked"}, "no access token", "token inspect"},
		{"exchange: target", trail.Failure{Code: "invalid_target", Setting: "client api: exchange", Sent: "https://b.example"}, "a token for https://b.example", "to https://b.example"},
		{"certificate: behind a proxy", trail.Failure{Code: "invalid_client", Setting: "client a: tls_client_auth", Sent: "no certificate of the client: the request comes through a proxy of trusted_proxies", Expected: "san_dns a"}, "has ended the connection", "client_cert_header verified"},
		{"certificate: none", trail.Failure{Code: "invalid_client", Setting: "client a: self_signed_tls_client_auth", Sent: "no TLS client certificate"}, "had none", "mtls_endpoint_aliases"},
		{"certificate: not verified", trail.Failure{Code: "invalid_client", Setting: "client a: tls_client_auth", Sent: "a certificate (a)", Expected: "a certificate of a CA: trust_pool"}, "anybody can have made it", "mode verify_if_given"},
		{"certificate: and a secret", trail.Failure{Code: "invalid_client", Setting: "client a: tls_client_auth", Sent: "client_secret_post: a secret", Expected: "client_id in the body and nothing else"}, "came with client_secret_post", "without a secret"},
		{"certificate: another", trail.Failure{Code: "invalid_client", Setting: "client a: tls_client_auth", Sent: "a certificate (b)", Expected: "san_dns a"}, "was a certificate (b), and expected is san_dns a", "RFC2253"},
		{"certificate: needed for tokens", trail.Failure{Code: "invalid_request", Setting: "client a: tls_client_certificate_bound_access_tokens", Sent: "no certificate"}, "for tokens had none", "mode request"},
		{"certificate: of a bound token", trail.Failure{Endpoint: "guard", Code: "invalid_token", Cause: "bound to a key", Sent: "no TLS client certificate", Expected: "the certificate x5t#S256 abc"}, "is worth nothing without", "get a new token"},
		{"assertion: clients", trail.Failure{Code: "invalid_grant", Sent: "an assertion that the client b brings", Expected: "one of the clients a", Setting: "grant jwt_bearer: issuer https://idp.example: clients"}, "may not bring assertions of that issuer", "add its ID to clients"},
		{"assertion: issuer", trail.Failure{Code: "invalid_grant", Sent: "iss https://idp.example", Setting: "grant jwt_bearer: issuer"}, "does not trust: it came with iss https://idp.example", "subjects <its users>"},
		{"assertion: kind", trail.Failure{Code: "invalid_grant", Sent: "typ JWT", Expected: "typ oauth-id-jag+jwt", Setting: "grant jwt_bearer: issuer https://idp.example: id_jag"}, "another kind: it came with typ JWT", "id_jag in its block"},
		{"assertion: user", trail.Failure{Code: "invalid_grant", Sent: "the user bob", Expected: "partner-*", Setting: "grant jwt_bearer: issuer https://idp.example: subjects"}, "may not speak for the user bob", "add the user to subjects"},
		{"assertion: audience", trail.Failure{Code: "invalid_grant", Sent: "aud agent", Setting: "grant jwt_bearer: issuer https://idp.example"}, "for somebody else", "URL of this issuer"},
		{"assertion: twice", trail.Failure{Code: "invalid_grant", Sent: "an assertion that was used before", Setting: "grant jwt_bearer: issuer https://idp.example"}, "twice", "new assertion"},
		{"assertion: key", trail.Failure{Code: "invalid_grant", Sent: "alg ES256, kid 1", Setting: "grant jwt_bearer: issuer https://idp.example: jwks, jwks_uri"}, "no key of the issuer", "with curl"},
		{"assertion: anything else", trail.Failure{Code: "invalid_grant", Sent: "no jti", Expected: "a jti", Setting: "grant jwt_bearer: issuer https://idp.example"}, "no jti; expected was: a jti", "what was expected"},
		{"a code without a situation", trail.Failure{Code: "consent_required"}, "has not approved", "consent never"},
		{"no code at all", trail.Failure{Status: 500}, "no error code", "log"},
	} {
		e := Failure(&tt.failure)
		if found[e.Why] {
			t.Errorf("%s: another situation has the same text: %s", tt.name, e.Why)
		}
		found[e.Why] = true
		if !strings.Contains(strings.ToLower(e.Why), strings.ToLower(tt.why)) || !strings.Contains(strings.Join(e.Do, "\n"), tt.do) {
			t.Errorf("%s: expected %q and %q in\n%s\n%s", tt.name, tt.why, tt.do, e.Why, strings.Join(e.Do, "\n"))
		}
		if text := e.Why + e.Next + strings.Join(e.Do, ""); strings.Contains(text, "{client}") || strings.Contains(text, "{sent}") || strings.Contains(text, "{cause}") {
			t.Errorf("%s: a placeholder is left in %s", tt.name, text)
		}
	}
	if all := len(slices.Concat(situations...)); len(found) != all+2 {
		t.Errorf("%d texts for %d situations, a code, and no code", len(found), all)
	}
}

func TestFromLog(t *testing.T) {
	const log = `2026/11/29 21:40:10.123	INFO	oauth.audit	token refused	{"event": "token_refused", "error_id": "abcd2345", "error": "invalid_client"}
2026/11/29 21:40:10.123	INFO	oauth	request refused	{"endpoint": "token", "client_id": "app", "error_id": "abcd2345", "error": "invalid_client", "status": 401, "sent": "a wrong secret"}
{"level":"info","ts":1764452410.5,"logger":"oauth","msg":"request refused","endpoint":"guard","error_id":"wxyz2345","error":"invalid_token","cause":"expired"}
{"level":"info","ts":1764452411,"logger":"oauth.audit","event":"token_refused","error_id":"wxyz2345"}
not a line with fields: wxyz2345
`
	f, ok, err := FromLog(strings.NewReader(log), "abcd2345")
	if err != nil || !ok || f.Client != "app" || f.Status != 401 || f.Sent != "a wrong secret" {
		t.Errorf("%v %v %+v", ok, err, f)
	}
	f, ok, err = FromLog(strings.NewReader(log), "wxyz2345")
	if err != nil || !ok || f.Cause != "expired" || f.Time.UnixMilli() != 1764452410500 || f.Message != "request refused" {
		t.Errorf("%v %v %+v", ok, err, f)
	}
	if _, ok, err = FromLog(strings.NewReader(log), "aaaa2345"); ok || err != nil {
		t.Errorf("an ID that is not there: %v %v", ok, err)
	}
}

// Every error code in the source of the endpoints and the guards is explained.
func TestEveryCodeIsExplained(t *testing.T) {
	for _, code := range append(slices.Clone(grants.Codes), "invalid_redirect_uri", "invalid_client_metadata") {
		if _, ok := CodeNamed(code); !ok {
			t.Errorf("%s is not explained", code)
		}
	}
	sent := 0
	for _, pattern := range []string{"../authserver/*.go", "../bearer/*.go", "../clients/*.go", "../../grants/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, name := range files {
			if !strings.HasSuffix(name, "_test.go") {
				sent += checkCodes(t, name)
			}
		}
	}
	if sent == 0 {
		t.Error("no code found")
	}
}

// checkCodes reports literal error codes in a file that are not explained, and returns how many are.
func checkCodes(t *testing.T, name string) (sent int) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	check := func(e ast.Expr) {
		literal, ok := e.(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			return
		}
		code, err := strconv.Unquote(literal.Value)
		if err != nil || strings.ContainsAny(code, " :") || code == "" {
			return
		}
		sent++
		if _, ok := CodeNamed(code); !ok {
			t.Errorf("%s: %s is not explained", name, code)
		}
	}
	for node := range ast.Preorder(file) {
		switch n := node.(type) {
		case *ast.CallExpr:
			called := ""
			switch f := n.Fun.(type) {
			case *ast.Ident:
				called = f.Name
			case *ast.SelectorExpr:
				called = f.Sel.Name
			}
			if strings.EqualFold(called, "refuse") && len(n.Args) > 1 {
				check(n.Args[0])
			}
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Code" {
				check(n.Value)
			}
		}
	}
	return sent
}

func TestReadSettings(t *testing.T) {
	source := fstest.MapFS{"a.go": {Data: []byte("package x\n\n" + `
type App struct {
	// The issuers.
	Issuers map[string]*Issuer ` + "`json:\"issuers\"`" + `
	hidden int
}
type Issuer struct {
	// The lifetime of all.
	Lifetime int ` + "`json:\"lifetime,omitempty\"`" + `
	// The secrets.
	Secrets []Secret ` + "`json:\"secrets\"`" + `
	Wire
}
type Secret struct {
	// The lifetime of one.
	Lifetime int ` + "`json:\"lifetime\"`" + `
}
type Wire struct {
	// The errors, as **Danger:** says.
	Errors string ` + "`json:\"errors\"`" + `
}`)}}
	all, err := ReadSettings(source, []Root{{"oauth", "x", "App"}})
	if err != nil {
		t.Fatal(err)
	}
	for words, want := range map[string]string{
		"lifetime":         "The lifetime of all.|The lifetime of one.",
		"secret lifetime":  "The lifetime of one.",
		"issuer lifetime":  "The lifetime of all.|The lifetime of one.",
		"secret":           "The secrets.",
		"errors":           "The errors, as **Danger:** says.",
		"hidden":           "",
		"lifetime issuers": "",
	} {
		var docs []string
		for _, setting := range all.Find(strings.Fields(words)) {
			docs = append(docs, setting.Doc)
		}
		if got := strings.Join(docs, "|"); got != want {
			t.Errorf("%s: %s, want %s", words, got, want)
		}
	}
	if issuers := all.Find([]string{"issuers"}); !slices.Equal(issuers[0].Sub, []string{"lifetime", "secrets", "errors"}) {
		t.Errorf("in issuers: %v", issuers[0].Sub)
	}
	if _, err := ReadSettings(os.DirFS("."), []Root{{"oauth", "x", "App"}}); err == nil {
		t.Error("no error without the struct")
	}
}
