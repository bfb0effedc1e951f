package caddyoauth_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

const mistakeMessage = "the configuration loads, but this is probably a mistake"

// warned is a warning about a probable mistake.
type warned struct {
	Level, Logger, Seen, Instead, Setting string
	File                                  string
	Line                                  int
}

// adapt adapts a Caddyfile in this process, and returns the warnings and Caddy's JSON.
func adapt(t *testing.T, name string) (warnings []warned, config []byte) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("ENDED_VARIABLE", "do-not-tell-anybody\n")
	t.Setenv("EMPTY_VARIABLE", "")
	_, before, buffer := caddy.BufferedLog()
	config, _, err = caddyconfig.GetAdapter("caddyfile").Adapt(text, map[string]any{"filename": name})
	core, logged := observer.New(zap.WarnLevel)
	buffer.FlushTo(zap.New(core))
	caddy.UnbufferDefaultLogger(before)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range logged.All() {
		fields := entry.ContextMap()
		seen, ok := fields["seen"].(string)
		if !ok {
			continue
		}
		w := warned{Seen: seen}
		w.Instead, _ = fields["instead"].(string)
		w.File, _ = fields["file"].(string)
		if line, ok := fields["line"].(int64); ok {
			w.Line = int(line)
		}
		warnings = append(warnings, w)
	}
	return warnings, config
}

// warningsIn returns the warnings in the output of Caddy.
func warningsIn(output string) (warnings []warned) {
	for line := range strings.Lines(output) {
		var w warned
		if json.Unmarshal([]byte(line), &w) == nil && w.Level == "warn" && w.Seen != "" {
			warnings = append(warnings, w)
		}
	}
	return warnings
}

// What loads and cannot work is a warning that names the line, what is there, and what to write.
func TestMistakes(t *testing.T) {
	const (
		app   = "client app {\nredirect_uris https://app.example/cb\nscopes orders\n}\n"
		job   = "client job {\nsecret {env.ENDED_VARIABLE}\nscopes orders\n}\n"
		wiki  = "client wiki {\nredirect_uris https://wiki.example/cb\nscopes openid email\n}\n"
		scope = "scope orders \"your orders\"\n"
		login = "login {\nforward_auth app:8080 {\nuri /whoami\n}\n}\nuser {rp.header.Remote-User}\n"
	)
	site := func(settings, rest string) string {
		return "example.com {\noauth https://example.com {\n" + settings + "}\n" + rest + "\nreverse_proxy app:8080\n}\n"
	}
	global := func(settings, rest string) string {
		return "{\noauth {\nissuer https://example.com {\n" + settings + "}\n}\n}\nexample.com {\n" + rest + "\nreverse_proxy app:8080\n}\n"
	}
	missing := filepath.Join(t.TempDir(), "none")
	for _, tt := range []struct{ name, caddyfile, at, seen, instead string }{
		{"subject in the order of openssl", site(scope+"client app {\ntls_client_auth subject_dn \"C = DE, O = Example, CN = app\"\nscopes orders\n}\n", ""), "tls_client_auth", "the subject of the client app begins with the country", "-nameopt RFC2253"},
		{"guard with a scope of no client", site(scope+"scope stock \"the stock\"\n"+job, "oauth_guard /api/* {\nscopes stock\n}"), "scopes stock", "no client of the configuration may have the scope stock", "scopes stock in a client"},
		{"host", strings.Replace(site(scope+job, ""), "example.com {", "shop.example {", 1), "oauth https", "the host of the issuer https://example.com is not that of the site shop.example", "one URL for both"},
		{"www", strings.Replace(site(scope+job, ""), "example.com {", "www.example.com {", 1), "oauth https", "the host of the issuer", "one URL for both"},
		{"port", strings.Replace(site(scope+job, ""), "example.com {", "example.com:8443 {", 1), "oauth https", "the port of the issuer https://example.com is not that of the site example.com:8443", "one URL for both"},
		{"scheme", "localhost {\noauth http://localhost {\n" + scope + job + "}\n}\n", "oauth http", "the scheme of the issuer http://localhost is not that of the site localhost", "one URL for both"},
		{"host of an issuer of the global option", strings.Replace(global(scope+job, "oauth"), "\nexample.com {", "\nshop.example {", 1), "oauth#2", "the host of the issuer", "one URL for both"},
		{"no login", site(scope+app, ""), "oauth https", "nobody can sign in: oauth has no login", "login { forward_auth ... }"},
		{"no login for devices", site(scope+"client cli {\ngrant_types device_code\nscopes orders\n}\n", ""), "oauth https", "nobody can sign in: oauth has no login, and clients have device_code", "login { forward_auth ... }"},
		{"no login for an issuer of the global option", global(scope+app, "oauth"), "oauth#2", "nobody can sign in: oauth has no login", "login { forward_auth ... }"},
		{"login beside oauth", site(scope+app, "forward_auth app:8080 {\nuri /whoami\n}"), "oauth https", "forward_auth stands beside oauth, so the whole site needs the login", "login { forward_auth ... } in oauth"},
		{"user", site(strings.Replace(login, "{rp.header.Remote-User}", "{user}", 1)+scope+app, ""), "user {", "nothing sets {user}", "{http.auth.user.id}"},
		{"user of http.auth.user", site(strings.Replace(login, "{rp.header.Remote-User}", "{http.auth.user}", 1)+scope+app, ""), "user {", "nothing sets {http.auth.user}", "{http.auth.user.id}"},
		{"user of a header that the browser sends", site(strings.Replace(login, "{rp.", "{", 1)+scope+app, ""), "user {", "the header Remote-User comes from the request", "{rp.header.Remote-User}"},
		{"a time of a login that the browser sends", site(login+"session {\nauth_time {header.Remote-Auth-Time}\n}\n"+scope+app, ""), "auth_time", "the header Remote-Auth-Time comes from the request", "{rp.header.Remote-Auth-Time}"},
		{"user of another login", site(strings.Replace(login, "{rp.header.Remote-User}", "{http.auth.user.id}", 1)+scope+app, ""), "user {", "the directives of login do not set {http.auth.user.id}", "{rp.header.Remote-User}"},
		{"no user after forward_auth", site(strings.Replace(login, "user {rp.header.Remote-User}\n", "", 1)+scope+app, ""), "oauth https", "the directives of login do not set {http.auth.user.id}", "user {rp.header.Remote-User}"},
		{"user of a header that the login does not copy", site(strings.Replace(login, "uri /whoami\n", "uri /whoami\ncopy_headers Remote-Name Remote-User>X-User\n", 1)+"claim mail {rp.header.Remote-Mail}\n"+scope+app, ""), "claim mail", "the login copies Remote-Name, Remote-User, and not the header Remote-Mail", "{rp.header.Remote-Name}, or Remote-Mail in copy_headers too"},
		{"user of a query", site(strings.Replace(login, "{rp.header.Remote-User}", "{query.user}", 1)+scope+app, ""), "user {", "{http.request.uri.query.user} comes from the request", "a placeholder that Caddy sets after a login"},
		{"claim", site(login+"claim email {email}\n"+scope+app, ""), "claim email", "nothing sets {email}", "{rp.header"},
		{"matcher", global(scope+job, "oauth /oauth/*"), "oauth /oauth/*", "oauth has the matcher /oauth/*", "oauth, which passes on"},
		{"named matcher", strings.Replace(site(scope+job, "@api path /api/*"), "oauth https", "oauth @api https", 1), "oauth @api", "oauth has the matcher @api", "oauth https://example.com, which passes on"},
		{"oauth in handle", global(scope+job, "handle {\noauth\n}"), "oauth#2", "oauth stands in handle", "oauth outside of handle"},
		{"respond before it", global(scope+job, "route {\nrespond \"hello\"\noauth\n}"), "oauth#2", "respond stands before oauth", "oauth first"},
		{"oauth twice", global(scope+job, "oauth\noauth"), "oauth#3", "the site has this oauth directive twice", "one oauth directive for each issuer"},
		{"guard without a matcher", site(strings.Replace(login, "login {", "login /login {", 1)+scope+app, "oauth_guard"), "oauth_guard", "oauth_guard has no matcher, and refuses the login page /login too", "oauth_guard /api/*"},
		{"guard in handle", site(scope+job, "handle /api/* {\noauth_guard\n}"), "oauth_guard", "oauth_guard stands in handle", "oauth_guard with its own matcher"},
		{"guard of one path", site(scope+job, "oauth_guard /api"), "oauth_guard /api", "oauth_guard is for /api only", "oauth_guard /api/*"},
		{"guard of tools without a server", site(scope+job, "@delete header Mcp-Name delete_*\noauth_guard @delete"), "oauth_guard @delete", "the matcher looks at messages of MCP, and the guard has no mcp setting", "mcp and the path"},
		{"guard of a header that nobody checks", site(scope+job, "@delete header Mcp-Param-Id 1\noauth_guard @delete {\nmcp /mcp\n}"), "oauth_guard @delete", "guards do not check that headers Mcp-Param-... say what the message says", "Mcp-Method and Mcp-Name alone"},
		{"header of the guard", site(scope+job, "oauth_guard /api/* {\nheader X-User {user}\n}"), "header X-User", "nothing sets {user}, and the header is empty", "{http.auth.user.id}"},
		{"header of the guard from half a placeholder", site(scope+job, "oauth_guard /api/* {\nheader X-User {http.auth.user}\n}"), "header X-User", "nothing sets {http.auth.user}", "{http.auth.user.id}"},
		{"a token that has ended", site(login+scope+job+"dynamic token {\ntoken {env.ENDED_VARIABLE} {\nuntil 2020-01-01\n}\n}\n", ""), "dynamic", "an initial access token has ended, at 2020-01-01T00:00:00Z", "a later date"},
		{"exchange of tokens that nobody gets", site(scope+strings.Replace(job, "scopes orders\n", "scopes orders\ngrant_types token_exchange\nexchange from https://a.example to https://b.example\n", 1), ""), "exchange from", "no client of the configuration gets tokens for https://a.example, which the client job could exchange", "exchange from one of: https://example.com, https://b.example"},
		{"an issuer for whoever brings its assertions", site(scope+strings.Replace(job, "scopes orders\n", "scopes orders\ngrant_types jwt_bearer\n", 1)+
			strings.Replace(strings.Replace(job, "client job", "client other", 1), "scopes orders\n", "scopes orders\ngrant_types jwt_bearer\n", 1)+
			"grant jwt_bearer {\nissuer https://a.example {\njwks_uri https://a.example/keys\nsubjects *@a.example\n}\n}\n", ""), "grant jwt_bearer", "several clients may bring assertions of https://a.example", "clients <id...>"},
		{"short secret", site(scope+strings.Replace(job, "{env.ENDED_VARIABLE}", "hunter2", 1), ""), "secret", "the secret of the client job is so short that it can be guessed", "32 random characters"},
		{"short secret in the global option", global(scope+strings.Replace(job, "{env.ENDED_VARIABLE}", "hunter2", 1), "oauth"), "secret", "the secret of the client job is so short that it can be guessed", "32 random characters"},
		{"secret in the Caddyfile", site(scope+strings.Replace(job, "{env.ENDED_VARIABLE}", "8jXq2vLw7Rz4Tn1KcYp5", 1), ""), "secret", "a secret stands in the Caddyfile", "{env.NAME}"},
		{"secret in the global option", global(scope+strings.Replace(job, "{env.ENDED_VARIABLE}", "8jXq2vLw7Rz4Tn1KcYp5", 1), "oauth"), "secret", "a secret stands in the Caddyfile", "{env.NAME}"},
		{"no site for an issuer", global(scope+job, ""), "issuer https", "no site serves the issuer default", "oauth default in the site of https://example.com"},
		{"no site for one of two issuers", "{\noauth {\nissuer one https://one.example\nissuer two https://two.example\n}\n}\nhttps://one.example {\noauth one\n}", "issuer two", "no site serves the issuer two", "oauth two in the site of https://two.example"},
		{"colon in a client ID", site(scope+strings.Replace(job, "client job", "client a:b", 1), ""), "client a:b", "the client ID a:b has a colon", "a client ID without a colon"},
		{"openid", site(scope+"scope openid \"your name\"\n"+job, ""), "scope openid", "the scope openid is that of OpenID Connect", "openid, and no scope of that name"},
		{"no scope openid", site(login+"openid\nclient wiki {\nredirect_uris https://wiki.example/cb\nscopes profile\n}\n", ""), "scopes profile", "the client wiki gets no ID tokens", "scopes openid profile"},
		{"no redirect URI", site(login+"openid\nclient wiki {\nsecret {env.ENDED_VARIABLE}\nscopes openid\n}\n", ""), "scopes openid", "nobody can sign in to the client wiki", "redirect_uris"},
		{"default_max_age without a time", site(login+"openid\nclient app {\nredirect_uris https://app.example/cb\nscopes openid\ndefault_max_age 1h\n}\n", ""), "default_max_age", "nobody can sign in to the client app with default_max_age", "session { auth_time {rp.header.…} } in oauth"},
		{"require_auth_time without a time", site(login+"session {\nacr {rp.header.Remote-Acr}\n}\nopenid\nclient app {\nredirect_uris https://app.example/cb\nscopes openid\ndefault_max_age 0\nrequire_auth_time\n}\n", ""), "require_auth_time", "nobody can sign in to the client app with require_auth_time", "session { auth_time {rp.header.…} } in oauth"},
		{"require_auth_time in the global option", global("openid\nclient app {\nredirect_uris https://app.example/cb\nscopes openid\nrequire_auth_time\n}\n", "oauth {\n"+login+"}"), "oauth#2", "nobody can sign in to the client app with require_auth_time", "session { auth_time {rp.header.…} } in oauth"},
		{"scope without a claim", site(login+"openid\n"+wiki, ""), "scopes openid email", "the scope email tells applications nothing, as there is no claim email", "claim email {rp.header.…}"},
		{"scope without a claim of the owner's", site(login+"claim email {rp.header.Remote-Email}\nopenid\nscope email \"your address\" {\nclaims mail\n}\n"+wiki, ""), "scopes openid email", "the scope email tells applications nothing, as there is no claim mail", "claim mail {rp.header.…}"},
		{"claim of another type", site(login+"claim email_verified {rp.header.Remote-Verified}\n"+scope+app, ""), "claim email_verified", "the claim email_verified is text, and applications expect boolean", "claim email_verified {http.reverse_proxy.header.Remote-Verified} boolean"},
		{"claim with a type", site(login+"claim groups {groups} list ,\n"+scope+app, ""), "claim groups", "nothing sets {groups}", "{rp.header"},
		{"scope without words", site(login+"scope orders\n"+app, ""), "scope orders", "the consent page shows the scope orders, which has no words", `scope orders "what it lets an app do"`},
		{"variable", site(scope+strings.Replace(job, "{env.ENDED_VARIABLE}", "{env.NO_SUCH_VARIABLE}", 1), ""), "secret", "the environment variable NO_SUCH_VARIABLE is not set here", "a variable that Caddy has"},
		{"variable in the global option", global(scope+strings.Replace(job, "{env.ENDED_VARIABLE}", "{env.EMPTY_VARIABLE}", 1), "oauth"), "secret", "the environment variable EMPTY_VARIABLE is not set here", "a variable that Caddy has"},
		{"unknown placeholder", site(scope+strings.Replace(job, "{env.ENDED_VARIABLE}", "{vault.app}", 1), ""), "secret", "{vault.app} has no value when Caddy loads the configuration", "{env.NAME}"},
		{"unknown placeholder in the URI of keys", site(scope+strings.Replace(job, "secret {env.ENDED_VARIABLE}", "jwks_uri https://{vault.host}/jwks", 1), ""), "jwks_uri", "{vault.host} has no value when Caddy loads the configuration", "{env.NAME}"},
		{"unknown placeholder in the sector", site(login+"openid {\npairwise_salt {env.ENDED_VARIABLE}\n}\nclient wiki {\nredirect_uris https://wiki.example/cb\nscopes openid\nsector_identifier_uri https://{vault.host}\n}\n", ""), "sector_identifier_uri", "{vault.host} has no value when Caddy loads the configuration", "{env.NAME}"},
		{"unknown placeholder in a page", site("page {\nsupport https://{vault.host}/help\n}\n"+scope+job, ""), "support", "{vault.host} has no value when Caddy loads the configuration", "{env.NAME}"},
		{"file of a secret", site(scope+strings.Replace(job, "{env.ENDED_VARIABLE}", "{file."+missing+"}", 1), ""), "secret", "the file cannot be read", "a file that Caddy can read"},
		{"JWKS file", site("signing {\njwks_file "+missing+"\n}\n"+scope+job, ""), "jwks_file", "the file cannot be read", "a file that Caddy can read"},
		{"template", site("page {\ntemplate consent "+missing+"\n}\n"+scope+job, ""), "template", "the file cannot be read", "a file that Caddy can read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := write(t, t.TempDir(), "Caddyfile", tt.caddyfile)
			warnings, _ := adapt(t, name)
			line := lineOf(tt.caddyfile, tt.at)
			if !slices.ContainsFunc(warnings, func(w warned) bool {
				return w.Line == line && w.File == name && strings.HasPrefix(w.Seen, tt.seen) && strings.Contains(w.Instead, tt.instead)
			}) {
				t.Errorf("expected %s: %s, at line %d, got %+v", tt.seen, tt.instead, line, warnings)
			}
			if len(warnings) != 1 {
				t.Errorf("expected one warning, got %+v", warnings)
			}
		})
	}
}

// Thousands of clients with the same mistake do not fill the log, neither with lines nor, when the configuration is loaded, without.
func TestMistakesOfManyClients(t *testing.T) {
	var text strings.Builder
	text.WriteString("example.com {\noauth https://example.com {\nscope orders\n")
	for n := range 3000 {
		fmt.Fprintf(&text, "client c%d {\nsecret short\nscopes orders\n}\n", n)
	}
	text.WriteString("}\n}\n")
	dir := t.TempDir()
	name := write(t, dir, "Caddyfile", text.String())
	warnings, _ := adapt(t, name)
	if n := len(warnings); n != 101 || warnings[0].Line != 5 || warnings[100].Seen != "2900 more mistakes, which are not listed" {
		t.Errorf("%d warnings, the last is %+v", n, warnings[len(warnings)-1])
	}
	output, ok := caddyCommand(t, dir, "validate", "--adapter", "caddyfile", "--config", name)
	if again := warningsIn(output); !ok || len(again) != 101 {
		t.Errorf("validate: %d warnings", len(again))
	}
}

// The commands adapt and validate print a warning once, by the logger of Caddy's own directives.
func TestMistakesArePrinted(t *testing.T) {
	text := "example.com {\noauth https://example.com {\nscope openid \"your name\"\n}\noauth_guard /api\n}\n"
	dir := t.TempDir()
	name := write(t, dir, "Caddyfile", text)
	for _, command := range []string{"adapt", "validate"} {
		output, ok := caddyCommand(t, dir, command, "--adapter", "caddyfile", "--config", name)
		warnings := warningsIn(output)
		if !ok || len(warnings) != 2 {
			t.Errorf("%s: expected two warnings, got %s", command, output)
			continue
		}
		for i, begin := range []string{"scope openid", "oauth_guard"} {
			if w := warnings[i]; w.Logger != "config.adapter.caddyfile" || w.File != name || w.Line != lineOf(text, begin) {
				t.Errorf("%s: got %+v", command, w)
			}
		}
	}
}

// Configurations in JSON get the warnings about settings, without lines.
func TestMistakesInJSON(t *testing.T) {
	config := `{"apps": {
		"oauth": {"issuers": {"default": {"url": "https://example.com", "scopes": [{"name": "stock"}, {"name": "openid"}], "clients": {"a:b": {"secrets": ["{env.ENDED_VARIABLE}"]}}}}},
		"http": {"servers": {"x": {"listen": [":443"], "routes": [{"handle": [
			{"handler": "oauth", "user": "{user}", "claims": {"name": "{http.auth.user}"}},
			{"handler": "oauth_guard", "issuer": "default", "scopes": ["stock"], "acr": ["mfa"], "max_age": 60000000000, "headers": {"X-User": "{user}"}}
		]}]}}}
	}}`
	dir := t.TempDir()
	output, ok := caddyCommand(t, dir, "validate", "--config", write(t, dir, "caddy.json", config)) // with the variables that it needs
	if !ok {
		t.Fatal(output)
	}
	for _, seen := range []string{
		`"seen":"the client ID a:b has a colon`, `"seen":"the scope openid is that of OpenID Connect`, `"seen":"no client of the configuration may have the scope stock"`,
		`"seen":"nothing sets {user}","instead":"{http.auth.user.id}, or {rp.header.Remote-User} after forward_auth","setting":"user"`, `"seen":"nothing sets {http.auth.user}","instead":"{http.auth.user.id}, or {rp.header.Remote-User} after forward_auth","setting":"claim name"`,
		`"seen":"no site of the issuer tells when people sign in, so that no token passes"`, `"seen":"no site of the issuer tells how people sign in, so that no token passes"`,
		`"seen":"nothing sets {user}, and the header is empty","instead":"{http.auth.user.id}, or {http.auth.user.<claim>}","setting":"oauth_guard: header X-User"`,
	} {
		if strings.Count(output, seen) != 1 {
			t.Errorf("expected %s once, got %s", seen, output)
		}
	}
}

// lineOf returns the number of the first line that begins with a text, or with "#2" after it, of the second.
func lineOf(text, begin string) int {
	begin, number, _ := strings.Cut(begin, "#")
	left := 1
	switch number {
	case "2":
		left = 2
	case "3":
		left = 3
	}
	for n, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, begin) {
			if left--; left == 0 {
				return n + 1
			}
		}
	}
	return -1
}

var caddyfileBlocks = regexp.MustCompile("(?ms)^```caddyfile\n(.*?)^```")

// Nothing that an owner can mean gets a warning: the examples, the Caddyfiles of the documents, and some more.
func TestNoMistakes(t *testing.T) {
	texts := map[string]string{
		"TLS ends before Caddy":                           "http://example.com {\noauth https://example.com {\n}\n}",
		"a user of a header that forward_auth has copied": "example.com {\noauth https://example.com {\nlogin {\nforward_auth app:8080 {\nuri /\ncopy_headers {\nRemote-User>X-User\n}\n}\n}\nuser {header.X-User}\n}\n}",
		"an issuer below":                                 "zero.example {\noauth shop\noauth_guard /api/* https://two.example {\naudience https://two.example\n}\n}\ntwo.example, zero.example:444 {\noauth shop https://two.example {\n}\n}",
		"every host":                                      ":8080 {\noauth https://example.com {\n}\n}",
		"one of two hosts":                                "www.example.com, example.com {\noauth https://example.com {\n}\n}",
		"a placeholder of map":                            "example.com {\nmap {host} {tenant} {\ndefault shop\n}\noauth https://example.com {\n}\noauth_guard /api/* {\nheader X-Tenant {tenant}\n}\n}",
		"a user of a client certificate":                  "example.com {\noauth https://example.com {\nuser {http.request.tls.client.subject}\nscope orders \"your orders\"\nclient app {\nredirect_uris https://a.example/\nscopes orders\n}\n}\n}",
		"a login before it in a route":                    "{\noauth {\nissuer https://example.com {\nclient app {\nredirect_uris https://a.example/\n}\n}\n}\n}\nexample.com {\nroute {\nbasic_auth {\nbob $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG\n}\noauth\n}\n}",
		"a login of the pages beside it":                  "{\noauth {\nissuer https://example.com {\nclient app {\nredirect_uris https://a.example/\n}\n}\n}\n}\nexample.com {\n@people path /oauth/authorize /oauth/apps\nbasic_auth @people {\nbob $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG\n}\noauth\n}",
		"guards of an MCP server":                         "example.com {\noauth https://example.com {\n}\n@delete header Mcp-Name delete_*\noauth_guard /mcp {\nmcp\n}\noauth_guard @delete {\nmcp /mcp\n}\n}",
		"a guard of the whole API":                        "api.example.com {\noauth_guard https://example.com {\naudience https://api.example.com\n}\nreverse_proxy app:8080\n}",
		"a scope without words for scripts":               "example.com {\noauth https://example.com {\nscope orders\nclient job {\nsecret {env.ENDED_VARIABLE}\nscopes orders\n}\n}\n}",
	}
	documents := []string{"README.md"}
	more, err := filepath.Glob("docs/*.md")
	deeper, err2 := filepath.Glob("docs/*/*.md")
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	for _, name := range slices.Concat(documents, more, deeper) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range caddyfileBlocks.FindAllStringSubmatch(string(text), -1) {
			first, _, _ := strings.Cut(block[1], "\n")
			texts[name+": "+first+" "+string(rune('0'+len(texts)))] = block[1]
		}
	}
	for _, name := range examples(t) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(text)
	}
	variables := regexp.MustCompile(`\{env\.([A-Z_]+)\}`)
	for name, text := range texts {
		if strings.Contains(text, "store redis") {
			continue // this program has no Redis store
		}
		t.Run(name, func(t *testing.T) {
			for _, m := range variables.FindAllStringSubmatch(text, -1) {
				t.Setenv(m[1], "8jXq2vLw7Rz4Tn1KcYp5")
			}
			dir := t.TempDir()
			for _, file := range []string{"logo.svg", "shop-app.png", "billing.pub.pem"} {
				write(t, dir, file, "")
			}
			if warnings, _ := adapt(t, write(t, dir, "Caddyfile", strings.ReplaceAll(text, "/etc/caddy/", dir+"/"))); len(warnings) > 0 {
				t.Errorf("%+v\n%s", warnings, text)
			}
		})
	}
}
